"""Row 2: epochs that a policy needs in a stratum of 24 cells, by replays of recorded curves (benchmarks/replay.py).

A repeat is one policy seed over every training seed that was recorded, and both strata. Exhaustive: all cells to the
end. TPE, unpruned: until the last of the grid's three best cells was trained to the end, which favours TPE: it does not
know then that it may stop. Rungs: all that the policy trains; `recovered` is the share of strata in which the three
cells that it ranks first are the grid's three best, `best_in_top3` the share in which its winner is one of them.
"""

from __future__ import annotations

import os
from functools import partial
from statistics import mean
from typing import TYPE_CHECKING

from benchmarks.bench.row import Comparison, Row, Side

if TYPE_CHECKING:
    from benchmarks.replay import Replayed


def _ways(policy: str) -> list[tuple[list[str], Replayed]]:
    """(the grid's order, the policy's way) of each training seed and stratum."""
    from benchmarks.replay import POLICIES, Recording, replay

    recording, seed = Recording.read(), 1 + int(os.environ.get("BENCH_REPEAT", "0"))
    return [
        (recording.best(training_seed, way.stratum), way)
        for training_seed in recording.seeds
        for way in replay(POLICIES[policy], recording, training_seed=training_seed, seed=seed)
    ]


def rungs(policy: str) -> dict[str, float]:
    ways = _ways(policy)
    return {
        "epochs": mean(way.epochs for _, way in ways),
        "recovered": mean(set(truth[:3]) == set(way.ranked[:3]) for truth, way in ways),
        "best_in_top3": mean(way.ranked[0] in truth[:3] for truth, way in ways),
    }


def tpe() -> dict[str, float]:
    return {"epochs": mean(max(dict(way.ended)[cell] for cell in truth[:3]) for truth, way in _ways("tpe"))}


def exhaustive() -> dict[str, float]:
    return {"epochs": mean(way.epochs for _, way in _ways("grid"))}


ONE, TWO = "rungs from epoch 1, eta 3", "rungs from epoch 2, eta 4"
ROW = Row(
    number=2,
    work="epochs needed in a stratum of 24 cells of 27 epochs, the grid's top 3 recovered",
    sides=(
        Side(ONE, partial(rungs, "rungs")),
        Side(TWO, partial(rungs, "rungs from 2")),
        Side("exhaustive grid", exhaustive),
        Side("TPE, unpruned", tpe),
    ),
    comparisons=(
        *(Comparison(side, "exhaustive grid", goal=8.0) for side in (ONE, TWO)),
        *(Comparison(side, "TPE, unpruned", goal=4.0) for side in (ONE, TWO)),
        *(Comparison(side, None, figure="recovered", goal=0.667, better="more") for side in (ONE, TWO)),
        *(Comparison(side, None, figure="best_in_top3", goal=0.667, better="more") for side in (ONE, TWO)),
    ),
)
