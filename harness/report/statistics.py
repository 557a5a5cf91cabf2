"""What matters: differences between runs that agree in everything but one factor. Numpy only.

A *pair* is a cell of settings in which two levels of the factor were both tried; its difference is the mean
score at one level minus the mean at the other. Parameters that are inactive at one of the two levels (a plain
U-Net has no encoder) do not tell cells apart. A numeric parameter with more than MAX_LEVELS values is cut
into thirds of the runs at hand, both as a factor and when cells are matched. Spread and interval are over
these pairs of training runs, not over patients.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.report.queries import Trial, Value
from harness.report.wording import value_text

MAX_LEVELS = 5
MIN_PAIRS = 4
# Two-sided 95 % quantiles of Student's t for 1..30 degrees of freedom.
T_95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contrast:
    """`better` over `worse` on the pairs at hand; ordered so that the mean gain is not negative."""

    factor: str
    better: str
    worse: str
    gains: tuple[float, ...]  # one per pair, in units of the score

    @property
    def pairs(self) -> int:
        """Number of paired cells."""
        return len(self.gains)

    @property
    def mean(self) -> float:
        """Mean gain over the pairs."""
        return float(np.mean(self.gains))

    @property
    def sd(self) -> float | None:
        """Standard deviation over the pairs; None for a single one."""
        return float(np.std(self.gains, ddof=1)) if self.pairs > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % t-interval of the mean over pairs; None below MIN_PAIRS."""
        if self.sd is None or self.pairs < MIN_PAIRS:
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


def contrasts(
    trials: Sequence[Trial],
    factors: Sequence[str],
    score: Callable[[Trial], float | None],
    *,
    minimize: bool = False,
) -> tuple[Contrast, ...]:
    """Every pair of levels of every factor that share at least one cell, in the order of `factors`.

    Search runs only: replicates are of the best settings, and would weigh these more.
    """
    runs = [(trial, value) for trial in trials if trial.replicate_of is None and (value := score(trial)) is not None]
    levels = {factor: _levels([trial.parameters.get(factor) for trial, _ in runs]) for factor in factors}
    rows = [({factor: levels[factor](trial.parameters.get(factor)) for factor in factors}, s) for trial, s in runs]
    found: list[Contrast] = []
    for factor in factors:
        tried = sorted({level for row, _ in rows if (level := row[factor]) is not None}, key=_order)
        for low, high in _level_pairs(tried):
            gains = _paired(rows, factor, low, high)
            if gains:
                found.append(_oriented(factor, low, high, gains, minimize))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Level:
    """A factor's level: its name, and where it sorts."""

    name: str
    position: float | None = None


def _levels(values: Sequence[Value]) -> Callable[[Value], Level | None]:
    """value -> level; None (inactive) stays None."""
    numbers = sorted({float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)})
    if len(numbers) <= MAX_LEVELS:
        return lambda value: None if value is None else Level(value_text(value), _position(value))
    every = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
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


def _paired(
    rows: Sequence[tuple[Mapping[str, Level | None], float]], factor: str, low: Level, high: Level
) -> list[float]:
    """high - low in every cell that has both."""
    sides = {level: [(row, score) for row, score in rows if row[factor] == level] for level in (low, high)}
    # A parameter that is inactive throughout one side says nothing about which cells belong together.
    others = [
        key
        for key in rows[0][0]
        if key != factor and all(any(row[key] is not None for row, _ in side) for side in sides.values())
    ]
    cells: dict[Level, dict[tuple[Level | None, ...], list[float]]] = {low: {}, high: {}}
    for level, side in sides.items():
        for row, score in side:
            cells[level].setdefault(tuple(row[key] for key in others), []).append(score)
    common = [cell for cell in cells[low] if cell in cells[high]]
    return [float(np.mean(cells[high][cell]) - np.mean(cells[low][cell])) for cell in common]


def _level_pairs(levels: Sequence[Level]) -> list[tuple[Level, Level]]:
    """All pairs up to four levels; beyond, each against the first: 20 encoders would make 190 comparisons."""
    if len(levels) <= 4:
        return list(itertools.combinations(levels, 2))
    return [(levels[0], level) for level in levels[1:]]


def _oriented(factor: str, low: Level, high: Level, gains: list[float], minimize: bool) -> Contrast:
    signed = [-gain for gain in gains] if minimize else gains
    if np.mean(signed) >= 0:
        return Contrast(factor, high.name, low.name, tuple(signed))
    return Contrast(factor, low.name, high.name, tuple(-gain for gain in signed))


def _position(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _order(level: Level) -> tuple[bool, float, str]:
    return (level.position is None, level.position or 0.0, level.name)
