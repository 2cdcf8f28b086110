"""Runs a command, and writes what it took into a file: `launch.py FILE COMMAND…`.

Linux says of a process that it had as much memory as the one that started it had at its peak. This one has
hardly any; the benchmark, which looks at what the contenders made, may have had a gigabyte.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Write seconds of wall and of CPU, the peak as the system tells it, and the wait status."""
    file, *command = sys.argv[1:]
    started_at, started = time.time(), time.perf_counter()
    _, status, used = os.wait4(os.posix_spawnp(command[0], command, os.environ), 0)
    wall_s = time.perf_counter() - started
    took = {
        "started_at": started_at,
        "wall_s": wall_s,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss,
        "status": status,
    }
    with open(file, "w", encoding="utf-8") as written:  # noqa: PTH123 - pathlib takes memory
        json.dump(took, written)


if __name__ == "__main__":
    main()
