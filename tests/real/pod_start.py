"""Become a container's process: ``pod_start.py SPEC.json``, as root. What a container runtime does, and no more.

- A mount namespace of its own; the image's root is mounted there, read-only, and becomes the root.
- Folders of configuration are mounted read-only, volumes so that they can be written, ``/tmp`` and its like as memory
  of a limited size.
- No capability, also none to be had later (the bounding set is empty, ``no_new_privs``); the user and group of the
  manifest; the environment of image and manifest and no other; the image's working directory.

The process keeps its number, so who started it can end it. It is in the network of who started it, and sees its
processes. Exits with 125 and a sentence where the kernel does not allow this.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CANNOT = 125

DEVICES = ("null", "zero", "full", "random", "urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: Path, kind: str, flags: int, options: str = "") -> None:
    words = (source.encode(), str(target).encode(), kind.encode())
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def _bind(source: str, target: Path, *, is_read_only: bool) -> None:
    _mount(source, target, "", MS_BIND | MS_REC)
    if is_read_only:
        _mount("", target, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)


def _make_root(spec: dict[str, Any]) -> None:
    root = Path(spec["root"])
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", Path("/"), "", MS_REC | MS_PRIVATE)
    _bind(str(root), root, is_read_only=True)
    _mount("tmpfs", root / "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=64k,mode=755")
    for name in DEVICES:
        (root / "dev" / name).touch()
        _mount(f"/dev/{name}", root / "dev" / name, "", MS_BIND)
    _mount("proc", root / "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for target, source in spec["folders"].items():
        _bind(source, root / target.lstrip("/"), is_read_only=True)
    for target, source in spec["volumes"].items():
        _bind(source, root / target.lstrip("/"), is_read_only=False)
    for target, size in spec["scratch"].items():
        # As an emptyDir with fsGroup: everybody may write, and what is written belongs to the group.
        options = f"size={size},mode=2777,gid={spec['group']}"
        _mount("tmpfs", root / target.lstrip("/"), "tmpfs", MS_NOSUID | MS_NODEV, options)
    os.chroot(root)
    os.chdir(spec["directory"])


def _give_up_rights(spec: dict[str, Any], last_capability: int) -> None:
    for capability in range(last_capability + 1):
        _check(_libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "drop capabilities")
    os.setgroups([spec["group"]])
    os.setresgid(spec["group"], spec["group"], spec["group"])
    os.setresuid(spec["user"], spec["user"], spec["user"])
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def main() -> int:  # the last line never returns
    """Read what is to be started, and become it."""
    spec = json.loads(Path(sys.argv[1]).read_bytes())
    # Read here: behind the new root this Python finds not even its own modules.
    last_capability = int(Path("/proc/sys/kernel/cap_last_cap").read_bytes())
    try:
        _make_root(spec)
        _give_up_rights(spec, last_capability)
    except OSError as error:
        print(f"pod_start.py: {error}", file=sys.stderr)  # noqa: T201 - the process has no other voice yet
        return CANNOT
    return os.execve(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606 - it becomes the command


if __name__ == "__main__":
    sys.exit(main())
