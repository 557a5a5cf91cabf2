"""How far seeds move a model's score, and how many tell two models apart: python benchmarks/seed_sd.py FOLDER

FOLDER is the generation of a sweep with `replicate:`, such as

    harness sweep quickstart --set 'strata={labels: [unicorn3], patches: [all]}' --set export=none \
        --set 'replicate={top: 6, seeds: [101, 102, 103, 104, 105]}'

Seeds for a difference d between two means, on the same patients: n = 2 (1.96 + .84)^2 SD^2 / d^2, a two-sided test at
5 % with a power of 80 % (normal approximation; the variance over patients is not in it).
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from harness.report.boards import group_boards
from harness.report.queries import read_sweep
from harness.report.tables import model_of, setting_of

DIFFERENCES = (0.05, 0.02, 0.01)


def main(generation: Path) -> None:
    """A line per replicated row, then the pooled SD and what follows from it."""
    sweep = read_sweep(generation)
    spreads = []
    for board in group_boards(sweep):
        for row in board.rows:
            if row.seed_sd is None or row.score is None:
                continue
            search = row.scored.scores[board.metric]
            assert search is not None  # it has a mean
            name = f"{model_of(row.trial)}, {setting_of(row.trial, sweep, labels=False)}"
            print(f"{name}: mean of {len(row.replicates)} seeds {row.score:.3f}, SD {row.seed_sd:.3f}")
            print(f"    the search's own {search:.3f}, {search - row.score:+.3f}")
            spreads.append(row.seed_sd)
    pooled = float(np.sqrt(np.mean(np.square(spreads))))
    needed = {d: math.ceil(2 * (1.96 + 0.84) ** 2 * pooled**2 / d**2) for d in DIFFERENCES}
    print(f"pooled SD {pooled:.3f}; seeds a model for a difference of {needed}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
