"""Two sides with known figures; each start is a line in the file named by BENCH_TEST_STARTS."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.bench.row import Figures, Row, Side


def _ours() -> Figures:
    _started("ours")
    print("what a library prints")
    os.system("echo what a child process prints")
    return {"seconds": 0.5, "rounds": 4}


def _theirs() -> Figures:
    _started("theirs")
    return {"seconds": 2.0, "rounds": 2}


def _started(side: str) -> None:
    with Path(os.environ["BENCH_TEST_STARTS"]).open("a") as stream:
        stream.write(f"{side} {os.environ['OMP_NUM_THREADS']}\n")


ROW = Row(number=91, work="sums", goal=3.0, sides=(Side("ours", _ours), Side("theirs", _theirs)), repeats=3)
