"""Run a command in a network namespace that has loopback and nothing else: ``isolated.py COMMAND [ARGUMENT…]``.

Whatever the command starts can reach servers that it starts itself on 127.0.0.1, and nothing outside. Needs Linux, and
either root or unprivileged user namespaces; exits with 125 and says so where the kernel does not allow it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 1
CANNOT_ISOLATE = 125


def enter_empty_network() -> None:
    """Move this process into a network namespace with only loopback, switched on.

    Raises:
        OSError: the kernel refused.
    """
    user, group = os.getuid(), os.getgid()
    libc = ctypes.CDLL(None, use_errno=True)
    flags = CLONE_NEWNET if user == 0 else CLONE_NEWNET | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if user != 0:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", IFF_UP, b""))


def main(command: list[str]) -> int:  # the last line never returns
    """Isolate, then become the command."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        enter_empty_network()
    except OSError as error:
        print(f"isolated.py: this kernel allows no network namespace here: {error.strerror}", file=sys.stderr)
        return CANNOT_ISOLATE
    return os.execvp(command[0], command)  # noqa: S606 - becoming the command is the purpose


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
