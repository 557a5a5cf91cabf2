"""A comparison as tables of text. Nothing is computed here but what a cell shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.report.compare import Comparison, ScoreLine, Settings, scored_of
from harness.report.moves import UNDEFINED_COLUMN, changes, class_columns
from harness.report.queries import Value
from harness.report.sides import Side
from harness.report.tables import Cell, Links, Table, model_of, number, relative_url, trial_name
from harness.report.wording import (
    ABSENT,
    MINUS,
    count_text,
    difference_text,
    duration_text,
    metric_text,
    million_text,
    score_text,
    value_text,
)

COST_NAMES = {
    "training_seconds": "Training time",
    "epochs_trained": "Epochs trained",
    "seconds_per_epoch": "Time of an epoch, median",
    "parameters": "Parameters of the network",
    "peak_memory_bytes": "Peak memory",
}


def trials_table(found: Comparison, links: Links | None, folder: Path) -> Table:
    """Which trials these are."""
    rows = []
    for side in found.sides:
        trial = side.trial
        own = relative_url(trial.folder, folder)
        run = links.run(trial) if links else None
        rows.append(
            (
                Cell(side.letter),
                Cell(model_of(trial), note=trial.uid, href=run or own, note_href=own),
                Cell(trial_name(trial)),
                Cell(f"{side.sweep.name}, generation {side.sweep.generation}"),
                Cell(trial.scored.label_map if trial.scored else ABSENT),
                Cell(trial.device or ABSENT),
                Cell(trial.state),
            )
        )
    columns = ("", "Model", "Trial", "Sweep", "Label map", "Device", "State")
    return Table("The trials", columns, tuple(rows), sortable=False)


def settings_table(caption: str, settings: Settings, sides: Sequence[Side]) -> Table:
    """Only what differs; the equal ones are counted below."""
    rows = [
        (Cell(line.name.replace("_", " ")), *(Cell(value_text(value)) for value in line.values))
        for line in settings.different
    ]
    note = f"{settings.equal} more are equal." + (
        f" Not known of {', '.join(settings.unknown)}." if settings.unknown else ""
    )
    return Table(caption, ("Name", *_letters(sides)), tuple(rows), note=note, sortable=False)


def scores_table(found: Comparison) -> Table:
    """Every score, its difference to A's, and who is better."""
    rows = tuple(_score_row(line) for line in found.scores)
    note = "Scores pool the pixels of all validation ROIs. Nobody is named better within 0.0005."
    return Table("Scores", ("Score", *_score_columns(found.sides)), rows, note=note)


def patients_table(found: Comparison) -> Table:
    """The objective of every patient, the best for B first."""
    caption = f"{metric_text(found.metric)} by patient".replace("yardstick", "Yardstick")
    note = "Each patient's pixels pooled; classes that a patient's truth has not are left out of the mean."
    return Table(
        caption, ("Patient", *_score_columns(found.sides)), tuple(_score_row(p) for p in found.patients), note=note
    )


def change_tables(found: Comparison) -> list[Table]:
    """For B, C, ...: percent points of each true class that it calls otherwise than A."""
    return [_change_table(found, side) for side in found.sides[1:] if side.letter in found.moved]


def cost_table(found: Comparison) -> Table:
    """What each trial cost."""
    rows = [
        (Cell(COST_NAMES[line.name]), *(_cost_cell(line.name, value) for value in line.values)) for line in found.cost
    ]
    return Table("Cost", ("", *_letters(found.sides)), tuple(rows), sortable=False)


def cost_text(name: str, value: Value) -> str:
    """A cost as people read it."""
    if not isinstance(value, int | float):
        return ABSENT
    if name == "parameters":
        return million_text(value)
    if name == "peak_memory_bytes":
        return f"{value / 1e9:.1f} GB"
    return str(value) if name == "epochs_trained" else duration_text(value)


def _letters(sides: Sequence[Side]) -> tuple[str, ...]:
    return tuple(side.letter for side in sides)


def _score_columns(sides: Sequence[Side]) -> tuple[str, ...]:
    first, *others = _letters(sides)
    return (first, *others, *(f"{letter} {MINUS} {first}" for letter in others), "Better")


def _score_row(line: ScoreLine) -> tuple[Cell, ...]:
    return (
        Cell(line.text),
        *(number(value, score_text(value)) for value in line.values),
        *(number(value, difference_text(value)) for value in line.differences),
        Cell(line.better or ABSENT),
    )


def _change_table(found: Comparison, side: Side) -> Table:
    first, other = scored_of(found.sides[0]), scored_of(side)
    names = first.scheme.labels.class_names
    columns = (UNDEFINED_COLUMN, *names)
    pixels, totals = changes(first, other), class_columns(first).sum(axis=1)
    points = np.divide(100 * pixels, totals[:, None], out=np.zeros(pixels.shape), where=totals[:, None] > 0)
    shown = [index for index, name in enumerate(columns) if index or np.any(pixels[:, 0])]
    deepest = float(np.abs(points).max()) or 1.0
    rows = []
    for index, name in enumerate(names):
        cells = [
            # More of the true class is better, more of any other is worse.
            number(point, _points_text(point), shade=(point if column == index + 1 else -point) / deepest,
                   title=f"{int(pixels[index, column]):+,} of {int(totals[index]):,} pixels")
            for column in shown
            for point in (float(points[index, column]),)
        ]  # fmt: skip
        rows.append((Cell(name), *cells, number(int(totals[index]), count_text(int(totals[index])))))
    return Table(
        caption=f"Confusion of {side.letter} minus that of A: percent points of the true class",
        columns=("True \\ predicted", *(columns[index] for index in shown), "True pixels"),
        rows=tuple(rows),
        note=f"Blue: {side.letter} is better; orange: A is. Every row sums to 0.",
        sortable=False,
    )


def _points_text(points: float) -> str:
    return f"{points:+.1f}".replace("-", MINUS) if abs(points) >= 0.05 else "0.0"


def _cost_cell(name: str, value: Value) -> Cell:
    return number(value if isinstance(value, int | float) else None, cost_text(name, value))
