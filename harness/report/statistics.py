"""Runs as a design of factors and levels, and two ways to compare levels: over pairs, and by least squares. Numpy only.

A *pair* is a cell of settings in which two levels of a factor were both tried; its difference is the mean score at
one level minus the mean at the other. Parameters that are inactive at one of the two levels (a plain U-Net has no
encoder) do not tell cells apart. A numeric parameter with more than MAX_LEVELS values is cut into thirds of the runs
at hand, both as a factor and when cells are matched. Spread and interval are over these pairs of training runs, not
over patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.report.queries import Value
from harness.report.wording import value_text

MAX_LEVELS = 5
MIN_PAIRS = 4
# Of a unit vector's length: what is left of a contrast outside the design's rows by rounding alone is below 1e-10.
TOLERANCE = 1e-7
# Two-sided 95 % quantiles of Student's t for 1..30 degrees of freedom.
T_95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip

Run = tuple[Mapping[str, Value], float]  # parameters, and the score


@dataclass(frozen=True, slots=True)
class Contrast:
    """`level` against `reference` on the pairs at hand; gains above zero are better."""

    factor: str
    level: str
    reference: str
    gains: tuple[float, ...]  # one per pair, in units of the score

    @property
    def pairs(self) -> int:
        """Number of paired cells."""
        return len(self.gains)

    @property
    def mean(self) -> float | None:
        """Mean gain over the pairs; None without one."""
        return float(np.mean(self.gains)) if self.gains else None

    @property
    def sd(self) -> float | None:
        """Standard deviation over the pairs; None for a single one."""
        return float(np.std(self.gains, ddof=1)) if self.pairs > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % t-interval of the mean over pairs; None below MIN_PAIRS."""
        if self.mean is None or self.sd is None or self.pairs < MIN_PAIRS:
            return None
        half = t_95(self.pairs - 1) * self.sd / math.sqrt(self.pairs)
        return self.mean - half, self.mean + half

    @property
    def visible(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def t_95(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t; beyond the table by Cornish-Fisher, right to 1e-4."""
    if degrees <= len(T_95):
        return T_95[degrees - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


@dataclass(frozen=True, slots=True)
class Level:
    """A factor's level: its name, and where a numeric one sorts."""

    name: str
    position: float | None = None


@dataclass(frozen=True)
class Design:
    """Runs by the levels of their factors; None where a parameter is inactive."""

    levels: Mapping[str, tuple[Level, ...]]  # of every factor with at least two, the reference first
    rows: tuple[Mapping[str, Level | None], ...]
    scores: NDArray[np.float64]

    def runs_at(self, factor: str, level: Level) -> NDArray[np.bool_]:
        """(N,) which runs are at the level."""
        return np.array([row[factor] == level for row in self.rows], dtype=bool)

    @cached_property
    def fit(self) -> Fit:
        """The additive least-squares fit of all runs."""
        return _fit(self)


@dataclass(frozen=True, slots=True)
class Fit:
    """score = constant + one number per level of every factor but its reference, by least squares."""

    columns: tuple[tuple[str, Level], ...]  # what coefficients 1.. belong to
    coefficients: NDArray[np.float64]
    unseen_CU: NDArray[np.float64]  # orthonormal directions of coefficients that the runs say nothing about
    spare: int  # runs minus what they determine

    def difference(self, factor: str, level: Level) -> float | None:
        """Level minus reference, everything else equal; None where the runs do not determine it."""
        index = self._index(factor, level)
        return float(self.coefficients[index]) if not self._unseen(index).any() else None

    def aliases(self, factor: str, level: Level) -> tuple[str, ...]:
        """Other factors that change together with this level, so that it cannot be told apart from them."""
        index = self._index(factor, level)
        shared = self._unseen(index)
        return tuple(
            dict.fromkeys(
                name for (name, _), part in zip(self.columns, shared[1:], strict=True) if part and name != factor
            )
        )

    def _index(self, factor: str, level: Level) -> int:
        return 1 + self.columns.index((factor, level))

    def _unseen(self, index: int) -> NDArray[np.bool_]:
        """(C,) coefficients that trade off against this one without any run telling."""
        share = self.unseen_CU @ self.unseen_CU[index]
        return np.abs(share) > TOLERANCE  # type: ignore[no-any-return]  # numpy's own gap


def design(runs: Sequence[Run], factors: Sequence[str], order: Mapping[str, Sequence[str]] | None = None) -> Design:
    """The runs by levels. `order` names levels as the file lists them, the first is the reference; numbers ascend.

    Factors with fewer than two active levels are no factors of these runs and are left out.
    """
    level_of = {factor: _levels([values.get(factor) for values, _ in runs]) for factor in factors}
    every = [{factor: level_of[factor](values.get(factor)) for factor in factors} for values, _ in runs]
    tried = {factor: {level for row in every if (level := row[factor]) is not None} for factor in factors}
    kept = {factor: found for factor, found in tried.items() if len(found) > 1}
    levels = {factor: tuple(sorted(found, key=_order((order or {}).get(factor, ())))) for factor, found in kept.items()}
    return Design(
        levels=levels,
        rows=tuple({factor: row[factor] for factor in kept} for row in every),
        scores=np.array([score for _, score in runs], dtype=np.float64),
    )


def paired_gains(runs: Design, factor: str, level: Level, reference: Level) -> tuple[float, ...]:
    """Mean score at the level minus that at the reference, in every cell of settings that has both."""
    sides = {side: np.flatnonzero(runs.runs_at(factor, side)) for side in (reference, level)}
    # A parameter that is inactive throughout one side says nothing about which cells belong together.
    others = [
        key
        for key in runs.levels
        if key != factor and all(any(runs.rows[i][key] is not None for i in side) for side in sides.values())
    ]
    cells: dict[Level, dict[tuple[Level | None, ...], list[float]]] = {reference: {}, level: {}}
    for side, indices in sides.items():
        for i in indices:
            cells[side].setdefault(tuple(runs.rows[i][key] for key in others), []).append(float(runs.scores[i]))
    common = [cell for cell in cells[reference] if cell in cells[level]]
    return tuple(float(np.mean(cells[level][cell]) - np.mean(cells[reference][cell])) for cell in common)


def _fit(runs: Design) -> Fit:
    columns = tuple((factor, level) for factor, levels in runs.levels.items() for level in levels[1:])
    matrix = np.column_stack([np.ones(len(runs.rows)), *(_column(runs, factor, level) for factor, level in columns)])
    coefficients, _, rank, _ = np.linalg.lstsq(matrix, runs.scores, rcond=None)
    # With more columns than runs the short form lacks the directions that nobody sees; the long one has a square of the
    # runs besides, .8 GB for 10,000.
    directions = np.linalg.svd(matrix, full_matrices=matrix.shape[0] < matrix.shape[1])[2]
    unseen = np.asarray(directions[rank:].T, dtype=np.float64)
    return Fit(columns, np.asarray(coefficients, dtype=np.float64), unseen, len(runs.rows) - int(rank))


def _column(runs: Design, factor: str, level: Level) -> NDArray[np.float64]:
    """1 at the level, 0 at others; inactive runs stand at the mean of the active ones.

    So the effect of a plain U-Net is against the mean over encoders, as it is over pairs.
    """
    active = np.array([row[factor] is not None for row in runs.rows])
    at_level = runs.runs_at(factor, level)
    return np.where(active, at_level, at_level[active].mean())


def _levels(values: Sequence[Value]) -> Callable[[Value], Level | None]:
    """value -> level; None (inactive) stays None."""
    every = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(set(every)) <= MAX_LEVELS:
        return lambda value: None if value is None else Level(value_text(value), _position(value))
    low, high = (float(edge) for edge in np.quantile(every, [1 / 3, 2 / 3]))
    names = (
        f"below {value_text(low)}",
        f"{value_text(low)} to {value_text(high)}",
        f"above {value_text(high)}",
    )

    def third(value: Value) -> Level | None:
        if not isinstance(value, int | float):
            return None if value is None else Level(value_text(value))
        index = int(value > low) + int(value > high)
        return Level(names[index], float(index))

    return third


def _position(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _order(names: Sequence[str]) -> Callable[[Level], tuple[bool, float, int, str]]:
    """Numbers ascend; names come in the given order, then by the alphabet."""
    places = {name: place for place, name in enumerate(names)}

    def key(level: Level) -> tuple[bool, float, int, str]:
        return (level.position is None, level.position or 0.0, places.get(level.name, len(places)), level.name)

    return key
