"""Build a release twice, compare the two byte by byte, and try it where nothing of this tree is. ``make dist``.

What it does:

1. clones the last commit into two folders, and builds source archive and wheel in each: under other paths, file modes,
   time zones and hash seeds, with the commit's time as the only one that is known;
2. compares the two; builds the wheel once more, out of the source archive, and compares that;
3. installs the wheel and exactly the locked dependencies in an empty environment;
4. from an empty folder, with an empty home, mirrors a registry on loopback, audits the mirror, begins a log, makes a
   witness's key: with the installed program alone;
5. writes what was built into ``dist/``, with ``SHA256SUMS``.

What is not committed is not in it, and it says so. It signs nothing and uploads nothing (docs/releasing.md).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
ODDITIES = (
    {"TZ": "UTC", "PYTHONHASHSEED": "1", "umask": "022"},
    {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "2", "umask": "077"},
)
"""How the two builds differ, beside their folders."""


class DistError(Exception):
    """The release is not fit to be one."""


def say(text: str) -> None:
    """Print a heading."""
    print(f"\033[1m{text}\033[0m", flush=True)


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None, umask: int = -1) -> str:
    """Run a program to its end; return what it printed.

    Raises:
        DistError: it failed.
    """
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        umask=umask,
        check=False,
    )
    if done.returncode != 0:
        raise DistError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def build(folder: Path, oddity: dict[str, str]) -> Path:
    """Clone the last commit into a folder, build there; return the folder with the two files."""
    umask = int(oddity["umask"], 8)
    run("git", "clone", "--quiet", "--no-local", ROOT, folder, umask=umask)
    seconds = run("git", "log", "-1", "--format=%ct", cwd=folder).strip()
    more = {name: value for name, value in oddity.items() if name != "umask"}
    environment = {**os.environ, **more, "SOURCE_DATE_EPOCH": seconds}
    run(sys.executable, "-m", "hatchling", "build", cwd=folder, environment=environment, umask=umask)
    return folder / "dist"


def read(path: Path) -> dict[str, bytes]:
    """Return the files in an archive, by name; in the case of a difference they say where it is."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as tar:
        files = [(member.name, tar.extractfile(member)) for member in tar]
        return {name: file.read() for name, file in files if file is not None}


def compare(one: Path, two: Path) -> None:
    """Compare two files.

    Raises:
        DistError: they differ; names the members that do.
    """
    if one.read_bytes() == two.read_bytes():
        print(f"{one.name}: the same bytes, sha256 {hashlib.sha256(one.read_bytes()).hexdigest()}", flush=True)
        return
    first, second = read(one), read(two)
    wrong = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
    raise DistError(f"{one.name}: two builds differ in {', '.join(wrong) or 'times, modes or order of its members'}")


def find(folder: Path, pattern: str) -> Path:
    """Return the one file that a pattern names."""
    (found,) = folder.glob(pattern)
    return found


def rebuild_wheel(source: Path, folder: Path, seconds: str) -> Path:
    """Build the wheel out of the source archive, as a distribution would."""
    with tarfile.open(source) as tar:
        tar.extractall(folder, filter="data")
    tree = find(folder, "mirrorwitness-*")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": seconds}
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", cwd=tree, environment=environment)
    return find(tree / "dist", "*.whl")


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel and its locked dependencies in an empty environment; return the folder of its programs."""
    run(sys.executable, "-m", "venv", folder)
    pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "install", "--require-hashes", "-r", ROOT / "requirements" / "run.txt")
    run(*pip, "install", "--no-deps", wheel)
    run(*pip, "check")
    return folder / "bin"


def try_out(programs: Path, folder: Path, version: str) -> None:
    """Use the installed program from an empty folder; the registry that it mirrors is the tests' own, on loopback."""
    folder.mkdir()
    environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}

    def use(*words: str) -> str:
        print(f"$ mirrorwitness {' '.join(words)}", flush=True)
        return run(programs / "mirrorwitness", *words, cwd=folder, environment=environment)

    where = run(programs / "python", "-c", "import mirrorwitness as m; print(m.__file__)", cwd=folder)
    if not Path(where.strip()).is_relative_to(programs.parent):
        raise DistError(f"the installed program is {where.strip()}, expected one below {programs.parent}")
    if version not in (said := use("--version")):
        raise DistError(f"--version says {said.strip()!r}, pyproject.toml {version}")
    command = [sys.executable, "-m", "tests.fakes.feed", "--demo", "3", "--versions", "2"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as upstream:
        try:
            line = upstream.stdout.readline() if upstream.stdout is not None else ""
            registry = line.strip().removeprefix("registry at ")
            names = ("demo-package-00000", "demo-package-00001", "demo-package-00002")
            use("sync", "--once", *names, "--registry", registry, "--storage", "file:mirror")
        finally:
            upstream.kill()
    use("audit", "--storage", "file:mirror")
    use("sumdb", "init", "--storage", "file:sumdb", "--name", "sum.example.org/try", "--out", "sumdb.key")
    use("sumdb", "fsck", "--storage", "file:sumdb")
    use("witness", "keygen", "--name", "witness.example.org/try", "--out", "witness.key")


def check_tag(version: str) -> None:
    """Compare the version with the commit's tag, where it has one.

    Raises:
        DistError: they differ.
    """
    tags = [tag for tag in run("git", "tag", "--points-at", "HEAD").split() if tag.startswith("v")]
    if tags and f"v{version}" not in tags:
        raise DistError(f"the commit is tagged {', '.join(tags)}, pyproject.toml says {version}")


def main() -> None:
    """Do it all; exit with 1 and a sentence where the release is not fit."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    if run("git", "status", "--porcelain").strip():
        print("dist: what is not committed is not in it (git status)", file=sys.stderr, flush=True)
    check_tag(version)
    with tempfile.TemporaryDirectory(prefix="mirrorwitness-dist-") as scratch:
        here = Path(scratch)
        say(f"mirrorwitness {version}: two builds of {run('git', 'rev-parse', '--short', 'HEAD').strip()}")
        one, two = (build(here / name, each) for name, each in zip(("one", "another/two"), ODDITIES, strict=True))
        source, wheel = find(one, "*.tar.gz"), find(one, "*.whl")
        compare(source, find(two, "*.tar.gz"))
        compare(wheel, find(two, "*.whl"))
        say("the wheel again, out of the source archive")
        (here / "three").mkdir()
        seconds = run("git", "log", "-1", "--format=%ct").strip()
        compare(wheel, rebuild_wheel(source, here / "three", seconds))
        say("installed in an empty environment, used from an empty folder")
        try_out(install(wheel, here / "environment"), here / "empty", version)
        shutil.rmtree(DIST, ignore_errors=True)
        DIST.mkdir()
        for path in (source, wheel):
            shutil.copyfile(path, DIST / path.name)
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in (source, wheel)]
        (DIST / "SHA256SUMS").write_text("".join(sorted(sums)), encoding="ascii")
        say("dist/: " + ", ".join(sorted(path.name for path in DIST.iterdir())))


if __name__ == "__main__":
    try:
        main()
    except DistError as error:
        sys.exit(f"dist: {error}")
