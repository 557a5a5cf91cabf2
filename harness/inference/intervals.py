"""95 % intervals of a score over patients: the jackknife, with Student's t on the effective number of patients.

The jackknife leaves out one patient at a time; its deviations give the variance of a ratio of sums without a formula
for each score (Efron & Stein, Annals of Statistics 9, 1981). Patients differ in size, so a few carry most of a score:
the degrees of freedom are Kish's effective number of patients minus one (Kish, Survey Sampling, 1965), not P - 1.
Chosen by simulation: docs/statistics.md shows the coverage of this and of the usual ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.inference.ratios import Array, Ratios

LEVEL = 0.95
# Below it no p-value and no set of equals: a t with fewer degrees of freedom says next to nothing.
MIN_PATIENTS = 6


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval over patients."""

    value: float
    low: float
    high: float

    @property
    def leaves_out_zero(self) -> bool:
        """Whether zero lies outside."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, slots=True)
class Spread:
    """What a score would be without each patient, as deviations whose squares add up to its variance."""

    score: float
    deviations: Array  # (P,), shared with all scores on the same patients
    degrees: float  # of freedom
    own: Array = field(default_factory=lambda: np.zeros(0))  # deviations over its own seeds, shared with nobody

    @property
    def error(self) -> float:
        """The standard error over patients (and seeds)."""
        return math.sqrt(float(self.deviations @ self.deviations + self.own @ self.own))


def spread_of(counts: Ratios) -> Spread | None:
    """The jackknife of a score; None with a class that lies in one patient alone (without it there is no score)."""
    rest = counts.sizes.sum(axis=0) - counts.sizes  # (P, K)
    n = len(counts.patients)
    if n < 2 or not (rest > 0).all():
        return None
    without = ((counts.hits.sum(axis=0) - counts.hits) / rest).mean(axis=1)
    deviations = math.sqrt((n - 1) / n) * (without - without.mean())
    return Spread(counts.score, deviations, degrees_of_freedom(counts))


def degrees_of_freedom(counts: Ratios) -> float:
    """The effective number of patients, less one: 1 / sum of squared shares of the score's pixels; at least 1."""
    shares = (counts.sizes / counts.sizes.sum(axis=0)).mean(axis=1)
    return max(1.0 / float(shares @ shares) - 1.0, 1.0)


def interval(spread: Spread) -> Interval:
    """The score with its interval, kept within 0..1."""
    half = quantile(spread.degrees) * spread.error
    return Interval(spread.score, max(spread.score - half, 0.0), min(spread.score + half, 1.0))


def minus(first: Spread, second: Spread) -> Spread:
    """One run's score minus another's on the same patients, by patient: what both find hard cancels."""
    return Spread(first.score - second.score, first.deviations - second.deviations, min(first.degrees, second.degrees))


def mean_of(spreads: Sequence[Spread]) -> Spread:
    """The mean of scores on the same patients that stand for themselves, such as the cells of a claim."""
    deviations = np.mean([spread.deviations for spread in spreads], axis=0)
    score = float(np.mean([spread.score for spread in spreads]))
    return Spread(score, deviations, min(spread.degrees for spread in spreads))


def difference(first: Spread, second: Spread) -> Interval:
    """`first` minus another score on the same patients: paired, so that what both find hard cancels."""
    apart = first.deviations - second.deviations
    squares = float(apart @ apart + first.own @ first.own + second.own @ second.own)
    half = quantile(min(first.degrees, second.degrees)) * math.sqrt(squares)
    gap = first.score - second.score
    return Interval(gap, gap - half, gap + half)


def mean_over_seeds(spreads: Sequence[Spread]) -> Spread:
    """The mean of trainings that differ in their seed, varying over patients and seeds together.

    The variance over seeds, divided by their number, is added to that over patients; the degrees of freedom are
    Satterthwaite's of the sum. ValueError for fewer than two.
    """
    if len(spreads) < 2:
        raise ValueError("a mean over seeds needs at least two")
    n = len(spreads)
    scores = np.array([spread.score for spread in spreads])
    over_patients = np.mean([spread.deviations for spread in spreads], axis=0)
    seeds = (scores - scores.mean()) / math.sqrt(n * (n - 1))  # squares add up to the variance of the mean
    degrees = min(spread.degrees for spread in spreads)
    return with_own(Spread(float(scores.mean()), over_patients, degrees), seeds, n - 1.0)


def with_own(spread: Spread, own: Array, degrees: float) -> Spread:
    """The score with deviations of its own beside those over patients, known with so many degrees of freedom."""
    parts = (float(spread.deviations @ spread.deviations), float(own @ own))
    total = sum(parts)
    known = zip(parts, (spread.degrees, degrees), strict=True)
    joint = total**2 / sum(part**2 / df for part, df in known) if total else spread.degrees
    return Spread(spread.score, spread.deviations, joint, own)


def normal_of(t_values: Array, degrees: float | Array) -> Array:
    """The normal deviates with the tail probabilities that Student's t gives these values."""
    from scipy.special import ndtri, stdtr  # .2 s that `harness status` need not spend

    return -np.asarray(ndtri(stdtr(degrees, -np.abs(t_values))), dtype=np.float64)


def quantile(degrees: float, level: float = LEVEL) -> float:
    """Two-sided quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + level / 2))
