"""Which rows of a board cannot be told from its leader, by a procedure that knows the leader was picked.

Single-step max-|t| over all pairs of rows (Westfall & Young, Resampling-Based Multiple Testing, 1993): the critical
value is the 95 % quantile of the largest |t| that any pair shows when all are equal, patients drawn jointly for
all rows by normal multipliers on the jackknife's deviations. A maximum of normal variables is too short in its
tails for few patients, so its quantile is mapped through Student's t by probability. Whoever leads is one of the
pairs, so no row is called worse than the leader by luck more often than 5 % of boards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.inference.intervals import LEVEL, MIN_PATIENTS, Spread, normal_of

MOST_DRAWS, FEWEST_DRAWS = 2000, 400
WORK = 4e8  # draws times squared rows: a board of 1,000 rows takes about a second
# Of the degrees of freedom: by simulation, boards of 20 equal models with 8 to 80 patients of unequal size.
CAUTION = 0.85
CHUNK = 4_000_000  # differences held at a time


@dataclass(frozen=True, slots=True)
class Against:
    """A row against the leader."""

    told_apart: bool | None  # None: too few patients to say
    p_value: float | None  # adjusted for all pairs
    first: float  # probability of rank 1 when patients are drawn again


def against_leader(
    spreads: Sequence[Spread], *, leader: int = 0, minimize: bool = False, seed: int = 0
) -> tuple[Against, ...]:
    """Each row of one board, in the given order, against row `leader`. All on the same patients."""
    count, patients = len(spreads), len(spreads[0].deviations)
    scores = np.array([spread.score for spread in spreads]) * (-1 if minimize else 1)
    deviations = _stacked(spreads)
    number = int(min(MOST_DRAWS, max(FEWEST_DRAWS, WORK / count**2)))
    draws = np.random.default_rng(seed).standard_normal((number, len(deviations))) @ deviations  # (B, M)
    firsts = np.bincount((scores + draws).argmax(axis=1), minlength=count) / number
    if patients < MIN_PATIENTS or count < 2:
        return tuple(Against(None, None, float(share)) for share in firsts)
    errors = _errors(deviations)
    degrees = CAUTION * min(spread.degrees for spread in spreads)
    largest = _largest(draws, errors)
    gaps, sizes = scores[leader] - scores, errors[leader]
    t_values = np.divide(gaps, sizes, out=np.zeros_like(gaps), where=sizes > 0)
    t_values[(sizes == 0) & (gaps > 0)] = np.inf
    normal = normal_of(t_values, degrees)
    critical = np.quantile(largest, LEVEL)
    # One more than drawn: a p-value from draws is never zero (Phipson & Smyth 2010).
    p_values = (1 + (largest[:, None] >= normal).sum(axis=0)) / (number + 1)
    return tuple(
        Against(bool(z > critical), float(p), float(share))
        for z, p, share in zip(normal, p_values, firsts, strict=True)
    )


def _stacked(spreads: Sequence[Spread]) -> NDArray[np.float64]:
    """(P + seeds, M): what all rows share, then a block for the seeds of each."""
    shared = np.stack([spread.deviations for spread in spreads], axis=1)
    own = np.zeros((sum(len(spread.own) for spread in spreads), len(spreads)))
    start = 0
    for column, spread in enumerate(spreads):
        own[start : start + len(spread.own), column] = spread.own
        start += len(spread.own)
    return np.concatenate([shared, own])


def _errors(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, M) standard errors of all paired differences; exactly 0 where two rows agree on every patient."""
    products = deviations.T @ deviations
    own = np.diag(products)
    squares = own[:, None] + own - 2 * products
    return np.sqrt(np.where(squares > 1e-12 * np.maximum.outer(own, own), squares, 0.0))


def _largest(draws: NDArray[np.float64], errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) the largest |difference| / error over all pairs, of every draw."""
    rows, columns = np.nonzero(np.triu(errors, 1))
    weights = 1 / errors[rows, columns]
    largest = np.zeros(len(draws))
    step = max(1, CHUNK // len(draws))
    for start in range(0, len(rows), step):
        cut = slice(start, start + step)
        found = np.abs(draws[:, rows[cut]] - draws[:, columns[cut]]) * weights[cut]
        np.maximum(largest, found.max(axis=1), out=largest)
    return largest
