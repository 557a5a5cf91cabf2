"""`make faults`: every kind of fault on real sweeps; a line for each try, and at the end `N passed, N failed`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence

# 200 of some 750 steps; each time as many processes at once as there are cores.
TRIES, PROCESSES = 200, 2
ROUNDS: tuple[tuple[tuple[str, ...], ...], ...] = (
    tuple(("failpoints", str(TRIES), str(part), str(PROCESSES)) for part in range(1, PROCESSES + 1)),
    (("scarcity",), ("broken",)),
    (("kills",), ("fence",)),
    (("outage", "90"),),
    (("signals",),),  # alone: its seconds are promised
)
ENDED = re.compile(r"(\d+) passed, (\d+) failed")


def started(module: str, *arguments: str) -> subprocess.Popen[str]:
    """A group in a process of its own."""
    command = [sys.executable, "-m", f"tests.faults.{module}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def counted(processes: Sequence[subprocess.Popen[str]]) -> tuple[int, int]:
    """Show what they say, and add up what passed and failed; one that says nothing has failed."""
    passed = failed = 0
    for process in processes:
        said, _ = process.communicate()
        print(said, end="", flush=True)
        ends = ENDED.findall(said)
        passed += sum(int(good) for good, _ in ends)
        failed += sum(int(bad) for _, bad in ends) if ends else 1
    return passed, failed


def main() -> int:
    """All rounds, the failpoints first; 1 when anything failed."""
    argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__).parse_args()
    totals = [counted([started(*group) for group in groups]) for groups in ROUNDS]
    passed, failed = (sum(column) for column in zip(*totals, strict=True))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
