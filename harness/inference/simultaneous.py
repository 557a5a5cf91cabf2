"""Which rows of a board cannot be told from its leader, by a procedure that knows the leader was picked.

Single-step max-|t| over all pairs of rows (Westfall & Young, Resampling-Based Multiple Testing, 1993): the critical
value is the 95 % quantile of the largest |t| that any pair shows when all are equal, patients drawn jointly for
all rows by normal multipliers on the jackknife's deviations. A maximum of normal variables is too short in its
tails for few patients, so its quantile is mapped through Student's t by probability. Whoever leads is one of the
pairs, so no row is called worse than the leader by luck more often than 5 % of boards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.inference.cones import SINGLE, Search
from harness.inference.intervals import LEVEL, MIN_PATIENTS, Spread, normal_of

# Not fewer for boards of thousands of rows: by 100 draws 1 to 23 of 2,000 rows changed sides, all boards towards more
# rows told apart.
MOST_DRAWS, FEWEST_DRAWS = 2000, 400
WORK = 4e8  # draws times squared rows: a board of 1,000 rows takes .15 s
# Of the degrees of freedom: by simulation, boards of 20 equal models with 8 to 80 patients of unequal size.
CAUTION = 0.85
CHUNK = 1_000_000  # differences held at a time, 4 MB
# Up to so many directions a product of matrices gives all differences of a row; beyond, subtracting is less work.
MOST_DIRECTIONS = 48


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
    rows = _Rows.of(spreads)
    number = int(min(MOST_DRAWS, max(FEWEST_DRAWS, WORK / count**2)))
    normals = np.random.default_rng(seed).standard_normal((number, patients + len(rows.own)))
    draws = rows.drawn(normals)
    firsts = np.bincount((scores + draws).argmax(axis=1), minlength=count) / number
    if patients < MIN_PATIENTS or count < 2:
        return tuple(Against(None, None, float(share)) for share in firsts)
    degrees = CAUTION * min(spread.degrees for spread in spreads)
    largest = _largest(rows, normals, draws)
    gaps, sizes = scores[leader] - scores, rows.errors(leader)
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


@dataclass(frozen=True, slots=True)
class _Rows:
    """The deviations of M rows: what all share over P patients, and S of seeds, each of one row alone."""

    shared: NDArray[np.float64]  # (P, M)
    own: NDArray[np.float64]  # (S,)
    owner: NDArray[np.int64]  # (S,) the row of each, ascending
    squares: NDArray[np.float64]  # (M,) variances

    @classmethod
    def of(cls, spreads: Sequence[Spread]) -> _Rows:
        shared = np.stack([spread.deviations for spread in spreads], axis=1)
        own = np.concatenate([spread.own for spread in spreads])
        owner = np.repeat(np.arange(len(spreads)), [len(spread.own) for spread in spreads])
        squares = (shared**2).sum(axis=0) + np.bincount(owner, weights=own**2, minlength=len(spreads))
        return cls(shared, own, owner, squares)

    def drawn(self, normals: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B, M) deviations of the scores, from (B, P + S) normal multipliers."""
        patients = len(self.shared)
        draws = np.asarray(normals[:, :patients] @ self.shared)
        if len(self.own):
            starts = np.flatnonzero(np.diff(self.owner, prepend=-1))
            parts = np.add.reduceat(normals[:, patients:] * self.own, starts, axis=1)
            draws[:, self.owner[starts]] += parts
        return draws

    def errors(self, row: int, start: int = 0) -> NDArray[np.float64]:
        """(M - start,) standard errors of the differences of a row to those from `start` on.

        Exactly 0 to itself, and where two rows agree on every patient.
        """
        there = self.squares[start:]
        # Half of a row's own variance is in its product with itself; seeds are shared with nobody.
        squares = self.squares[row] + there - 2 * (self.shared[:, row] @ self.shared[:, start:])
        if row >= start:
            squares[row - start] = 0.0
        return np.sqrt(np.where(squares > 1e-12 * np.maximum(there, self.squares[row]), squares, 0.0))


def _largest(rows: _Rows, normals: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) the largest |difference| / error over all pairs, of every draw.

    Single precision finds the rows that may have it, double precision computes it.
    """
    number, count = draws.shape
    products = len(rows.shared) <= MOST_DIRECTIONS and not len(rows.own)
    cones = Search.of(rows.shared, normals, draws) if products else None
    if cones is not None:
        return cones.largest()
    step = max(1, CHUNK // number)
    weights_of = _weights(rows)
    found = np.zeros((count, number), dtype=np.float32)  # of each row with those after it
    slack = np.zeros((count, number), dtype=np.float32)
    highest = np.abs(draws).max(axis=1)
    patients = normals[:, : len(rows.shared)].astype(np.float32)
    single = draws.astype(np.float32)

    def search(mine: range) -> None:
        for row in mine:
            weights = weights_of(row)
            for start in range(row + 1, count, step):
                cut = slice(start, start + step)
                own = weights[start - row - 1 : start - row - 1 + step]
                if products:
                    directions = (rows.shared[:, cut] - rows.shared[:, row : row + 1]) * own
                    ratios = patients @ directions.astype(np.float32)
                else:
                    ratios = (single[:, cut] - single[:, row : row + 1]) * own.astype(np.float32)
                np.maximum.reduce([found[row], ratios.max(axis=1), -ratios.min(axis=1)], out=found[row])
            # A difference of two like numbers has the error of the numbers, times a large weight.
            slack[row] = SINGLE * (found[row] + (0.0 if products else 0.01 * highest * weights.max()))

    threads = min(os.cpu_count() or 1, 8)
    with ThreadPoolExecutor(threads) as pool:  # numpy computes outside of the interpreter lock
        list(pool.map(search, (range(first, count - 1, threads) for first in range(threads))))
    best = (found - slack).max(axis=0)
    largest = np.zeros(number)
    for row in range(count - 1):
        possible = np.flatnonzero(found[row] + slack[row] >= best)
        if len(possible):
            exact = np.abs(draws[possible, row : row + 1] - draws[possible, row + 1 :]) * weights_of(row)
            largest[possible] = np.maximum(largest[possible], exact.max(axis=1))
    return largest


def _weights(rows: _Rows) -> Callable[[int], NDArray[np.float64]]:
    """row -> (M - row - 1,) one over the error of each difference to the rows after it; 0 where there is none."""

    def of(row: int) -> NDArray[np.float64]:
        errors = rows.errors(row, row + 1)
        return np.divide(1.0, errors, out=np.zeros_like(errors), where=errors > 0)

    return of
