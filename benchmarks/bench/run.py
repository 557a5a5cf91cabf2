"""Repeats of all sides of a row, each in a fresh process, the sides taking turns."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.bench.results import ROOT, Result, Results, commit, machine, now
from benchmarks.bench.row import Entry

Tell = Callable[[str], None]
REPEAT = "BENCH_REPEAT"  # 0, 1, ...: for sides whose repeats are seeds
# Two torch threads on shared cores can be 15 times slower than one. A side that wants more says so itself.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}


def order(sides: Sequence[str], repeats: int) -> list[tuple[str, int]]:
    """(side, repeat) in the order they run: there and back, so that none is always the first."""
    return [(side, repeat) for repeat in range(repeats) for side in (sides if repeat % 2 == 0 else sides[::-1])]


def run_row(entry: Entry, folder: Path, *, repeats: int | None = None, tell: Tell) -> None:
    """Measure what the row's file lacks; what failed before is tried again. A side that fails has no more repeats."""
    row, results = entry.row, Results(folder / f"{entry.name}.jsonl")
    if row.unmeasured is not None:
        tell(f"row {row.number}: unmeasured, {row.unmeasured}")
        return
    done = {(one.side, one.repeat): one for one in results.read() if one.failed is None}
    waiting = [pair for pair in order([side.name for side in row.sides], repeats or row.repeats) if pair not in done]
    tell(f"row {row.number}: {row.work}; {len(waiting)} repeats to measure, {len(done)} are there")
    while waiting:
        side, repeat = waiting.pop(0)
        result = measure(entry, side, repeat, log=folder / f"{entry.name}.log")
        results.append(result)
        if result.failed is None:
            done[side, repeat] = result
        else:
            waiting = [pair for pair in waiting if pair[0] != side]
        said = result.failed or ", ".join(f"{name} {value:.4g}" for name, value in result.figures.items())
        left = time_left([one for one, _ in waiting], list(done.values()))
        tell(f"row {row.number}: {side} {repeat + 1}: {said} ({left})")


def measure(entry: Entry, side: str, repeat: int, *, log: Path) -> Result:
    """One repeat of one side; why it failed, if it did. Its stderr is added to the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began, date, load = time.perf_counter(), now(), os.getloadavg()[0]
    command = [sys.executable, "-m", "benchmarks.bench.side", entry.module, side]
    environment = {**os.environ, **ENVIRONMENT, REPEAT: str(repeat)}
    with (
        log.open("ab") as stream,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=stream, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            said, _ = process.communicate(timeout=entry.row.timeout_s)
            figures, failed = _answer(said, process.returncode)
        except subprocess.TimeoutExpired:
            figures, failed = {}, f"took more than {entry.row.timeout_s:g} s"
        finally:  # its children, too, whatever ended it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()  # Popen does not when Ctrl-C came
    return Result(
        side=side, repeat=repeat, figures=figures, failed=failed, wall_s=round(time.perf_counter() - began, 3),
        date=date, commit=commit(), machine=machine(), load=round(load, 2),
    )  # fmt: skip


def _answer(said: bytes, code: int) -> tuple[dict[str, float], str | None]:
    if said.strip():
        answer = json.loads(said)
        return answer.get("figures", {}), answer.get("failed")
    how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return {}, f"the process ended {how}"


def time_left(waiting: Sequence[str], done: Sequence[Result]) -> str:
    """How long the sides that wait will take, by the median of their repeats so far."""
    known = {side: [one.wall_s for one in done if one.side == side] for side in waiting}
    if not all(known.values()):
        return f"{len(waiting)} repeats left"
    seconds = sum(statistics.median(known[side]) for side in waiting)
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"
