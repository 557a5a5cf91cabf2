"""Simulated patients for `make statistics`: what models of known quality score on cohorts with known difficulty.

Patients have 1 to 8 regions of unequal (log-normal) size and three classes, each in 8 of 10 patients; a patient's
regions share a difficulty (ICC). A model's quality is a shift on the logit scale of the share of true pixels it finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.inference.ratios import Ratios

REGIONS, PRESENT = 8, 0.8
EASE = np.array([1.8, 1.2, 0.3])  # of each class, on the logit scale
CLASSES = ("tumor", "stroma", "rest")
MANY = 20_000  # patients that stand for all
Array = NDArray[np.float64]


def models(
    random: np.random.Generator,
    patients: int,
    shifts: Array,
    *,
    icc: float = 0.25,
    present_in: float = PRESENT,
    families: Sequence[int] | None = None,
) -> tuple[Array, Array]:
    """Hits and sizes (M, P, K) of models on the same patients; a shift of 0 for all makes them equal.

    A patient has a class with the probability `present_in`. Every model finds other patients easy; models of one family
    (trainings of one setting that differ in their seed) agree in two thirds of that.
    """
    count = random.integers(1, REGIONS + 1, patients)
    region = np.arange(REGIONS) < count[:, None]
    size = random.lognormal(0, 0.8, (patients, REGIONS)) * region
    present = random.random((patients, 1, 3)) < present_in
    truth = size[..., None] * random.dirichlet([1.5, 1.0, 0.6], (patients, REGIONS)) * present
    hard = random.normal(0, np.sqrt(icc), (patients, 1, 3)) + random.normal(0, np.sqrt(0.5), (patients, REGIONS, 3))
    hits, sizes = [], []
    shared = {name: random.normal(0, np.sqrt(0.1), (patients, 1, 3)) for name in sorted(set(families or ()))}
    for index, shift in enumerate(shifts):
        alone = 0.15 if families is None else 0.05
        own = random.normal(0, np.sqrt(alone), (patients, 1, 3)) + random.normal(
            0, np.sqrt(0.3), (patients, REGIONS, 3)
        )
        own += 0.0 if families is None else shared[families[index]]
        found = 1 / (1 + np.exp(-(EASE + shift + hard + own)))
        wrong = 0.25 / (1 + np.exp(-(random.normal(0, 0.7, (patients, REGIONS, 3)) + 0.3 * hard - shift)))
        hits.append((truth * found).sum(axis=1))
        sizes.append((truth + size[..., None] / 3 * wrong * 0.6).sum(axis=1))
    return np.stack(hits), np.stack(sizes)


def checkpoints(random: np.random.Generator, hits: Array, sizes: Array, number: int) -> tuple[Array, Array]:
    """Each of M models at so many epochs of equal quality, (M * E, P, K): its counts move a little by patient."""
    many = (number, *hits.shape)
    moved = hits * np.exp(random.normal(-(0.05**2) / 2, 0.05, many)), sizes * np.exp(random.normal(0, 0.02, many))
    return np.minimum(*moved).reshape(-1, *hits.shape[1:]), moved[1].reshape(-1, *hits.shape[1:])


def ratios(hits: Array, sizes: Array) -> list[Ratios]:
    """As the report has them."""
    patients = tuple(f"p{i}" for i in range(hits.shape[1]))
    return [Ratios(patients, CLASSES, h, s) for h, s in zip(hits, sizes, strict=True)]


def scores(hits: Array, sizes: Array) -> Array:
    """(M,) mean IoU over classes, patients pooled."""
    return np.asarray((hits.sum(axis=1) / sizes.sum(axis=1)).mean(axis=1), dtype=np.float64)


@lru_cache(maxsize=64)
def truth_of(shifts: tuple[float, ...], icc: float = 0.25, present_in: float = PRESENT) -> Array:
    """(M, K) the IoU of every class on very many patients."""
    hits, sizes = models(np.random.default_rng(99), MANY, np.array(shifts), icc=icc, present_in=present_in)
    return np.asarray(hits.sum(axis=1) / sizes.sum(axis=1), dtype=np.float64)


def true_scores(shifts: Array) -> Array:
    """The mean IoU of models with these shifts on very many patients, by interpolation."""
    grid = tuple(float(x) for x in np.linspace(-1.2, 1.2, 25))
    return np.interp(shifts, grid, truth_of(grid).mean(axis=1))


def shift_for(gain: float) -> float:
    """How much better a model has to be than one of shift 0 to score so much more."""
    grid = np.linspace(-1.2, 1.2, 481)
    return float(np.interp(float(true_scores(np.zeros(1))[0]) + gain, true_scores(grid), grid))
