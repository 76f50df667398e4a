"""The faults that an operator meets, one test each, through the public command: exit code, message, what is left.

After each the fault is taken away, and one more run completes and audits clean: nothing was damaged by it.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trio
from click.testing import CliRunner

from mirrorwitness.cli import main
from tests.fakes.hostile_s3 import Fault as S3Fault
from tests.fakes.hostile_s3 import HostileS3, serve_s3
from tests.fault.invariants import check_invariants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.fakes.hostile_s3 import Answer, Recorded
    from tests.fakes.thread import ThreadedRegistry

pytestmark = [pytest.mark.fault, pytest.mark.slow]

BIG = 1024 * 1024
"""Bytes of the one large file: more than the small disk has."""


@dataclass(slots=True)
class Site:
    """An operator's folder, an upstream with three packages, and a place for the mirror."""

    folder: Path
    registry: ThreadedRegistry
    storage: str

    def run(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run a command and return its exit code and its document."""
        done = CliRunner().invoke(main, (*arguments, "--storage", self.storage, "--json"))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, json.loads(done.stdout)

    def sync(self) -> tuple[int, dict[str, Any]]:
        return self.run("sync", "--once", *self.wishes())

    def wishes(self) -> tuple[str, ...]:
        return ("left", "@scope/right", "big", "--registry", self.registry.url)

    def recover(self) -> None:
        """Without the fault, one run completes what is missing, and every byte is right."""
        code, document = self.sync()
        assert (code, document["problems"]) == (0, [])
        assert document["counts"]["versions"] == 4
        code, document = self.run("audit")
        assert (code, document["findings"]) == (0, [])


@pytest.fixture
def site(tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    sim = registry.sim
    sim.publish("left", "1.0.0", files={"index.js": b"1"})
    sim.publish("left", "2.0.0", files={"index.js": b"2"})
    sim.publish("@scope/right", "1.0.0", files={"index.js": b"r"})
    sim.publish("big", "1.0.0", files={"data.bin": os.urandom(BIG)})
    return Site(tmp_path, registry, f"file:{tmp_path / 'mirror'}")


# ---- lockfiles and selections


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{\n  "lockfileVersion": 3,\n  "packages": {\n    "node_modules/left": {"ver', ("line 4", "half-written")),
        (b"", ("is empty",)),
        (b'{\n  "lockfileVersion": 3,\n  "packages": {"node_modules/l\xff": {}}\n}', ("line 3", "UTF-8")),
        (b'{\n<<<<<<< HEAD\n  "lockfileVersion": 3\n=======\n', ("line 2", "conflict")),
        (
            b'{\n  "lockfileVersion": 3,\n  "packages": {"node_modules/left": {"version": 1}}\n}',
            ('"version" is a number',),
        ),
    ],
)
@pytest.mark.parametrize("command", [("plan",), ("sync", "--once")])
def test_unreadable_lockfile(site: Site, command: tuple[str, ...], body: bytes, said: Sequence[str]) -> None:
    """Exit 2 with path, line and reason; upstream is not asked, nothing is written."""
    (site.folder / "package-lock.json").write_bytes(body)
    code, document = site.run(*command, "--lockfile", "package-lock.json", "--registry", site.registry.url)
    message = document["error"]["message"]
    assert (code, document["error"]["kind"]) == (2, "LockfileError")
    assert [text for text in ("package-lock.json", *said) if text not in message] == []
    assert site.registry.sim.requests == []
    assert not (site.folder / "mirror").exists()


def test_lockfile_that_is_not_there_or_a_directory(site: Site) -> None:
    """Exit 2 with the path and the system's reason."""
    for name, reason in (("absent.json", "No such file"), (".", "Is a directory")):
        code, document = site.run("plan", "--lockfile", name, "--registry", site.registry.url)
        assert code == 2
        assert name in document["error"]["message"]
        assert reason in document["error"]["message"]


@pytest.mark.parametrize("version", ["4", "99", '"three"', "null"])
def test_unknown_lockfile_version(site: Site, version: str) -> None:
    """Exit 2; the message has the version found and those that are known. It is never read as another one."""
    (site.folder / "package-lock.json").write_text(f'{{"lockfileVersion": {version}, "packages": {{}}}}')
    code, document = site.run("sync", "--once", "--lockfile", "package-lock.json", "--registry", site.registry.url)
    assert code == 2
    assert "versions 1, 2 and 3 are known" in document["error"]["message"]
    assert version.strip('"').replace("null", "None") in document["error"]["message"]


@pytest.mark.parametrize(
    "select",
    [
        'name = "left"\nlatest = 1\n[[select]]\nname = "left"\nlatest = 2',
        'name = "left"\nversions = "^1"\ntag = "next"',
        'lockfile = "package-lock.json"\nlatest = 1',
        'name = "left"\nlockfile = "package-lock.json"',
    ],
)
def test_contradictory_selection(site: Site, select: str) -> None:
    """Exit 2 as a `SelectionError` that says where both wishes stand; nothing is guessed."""
    (site.folder / "mirrorwitness.toml").write_text(f'registry = "{site.registry.url}"\n[[select]]\n{select}\n')
    for command in (("plan",), ("sync", "--once")):
        code, document = site.run(*command)
        assert (code, document["error"]["kind"]) == (2, "SelectionError")
        assert "mirrorwitness.toml" in document["error"]["message"]
    assert site.registry.sim.requests == []


def test_contradictory_selection_of_two_lockfiles(site: Site) -> None:
    """Two lockfiles that pin other bytes for one version: both are named."""
    for name, letter in (("a.json", "A"), ("b.json", "B")):
        entry = {"version": "1.0.0", "integrity": f"sha512-{letter * 85}A=="}
        document = {"lockfileVersion": 3, "packages": {"node_modules/left": entry}}
        (site.folder / name).write_text(json.dumps(document))
    code, found = site.run("plan", "--lockfile", "a.json", "--lockfile", "b.json", "--registry", site.registry.url)
    assert (code, found["error"]["kind"]) == (2, "SelectionError")
    assert "a.json" in found["error"]["message"]
    assert "b.json" in found["error"]["message"]


# ---- directories


def command_line(site: Site) -> list[str]:
    words = [sys.executable, "-m", "mirrorwitness", "sync", "--once", *site.wishes()]
    return [*words, "--storage", site.storage, "--json"]


def can_mount() -> bool:
    """Whether this machine lets us have a mount namespace of our own."""
    unshare = shutil.which("unshare")
    script = "mount -t tmpfs none /mnt"
    return unshare is not None and not subprocess.run([unshare, "-rm", "sh", "-c", script], check=False).returncode


def in_namespace(script: str, site: Site) -> subprocess.CompletedProcess[str]:
    """Run a shell script with mounts of its own; ``"$@"`` is the sync."""
    words = ["unshare", "-rm", "sh", "-ec", script, "sh", *command_line(site)]
    return subprocess.run(words, capture_output=True, text=True, check=False, cwd=site.folder, timeout=60)


needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs unshare -rm, to mount a small disk")


@needs_mounts
def test_full_disk(site: Site) -> None:
    """A disk of 512 KiB: exit 3 (what fits is stored), the message says so, and what is there is right."""
    script = (
        'mkdir -p mirror && mount -t tmpfs -o size=512k none mirror && code=0 && ("$@") || code=$?;'
        " mkdir kept && cp -r mirror/. kept/ && exit $code"
    )
    done = in_namespace(script, site)
    document = json.loads(done.stdout)
    assert (done.returncode, document["exit_code"]) == (3, 3), done.stderr
    assert "npm/big/-/big-1.0.0.tgz" in document["stopped_by"]
    assert "the disk is full" in document["stopped_by"]
    assert document["stopped_by"] in done.stderr
    left = read_tree(site.folder / "kept")
    assert not [key for key in left if key.startswith("npm/big/")]
    check_invariants(left)
    shutil.rmtree(site.folder / "mirror")
    (site.folder / "kept").rename(site.folder / "mirror")
    site.recover()


def test_file_size_limit(site: Site) -> None:
    """A limit on the size of files is met like a full disk, also by a process that cannot be told otherwise."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (BIG // 2, BIG // 2))

    done = subprocess.run(command_line(site), capture_output=True, text=True, check=False, preexec_fn=limit, timeout=60)
    document = json.loads(done.stdout)
    assert done.returncode == 3, done.stderr
    assert "npm/big/-/big-1.0.0.tgz" in document["stopped_by"]
    assert "ulimit -f" in document["stopped_by"]
    left = read_tree(site.folder / "mirror")
    assert not [key for key in left if key.startswith("npm/big/")]
    check_invariants(left)
    site.recover()


@needs_mounts
def test_read_only_storage(site: Site) -> None:
    """Exit 2 or 3 with the reason; what was there goes on being served and audits clean."""
    site.recover()
    before = read_tree(site.folder / "mirror")
    site.registry.sim.publish("left", "3.0.0", files={"index.js": b"3"})
    done = in_namespace('mount -o bind mirror mirror && mount -o remount,bind,ro mirror && exec "$@"', site)
    assert done.returncode in {2, 3}, done.stderr
    assert "read-only" in done.stderr
    assert read_tree(site.folder / "mirror") == before
    code, document = site.run("audit")
    assert (code, document["findings"]) == (0, [])
    assert site.sync()[0] == 0


@needs_mounts
def test_read_only_storage_that_is_new(site: Site) -> None:
    """The first run into a read-only directory: nothing was changed, so it is the operator's mistake: exit 2."""
    done = in_namespace('mkdir -p mirror && mount -t tmpfs -o ro none mirror && exec "$@"', site)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in json.loads(done.stdout)["error"]["message"]
    site.recover()


def read_tree(root: Path) -> dict[str, bytes]:
    """Return key → bytes of a mirror in a directory; temporary files do not count."""
    files = (path for path in root.rglob("*") if path.is_file())
    found = {str(path.relative_to(root)): path.read_bytes() for path in files}
    return {key: body for key, body in found.items() if key.startswith(("npm/", "about/", "state/", "evidence/"))}


# ---- buckets


class MoodyS3(HostileS3):
    """A service that can change its mind in mid-run.

    Attributes:
        turn: judges each request; a fault is what it gets instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turn: Callable[[Recorded], S3Fault | None] = lambda _: None

    def answer(self, request: Recorded, body: bytes) -> tuple[Answer | None, int]:
        fault = self.turn(request)
        if fault is not None:
            self.fail(request.method, request.key.replace("[", "[[]"), fault)
        return super().answer(request, body)


@contextmanager
def s3_in_thread(service: HostileS3) -> Iterator[str]:
    """Serve a bucket from another thread, because commands have an event loop of their own."""
    ready = threading.Event()
    found: list[tuple[str, trio.lowlevel.TrioToken, trio.Event]] = []

    async def run() -> None:
        done = trio.Event()
        async with serve_s3(service) as address:
            found.append((address, trio.lowlevel.current_trio_token(), done))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=trio.run, args=(run,), daemon=True)
    thread.start()
    assert ready.wait(timeout=30)
    address, token, done = found[0]
    try:
        yield address
    finally:
        token.run_sync_soon(done.set)
        thread.join(timeout=30)


@pytest.fixture
def service() -> MoodyS3:
    return MoodyS3()


@pytest.fixture
def bucket(site: Site, service: MoodyS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The same site with its mirror in a bucket; pauses are short."""
    monkeypatch.setattr("mirrorwitness.storage.s3_errors._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("mirrorwitness.storage.s3_errors._LONGEST_PAUSE", 0.01)
    for name, value in (
        ("ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("SECRET_ACCESS_KEY", "x"),
        ("EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(f"AWS_{name}", value)
    with s3_in_thread(service) as address:
        site.storage = address
        yield site


def objects(service: HostileS3) -> dict[str, bytes]:
    return {key.removeprefix("p/"): body for key, (body, _) in service.objects.items()}


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "InvalidAccessKeyId", "does not know this access key"),
        (403, "SignatureDoesNotMatch", "the secret key or the region does not fit"),
        (403, "AccessDenied", "allow s3:ListBucket"),
    ],
)
def test_s3_credentials_wrong(bucket: Site, service: MoodyS3, status: int, code: str, advice: str) -> None:
    """Exit 2 at once, with the service's code and what to do; no package is asked for, no secret is shown."""
    service.turn = lambda _: S3Fault(status=status, code=code)
    exit_code, document = bucket.sync()
    message = document["error"]["message"]
    assert (exit_code, document["error"]["kind"]) == (2, "StorageRefusedError")
    assert [text for text in (code, advice, "bucket bkt") if text not in message] == []
    assert [request for request in bucket.registry.sim.requests if "left" in request.target] == []
    assert service.objects == {}
    service.turn = lambda _: None
    bucket.recover()


def test_s3_credentials_missing(bucket: Site, monkeypatch: pytest.MonkeyPatch, service: MoodyS3) -> None:
    """Exit 2 with the names of the variables."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_CONFIG_FILE", "none")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "none")
    code, document = bucket.sync()
    assert code == 2
    assert "AWS_ACCESS_KEY_ID" in document["error"]["message"]


@pytest.mark.parametrize("after", range(12, 40, 4))
def test_s3_credentials_expired_in_mid_run(bucket: Site, service: MoodyS3, after: int) -> None:
    """From some request on everything is refused: never exit 0, the reason is told, nothing visible is wrong."""
    start = len(service.requests)

    def expire(_: Recorded) -> S3Fault | None:
        return S3Fault(status=400, code="ExpiredToken") if len(service.requests) - start >= after else None

    service.turn = expire
    code, document = bucket.sync()
    assert code in {2, 3}
    assert "ExpiredToken" in json.dumps(document)
    service.turn = lambda _: None
    check_invariants(objects(service))
    bucket.recover()


def test_s3_credentials_renewed_in_mid_run(bucket: Site, service: MoodyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """New credentials where the old ones came from: the run goes on and completes."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOLD")
    renewed = threading.Event()

    def expire(request: Recorded) -> S3Fault | None:
        if len(service.requests) == 12:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANEW")
            renewed.set()
        is_old = renewed.is_set() and "AKIAOLD" in request.headers["authorization"]
        return S3Fault(status=400, code="ExpiredToken") if is_old else None

    service.turn = expire
    code, document = bucket.sync()
    assert (code, document["problems"]) == (0, [])
    assert renewed.is_set()
    assert "AKIANEW" in service.requests[-1].headers["authorization"]
    bucket.recover()


@pytest.mark.parametrize("every", [2, 3, 5])
def test_s3_returning_503_now_and_then_is_waited_out(bucket: Site, service: MoodyS3, every: int) -> None:
    """A busy service costs time and nothing else: exit 0."""
    asked: Counter[tuple[str, str]] = Counter()

    def turn(request: Recorded) -> S3Fault | None:
        # Counted for each object: over all tasks together, one of them could meet every 503.
        asked[request.method, request.key] += 1
        is_busy = asked[request.method, request.key] % every == 1
        return S3Fault(status=503, code="SlowDown") if is_busy else None

    service.turn = turn
    code, document = bucket.sync()
    assert (code, document["problems"]) == (0, [])
    service.turn = lambda _: None
    bucket.recover()


def test_s3_returning_503_for_ever(bucket: Site, service: MoodyS3) -> None:
    """Exit 3: the storage may come back; the message names status and code."""
    service.turn = lambda _: S3Fault(status=503, code="SlowDown")
    code, document = bucket.sync()
    assert (code, document["error"]["kind"]) == (3, "StorageUnavailableError")
    assert "503 SlowDown" in document["error"]["message"]
    service.turn = lambda _: None
    bucket.recover()


def test_s3_returning_503_for_one_package(bucket: Site, service: MoodyS3) -> None:
    """Exit 3: that package is named, the others are complete."""
    service.turn = lambda request: S3Fault(status=503) if request.key.startswith("p/npm/left/") else None
    code, document = bucket.sync()
    assert code == 3
    assert [problem["name"] for problem in document["problems"]] == ["left"]
    assert document["counts"]["packages_updated"] == 2
    check_invariants(objects(service))
    service.turn = lambda _: None
    bucket.recover()


def test_s3_accepting_and_then_losing_the_answer(bucket: Site, service: MoodyS3) -> None:
    """Each put's first answer is lost after it took effect: all are found to be ours, exit 0, nothing stored twice."""
    lost: set[str] = set()

    def lose(request: Recorded) -> S3Fault | None:
        if request.method != "PUT" or request.key in lost or "/probe/" in request.key:
            return None
        lost.add(request.key)
        return S3Fault(status=0, after=True)

    service.turn = lose
    code, document = bucket.sync()
    assert (code, document["problems"], document["evidence"]) == (0, [], [])
    assert {key for key in service.objects if key.endswith(".tgz")} <= lost
    service.turn = lambda _: None
    bucket.recover()


def test_s3_refusing_with_a_lost_answer_every_time(bucket: Site, service: MoodyS3) -> None:
    """No answer to any tarball's put, ever: exit 3, no document names them, and the next run adopts what arrived."""
    service.turn = lambda request: (
        S3Fault(status=0, after=True)
        if request.key.endswith(".tgz") and request.method in {"PUT", "HEAD", "GET"}
        else None
    )
    code, _ = bucket.sync()
    assert code == 3
    assert not [key for key in service.objects if key.endswith("packument.json")]
    service.turn = lambda _: None
    before = len(bucket.registry.sim.requests)
    bucket.recover()
    assert not [request for request in bucket.registry.sim.requests[before:] if request.target.endswith(".tgz")]
