"""What a row of `make bench` is."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

Figures = Mapping[str, float]
Better = Literal["less", "more"]
PACKAGE = "benchmarks.bench"


@dataclass(frozen=True, slots=True)
class Side:
    """One way of doing the work. `run` measures ONE repeat and returns its figures, the main one first.

    It is called in a fresh process with one OpenMP thread, imports what it needs, and does its set-up uncounted.
    """

    name: str
    run: Callable[[], Figures]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times less (`better="more"`: more) the side `of` has of a figure than the side `against`, or its figure
    itself where `against` is None.

    The goal is what that number should be at least; a figure itself should be at most (`better="more"`: at least) that.
    """

    of: str
    against: str | None
    figure: str | None = None  # None: the main one
    goal: float | None = None
    better: Better = "less"


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its sides, and what is compared (by default the main figure of the first with that of each other side).

    `unmeasured` says why this row cannot be run here at all; then it needs no sides. Results from elsewhere are shown.
    Raises ValueError when a comparison names no side of the row.
    """

    number: int
    work: str
    sides: tuple[Side, ...] = ()
    goal: float | None = None
    better: Better = "less"
    comparisons: tuple[Comparison, ...] = ()
    repeats: int = 5
    timeout_s: float = 3600.0  # for one repeat of one side
    unmeasured: str | None = None

    def __post_init__(self) -> None:
        names = [side.name for side in self.sides]
        if self.unmeasured is None:
            named = {one for item in self.comparisons for one in (item.of, item.against) if one is not None}
            if len(set(names)) < len(names) or not names or not named <= set(names):
                raise ValueError(f"row {self.number}: its sides are {names}, and it compares {sorted(named)}")

    @property
    def compared(self) -> tuple[Comparison, ...]:
        """The comparisons of the table."""
        if self.comparisons or not self.sides:
            return self.comparisons
        first, *others = (side.name for side in self.sides)
        return tuple(Comparison(first, other, goal=self.goal, better=self.better) for other in others)

    def side(self, name: str) -> Side:
        """The side of this name."""
        return next(side for side in self.sides if side.name == name)


@dataclass(frozen=True)
class Entry:
    """A row by its module; the module is imported when it is asked for its row."""

    module: str

    @property
    def name(self) -> str:
        """`07_scores`."""
        return self.module.rpartition(".row_")[2]

    @property
    def number(self) -> int:
        """The row's number by its module's name."""
        return int(self.name.partition("_")[0])

    @cached_property
    def row(self) -> Row:
        """The module's ROW."""
        found = importlib.import_module(self.module).ROW
        assert isinstance(found, Row) and found.number == self.number, f"{self.module}: ROW is not row {self.number}"
        return found


def entries(package: str = PACKAGE) -> list[Entry]:
    """Every row module of a package, by number."""
    (folder,) = importlib.import_module(package).__path__
    modules = [f"{package}.{file.stem}" for file in Path(folder).glob("row_[0-9][0-9]_*.py")]
    return [Entry(module) for module in sorted(modules)]
