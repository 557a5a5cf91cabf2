"""When a rung is doubted: python benchmarks/rung_threshold.py (a minute on one core).

Trials have a value at a rung and one at the next, normal, correlated by RHO; the best third goes on, and only of those
the next value is known. Counted: how often the next rung's best trial was among them, the mean Spearman's correlation
among them (lower than over all: they differ less), and how often it lies below a threshold. A good threshold doubts
rungs that rank like dice (0) more often than fair ones (.6: four times in five the best trial goes on).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.inference.ranks import rank_correlation

SWEEPS = 4000
ETA = 3
THRESHOLDS = (0.0, 0.15, 0.3)


def promoted(
    rng: np.random.Generator, trials: int, rho: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """The values of those that go on, here and at the next rung, and whether the next rung's best is among them."""
    here = rng.standard_normal(trials)
    later = rho * here + np.sqrt(1 - rho**2) * rng.standard_normal(trials)
    chosen = np.argsort(-here)[: -(-trials // ETA)]
    return here[chosen], later[chosen], bool(later.argmax() in chosen)


def main() -> None:
    """One line for every number of trials and correlation."""
    rng = np.random.default_rng(1)
    for trials in (12, 24, 48, 81):
        for rho in (0.0, 0.3, 0.6, 0.8):
            sweeps = [promoted(rng, trials, rho) for _ in range(SWEEPS)]
            kept = np.mean([best for _, _, best in sweeps])
            held = np.array([rank_correlation(here.tolist(), later.tolist()) for here, later, _ in sweeps], dtype=float)
            below = ", ".join(f"below {limit:g} {(held < limit).mean():.0%}" for limit in THRESHOLDS)
            print(f"{trials} trials, {rho:g}: the best goes on {kept:.0%}; among those {held.mean():.2f}; {below}")


if __name__ == "__main__":
    main()
