"""How many runs parameter importance needs: python benchmarks/importance_threshold.py (about a minute on one core).

Sweeps of four parameters (3 networks, 2 sizes, 3 encoders, a rate from 1e-5 to 1e-2) of which one changes the score,
by 2 or 3 standard deviations of the noise from its worst to its best value, drawn at random. Counted: how often that
parameter has the largest importance, by the share of the runs that count as the best.
"""

from __future__ import annotations

import numpy as np

from harness.report.domains import Domain
from harness.report.importance import cells, ped_anova

SWEEPS = 200
DOMAINS = (
    Domain("network", ("a", "b", "c")),
    Domain("size", (1, 2)),
    Domain("encoder", ("x", "y", "z")),
    Domain("rate", (), 1e-5, 1e-2, log=True),
)


def first_share(rng: np.random.Generator, runs: int, matters: int, span: float, best_share: float) -> float:
    """How often the parameter at index `matters` comes first."""
    hits = 0
    for _ in range(SWEEPS):
        network, size, encoder = (rng.integers(0, n, runs) for n in (3, 2, 3))
        power = rng.uniform(-5, -2, runs)
        effect = (network / 2, size * 1.0, None, 1 - np.abs(power + 3.2) / 1.8)[matters]
        losses = rng.normal(0, 1, runs) - span * effect
        values = (np.array(list("abc"))[network], size + 1, np.array(list("xyz"))[encoder], 10**power)
        grids = [cells(domain, column.tolist()) for domain, column in zip(DOMAINS, values, strict=True)]
        found = ped_anova(grids, losses, np.arange(runs)[None], best_share=best_share)[:, 0]
        hits += int(found.argmax()) == matters
    return hits / SWEEPS


def main() -> None:
    """One line for every size of effect and number of runs: the mean over network, size and rate."""
    rng = np.random.default_rng(1)
    for span in (2.0, 3.0):
        for runs in (8, 12, 16, 20, 24, 30, 40, 60):
            shares = [np.mean([first_share(rng, runs, m, span, best) for m in (0, 1, 3)]) for best in (0.1, 0.25)]
            print(f"{span:.0f} SD, {runs} runs: best tenth {shares[0]:.0%}, best quarter {shares[1]:.0%}")


if __name__ == "__main__":
    main()
