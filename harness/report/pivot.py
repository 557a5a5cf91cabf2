"""Models by strata: the one table of a sweep that papers print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.inference.intervals import Interval
from harness.report.boards import YARDSTICK, Board, Row, group_boards
from harness.report.queries import Sweep
from harness.report.tables import Cell, Table, model_of, number
from harness.report.wording import ABSENT, metric_text, score_text


@dataclass(frozen=True, slots=True)
class PivotCell:
    """The first run of a model in a stratum, by its board's order."""

    score: float
    picked_from: int  # completed search runs of this model in this stratum
    seeds: int  # fresh ones that the score is a mean over; 1 for the search run itself
    best: bool  # of its column
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Pivot:
    """`cells[model, (labels, patches)]`; a model that has no scored run in a stratum has no cell."""

    metric: str
    models: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]  # (label map, patch filter)
    cells: Mapping[tuple[str, tuple[str, str]], PivotCell]

    @property
    def title(self) -> str:
        """What the cells hold."""
        picked = "the best of n completed runs" if self._picked else "one completed run each"
        name = metric_text(self.metric)
        return f"{name[0].upper()}{name[1:]} of each model in each stratum: {picked}"

    @property
    def _picked(self) -> bool:
        return any(cell.picked_from > 1 for cell in self.cells.values())

    @property
    def note(self) -> str:
        """What a reader must know of the cells."""
        single = all(cell.seeds == 1 for cell in self.cells.values())
        means = "Each is one seed" if single else "Some are means over fresh seeds, named so"
        picked = ", picked on the validation patients" if self._picked else ""
        return f"{means}{picked}. Below: 95 % interval over patients. Bold: best of its column."


def pivots_of(sweep: Sweep) -> tuple[Pivot, ...]:
    """By the objective, and by the yardstick where it is another score; none where nothing ranks."""
    by_yardstick = () if sweep.metric == YARDSTICK else (pivot(group_boards(sweep, metric=YARDSTICK)),)
    return tuple(found for found in (pivot(group_boards(sweep)), *by_yardstick) if found is not None)


def pivot(boards: Sequence[Board]) -> Pivot | None:
    """The pivot of group boards of one metric; None where nothing is ranked."""
    found: dict[tuple[str, tuple[str, str]], list[Row]] = {}
    for board in boards:
        for row in board.ranked:
            if row.trial.external is None:
                column = (board.title, str(row.trial.value("patches") or "all"))
                found.setdefault((model_of(row.trial), column), []).append(row)
    if not found:
        return None
    columns = tuple(sorted({column for _, column in found}))
    leaders = {column: _first([rows[0] for (_, place), rows in found.items() if place == column]) for column in columns}
    cells = {
        (model, column): PivotCell(
            score=float(rows[0].score or 0.0),
            picked_from=len(rows),
            seeds=len(rows[0].replicates) if rows[0].replicated else 1,
            best=rows[0].rank == leaders[column],
            interval=rows[0].trust.interval,
        )
        for (model, column), rows in found.items()
    }
    return Pivot(boards[0].metric, tuple(sorted({model for model, _ in found})), columns, cells)


def pivot_table(found: Pivot) -> Table:
    """The pivot for the page."""
    rows = tuple(
        (Cell(model), *(_cell(found.cells.get((model, column))) for column in found.columns)) for model in found.models
    )
    heads = tuple(f"{labels}, {patches.replace('_', '-')} patches" for labels, patches in found.columns)
    return Table(found.title, ("Model", *heads), rows, note=found.note)


def pivot_rows(found: Pivot) -> list[dict[str, object]]:
    """One row per cell, for scripts; `low` and `high` are of the 95 % interval over patients."""
    return [
        {
            "model": model,
            "labels": labels,
            "patches": patches,
            "metric": found.metric,
            "score": cell.score,
            "low": cell.interval.low if cell.interval else None,
            "high": cell.interval.high if cell.interval else None,
            "n": cell.picked_from,
            "seeds": cell.seeds,
        }
        for model in found.models
        for labels, patches in found.columns
        if (cell := found.cells.get((model, (labels, patches)))) is not None
    ]


def cell_words(cell: PivotCell) -> tuple[str, str]:
    """`("0.713", "0.62 to 0.81; n = 7, 3 seeds")`: two digits, since a pivot is narrow."""
    known = cell.interval
    interval = "" if known is None else f"{known.low:.2f} to {known.high:.2f}; "
    seeds = f", {cell.seeds} seeds" if cell.seeds > 1 else ""
    return score_text(cell.score), f"{interval}n = {cell.picked_from}{seeds}"


def _cell(cell: PivotCell | None) -> Cell:
    if cell is None:
        return number(None, ABSENT)
    score, note = cell_words(cell)
    return number(cell.score, score, note=note, strong=cell.best)


def _first(rows: Sequence[Row]) -> int | None:
    """The smallest rank: ties in a column are all bold."""
    return min((row.rank for row in rows if row.rank is not None), default=None)
