"""SIGKILL at random times of the controller or of a worker of a real sweep, while something is being trained.

python -m tests.faults.kills
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.faults.real import Bench, Outcome, bench, problems, regions, shown, wait_for, weights_of, workers_of

# Enough epochs that the sweep is still at work at the last kill.
EPOCHS = 60
# A worker's third death with the same trial fails it, rightly, so that a controller sees no more than this many.
WORKER_KILLS_PER_START = 2
# Promise 4.
AGREED_S = 10.0


def outcomes(folder: Path, *, kills: int = 10, seed: int = 1) -> Iterator[Outcome]:
    """One sweep, killed `kills` times and continued; then equal to an undisturbed one."""
    data = regions(folder / "data")
    undisturbed = bench(folder / "undisturbed", data, epochs=EPOCHS)
    code = undisturbed.finish()
    yield Outcome("undisturbed sweep", problems(undisturbed, weights=None, kills=0) + _code(code))
    there = bench(folder / "killed", data, epochs=EPOCHS)
    agreed: list[float] = []
    wrong = _killed(there, kills, random.Random(seed), agreed)
    began = time.monotonic()
    code = there.finish()
    wrong += _code(code) + problems(there, weights=weights_of(undisturbed), kills=kills)
    repeated = len(there.trained()) - 2 * EPOCHS
    yield Outcome(
        f"{kills} kills at random times",
        wrong,
        {
            "kills": kills,
            "epochs trained twice": repeated,
            "longest until nothing dead was said to run, s": max(agreed, default=0.0),
            "last start, s": time.monotonic() - began,
        },
    )


def _killed(there: Bench, kills: int, draw: random.Random, agreed: list[float]) -> list[str]:
    """Kill `kills` times; what was wrong in between. `agreed` gets the seconds that each start took to see it."""
    wrong, sweep, of_workers = [], there.start(), 0
    for number in range(1, kills + 1):
        known = len(there.trained())
        if not wait_for(lambda known=known: len(there.trained()) > known):  # type: ignore[misc]
            return [*wrong, f"nothing was trained before kill {number}: {there.said[-300:]}"]
        time.sleep(draw.uniform(0, 0.5))
        if "running" not in [record["state"] for record in there.records().values()]:
            return [*wrong, f"nothing was running at kill {number}"]
        workers = workers_of(sweep)
        if of_workers < WORKER_KILLS_PER_START and draw.random() < 0.5:
            draw.choice(workers).kill()
            of_workers += 1
            continue
        sweep.kill()
        sweep.wait()
        _, strays = psutil.wait_procs(workers, timeout=10)
        wrong += [f"kill {number}: process {stray.pid} outlived the controller by 10 s" for stray in strays]
        if number < kills:
            began = time.time()
            sweep, of_workers = there.start(), 0
            wait_for(lambda began=began: not _dead(there, began))  # type: ignore[misc]
            agreed.append(time.time() - began)
            wrong += [f"kill {number}: said to run by nobody for {agreed[-1]:.1f} s"] if agreed[-1] > AGREED_S else []
    if sweep.poll() is None:
        sweep.wait(180)
    return wrong


def _dead(there: Bench, began: float) -> list[str]:
    """Trials that are said to run since before the start: nobody runs them."""
    return [
        folder.uid
        for folder in there.folders()
        if there.records()[folder.uid]["state"] == "running" and folder.state_file.stat().st_mtime < began
    ]


def _code(code: int) -> list[str]:
    return [] if code == 0 else [f"the command ended with {code}"]


if __name__ == "__main__":
    sys.exit(bool(shown(outcomes)))
