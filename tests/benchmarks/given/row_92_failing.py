"""Sides that cannot be measured, each for another reason, beside one that can."""

from __future__ import annotations

import math
import os
import signal
import time

from benchmarks.bench.row import Figures, Row, Side


def _good() -> Figures:
    return {"seconds": 1.0}


def _raising() -> Figures:
    raise RuntimeError("no such device\nand more")


def _killed() -> Figures:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _endless() -> Figures:
    return {"seconds": math.inf}


def _hanging() -> Figures:
    time.sleep(600)
    return {}


SIDES = {"good": _good, "raising": _raising, "killed": _killed, "infinite": _endless, "hanging": _hanging}
ROW = Row(
    number=92, work="failures", sides=tuple(Side(name, run) for name, run in SIDES.items()), repeats=2, timeout_s=2.0
)
