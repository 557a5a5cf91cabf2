"""Row 2: epochs that a policy needs in a stratum of 24 cells, by replays of recorded curves (benchmarks/replay.py).

A repeat is one policy seed over every training seed that was recorded, and both strata. Exhaustive: all cells to the
end. TPE, unpruned: until the last of the grid's three best cells was trained to the end, which favours TPE: it does not
know then that it may stop. Rungs: all that the policy trains; `recovered` is the share of strata in which the three
cells that it ranks first are the grid's three best, `best_in_top3` the share in which its winner is one of them.

Two recordings: one with 83 optimizer steps an epoch and averaged weights, one with 16 and the weights as they were.
"""

from __future__ import annotations

import os
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING

from benchmarks.bench.row import Comparison, Row, Side

if TYPE_CHECKING:
    from benchmarks.replay import Replayed


def _ways(policy: str, few_steps: bool) -> list[tuple[list[str], Replayed]]:
    """(the grid's order, the policy's way) of each training seed and stratum."""
    from benchmarks.replay import FEW_STEPS, POLICIES, TABLE, Recording, replay

    recording, seed = Recording.read(FEW_STEPS if few_steps else TABLE), 1 + int(os.environ.get("BENCH_REPEAT", "0"))
    return [
        (recording.best(training_seed, way.stratum), way)
        for training_seed in recording.seeds
        for way in replay(POLICIES[policy], recording, training_seed=training_seed, seed=seed)
    ]


def rungs(few_steps: bool) -> dict[str, float]:
    ways = _ways("rungs", few_steps)
    return {
        "epochs": mean(way.epochs for _, way in ways),
        "recovered": mean(set(truth[:3]) == set(way.ranked[:3]) for truth, way in ways),
        "best_in_top3": mean(way.ranked[0] in truth[:3] for truth, way in ways),
    }


def tpe(few_steps: bool) -> dict[str, float]:
    return {"epochs": mean(max(dict(way.ended)[cell] for cell in truth[:3]) for truth, way in _ways("tpe", few_steps))}


def exhaustive(few_steps: bool) -> dict[str, float]:
    return {"epochs": mean(way.epochs for _, way in _ways("grid", few_steps))}


def _sides(few_steps: bool, suffix: str) -> tuple[Side, Side, Side]:
    return (
        Side(f"rungs from epoch 1, eta 3{suffix}", partial(rungs, few_steps)),
        Side(f"exhaustive grid{suffix}", partial(exhaustive, few_steps)),
        Side(f"TPE, unpruned{suffix}", partial(tpe, few_steps)),
    )


def _compared(policy: Side, grid: Side, sampled: Side) -> tuple[Comparison, ...]:
    return (
        Comparison(policy.name, grid.name, goal=8.0),
        Comparison(policy.name, sampled.name, goal=4.0),
        Comparison(policy.name, None, figure="recovered", goal=0.667, better="more"),
        Comparison(policy.name, None, figure="best_in_top3", goal=0.667, better="more"),
    )


MANY, FEW = _sides(False, ""), _sides(True, ", 16 steps an epoch")
ROW = Row(
    number=2,
    work="epochs needed in a stratum of 24 cells of 27 epochs, the grid's top 3 recovered",
    sides=(*MANY, *FEW),
    comparisons=(*_compared(*MANY), *_compared(*FEW)),
)
