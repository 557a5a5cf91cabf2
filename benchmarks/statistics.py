"""Are intervals, boards and corrected winners right? Simulated patients, with the code that the report runs.

python benchmarks/statistics.py [SEED]: patients of 1 to 8 regions of unequal (log-normal) size, three classes of which
each is in 8 of 10 patients, difficulty shared by a patient's regions. Prints Markdown tables.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.inference.intervals import interval, spread_of
from harness.inference.ratios import Ratios
from harness.inference.selection import corrected_winner
from harness.inference.simultaneous import against_leader

REGIONS, PRESENT = 8, 0.8
EASE = np.array([1.8, 1.2, 0.3])  # of each class, on the logit scale
CLASSES = ("tumor", "stroma", "rest")
Array = NDArray[np.float64]


def models(random: np.random.Generator, patients: int, shifts: Array, *, icc: float = 0.25) -> tuple[Array, Array]:
    """Hits and sizes (M, P, K) of models on the same patients; a shift of 0 for all makes them equal."""
    count = random.integers(1, REGIONS + 1, patients)
    region = np.arange(REGIONS) < count[:, None]
    size = random.lognormal(0, 0.8, (patients, REGIONS)) * region
    present = random.random((patients, 1, 3)) < PRESENT
    truth = size[..., None] * random.dirichlet([1.5, 1.0, 0.6], (patients, REGIONS)) * present
    hard = random.normal(0, np.sqrt(icc), (patients, 1, 3)) + random.normal(0, np.sqrt(0.5), (patients, REGIONS, 3))
    hits, sizes = [], []
    for shift in shifts:
        own = random.normal(0, np.sqrt(0.15), (patients, 1, 3)) + random.normal(0, np.sqrt(0.3), (patients, REGIONS, 3))
        found = 1 / (1 + np.exp(-(EASE + shift + hard + own)))
        wrong = 0.25 / (1 + np.exp(-(random.normal(0, 0.7, (patients, REGIONS, 3)) + 0.3 * hard - shift)))
        hits.append((truth * found).sum(axis=1))
        sizes.append((truth + size[..., None] / 3 * wrong * 0.6).sum(axis=1))
    return np.stack(hits), np.stack(sizes)


def ratios(hits: Array, sizes: Array) -> list[Ratios]:
    """As the report has them."""
    patients = tuple(f"p{i}" for i in range(hits.shape[1]))
    return [Ratios(patients, CLASSES, h, s) for h, s in zip(hits, sizes, strict=True)]


def truth_of(shifts: Array, icc: float = 0.25) -> Array:
    """The scores of models on very many patients."""
    hits, sizes = models(np.random.default_rng(99), 20_000, shifts, icc=icc)
    return np.asarray((hits.sum(axis=1) / sizes.sum(axis=1)).mean(axis=1), dtype=np.float64)


def coverage(random: np.random.Generator, sets: int = 2000) -> Iterator[str]:
    """How often the 95 % interval of macro IoU holds the truth; beside it the percentile bootstrap."""
    yield "| patients | ICC | jackknife t (ours) | percentile bootstrap |\n| --- | --- | --- | --- |"
    for patients in (8, 15, 30, 60):
        for icc in (0.0, 0.25, 0.5):
            true, inside, boot, tried = float(truth_of(np.zeros(1), icc)[0]), 0, 0, 0
            for index in range(sets):
                hits, sizes = models(random, patients, np.zeros(1), icc=icc)
                spread = spread_of(ratios(hits, sizes)[0])
                if spread is None:
                    continue
                tried += 1
                known = interval(spread)
                inside += known.low <= true <= known.high
                if index < 400:
                    weights = random.multinomial(patients, [1 / patients] * patients, size=500)
                    drawn = ((weights @ hits[0]) / np.maximum(weights @ sizes[0], 1e-9)).mean(axis=1)
                    low, high = np.percentile(drawn, [2.5, 97.5])
                    boot += low <= true <= high
            yield f"| {patients} | {icc} | {100 * inside / tried:.1f} % | {100 * boot / min(sets, 400):.1f} % |"


def equals(random: np.random.Generator, boards: int = 400) -> Iterator[str]:
    """Boards of 20 equal models: how often anybody is told from the leader. Then a planted best one."""
    yield "| patients | equal: a false loser | planted: the best is told from the leader |\n| --- | --- | --- |"
    for patients in (8, 15, 30, 60):
        false = lost = 0
        for _ in range(boards):
            false += any(_judged(random, patients, np.zeros(20)))
            planted = np.linspace(0.3, 0.0, 20)
            lost += _judged(random, patients, planted)[0]
        yield f"| {patients} | {100 * false / boards:.1f} % | {100 * lost / boards:.1f} % |"


def _judged(random: np.random.Generator, patients: int, shifts: Array) -> list[bool]:
    spreads = [spread_of(one) for one in ratios(*models(random, patients, shifts))]
    known = [spread for spread in spreads if spread is not None]
    if len(known) < len(spreads):
        return [False] * len(shifts)
    leader = int(np.argmax([spread.score for spread in known]))
    found = against_leader(known, leader=leader, seed=int(random.integers(1 << 30)))
    return [bool(row.told_apart) for row in found]


def winners(random: np.random.Generator, sweeps: int = 200) -> Iterator[str]:
    """How much too good the winner of N models looks, raw and corrected, on 20 patients."""
    yield "| models | spread of the truth | raw optimism | corrected |\n| --- | --- | --- | --- |"
    for spread in (0.0, 0.1):
        for count in (10, 50, 200):
            raw, corrected = [], []
            for _ in range(sweeps):
                shifts = random.normal(0, spread, count)
                hits, sizes = models(random, 20, shifts)
                found = corrected_winner(ratios(hits, sizes), seed=int(random.integers(1 << 30)))
                scores = (hits.sum(axis=1) / sizes.sum(axis=1)).mean(axis=1)
                if found is not None:
                    shift = float(shifts[int(scores.argmax())])
                    raw.append((found.raw, shift))
                    corrected.append(found.corrected)
            grid = np.linspace(-4 * spread - 0.01, 4 * spread + 0.01, 9)
            true = np.interp([shift for _, shift in raw], grid, truth_of(grid))
            gaps = np.array([value for value, _ in raw]) - true, np.array(corrected) - true
            error = gaps[1].std(ddof=1) / np.sqrt(len(true))
            yield f"| {count} | {spread} | {gaps[0].mean():+.4f} | {gaps[1].mean():+.4f} (error {error:.4f}) |"


if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    for title, part in (("Coverage", coverage), ("Boards", equals), ("Winners", winners)):
        print(f"\n{title}\n")
        for line in part(np.random.default_rng(seed)):
            print(line, flush=True)
