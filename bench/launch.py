"""Run one command and write what it used, as JSON, to a file descriptor: a process that is itself small.

    python -I -S bench/launch.py DESCRIPTOR COMMAND...

Linux counts what a process had resident *before* it became another program as that program's peak, so a child of a
large Python process is never seen below its parent's size. This one has 10 MB, which no measured process is below.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(descriptor: int, command: list[str]) -> int:
    """Run it, report, and return its exit status."""
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional only
    begin = time.perf_counter()
    process = os.posix_spawnp(command[0], command, os.environ)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    wall = time.perf_counter() - begin
    queued = read_queued(process)
    _, waited, usage = os.wait4(process, 0)
    status = os.waitstatus_to_exitcode(waited)
    used = {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss * 1024}
    used |= {"queued": queued, "status": status}
    os.write(descriptor, json.dumps(used).encode())
    return status if status >= 0 else 128 - status


def read_queued(process: int) -> float:
    """Return how long a process's main thread could have run but had no core, in seconds: 0 on an idle machine."""
    try:
        with open(f"/proc/{process}/schedstat", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs start-up
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
