"""What stands below the boards: classes, centres, confusion, effects, cost, every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness import scores
from harness.config.palette import class_colours, hex_colour
from harness.report.boards import Board, Row
from harness.report.queries import STATES, Sweep, Trial
from harness.report.tables import (
    MOST_ROWS,
    Cell,
    Links,
    Table,
    model_of,
    number,
    relative_url,
    rows_left_out,
    setting_of,
    trial_name,
)
from harness.report.trust import class_interval
from harness.report.wording import (
    ABSENT,
    count_text,
    duration_text,
    interval_text,
    listed,
    metric_text,
    million_text,
    percent_text,
    score_text,
    value_text,
)

# Rows of a board whose classes stand side by side.
COMPARED = 3


def per_class_table(board: Board, row: Row) -> Table:
    """Every class of the best row, with its support, and its IoU in the rows that follow on the board."""
    scored, next_rows = row.scored, board.ranked[1:COMPARED]
    names = scored.scheme.labels.class_names
    colours = class_colours(names)
    total = sum(scored.support.values())
    rows = []
    for name in names:
        pixels = scored.support[name]
        iou, dice = row.scores.get(f"val/iou_{name}"), row.scores.get(f"val/dice_{name}")
        mixed = row.scores.get(f"val/non_homogeneous/iou_{name}")
        rows.append(
            (
                Cell(name, swatch=hex_colour(colours[name]), note=None if pixels else "no pixel in the truth"),
                number(pixels, count_text(pixels)),
                number(pixels / total if total else None, percent_text(pixels / total if total else None)),
                number(iou, score_text(iou), bar=iou, note=_interval(row, f"val/iou_{name}")),
                number(dice, score_text(dice), bar=dice, note=_interval(row, f"val/dice_{name}")),
                number(mixed, score_text(mixed)),
                *(number(v, score_text(v)) for v in (other.scores.get(f"val/iou_{name}") for other in next_rows)),
            )
        )
    ordinals = tuple(f"IoU, {ordinal}" for ordinal in ("second", "third")[: len(next_rows)])
    others = listed([f"{model_of(other.trial)} ({trial_name(other.trial)})" for other in next_rows])
    return Table(
        caption=f"By class, {board.title}: {model_of(row.trial)}",
        columns=("Class", "True pixels", "Share, %", "IoU", "Dice", "IoU in mixed cells", *ordinals),
        rows=tuple(rows),
        note="Small print: 95 % intervals over patients (and fresh seeds); none for a class of one patient. Mixed "
        "cells: squares of 128 µm that hold at least two source labels. Absent classes are n/a and left out of the "
        "macro mean." + (f" Next on the board: {others}." if next_rows else ""),
    )


def _interval(row: Row, metric: str) -> str | None:
    """Over patients, and over seeds where the row has several."""
    found = class_interval(row.runs, metric)
    return None if found is None else interval_text(found.low, found.high)


def per_centre_table(board: Board, row: Row) -> Table:
    """The best row by centre, on whole-size ROIs, and in mixed cells."""
    parts = [("all ROIs", "val", row.scored.rois)]
    centres = sorted({roi.centre for roi in row.scored.rois})
    if len(centres) > 1:
        parts += [
            (
                f"centre {centre}",
                f"val/centre/{centre}",
                tuple(r for r in row.scored.rois if r.centre == centre),
            )
            for centre in centres
        ]
    if any(roi.resized for roi in row.scored.rois):
        whole = tuple(roi for roi in row.scored.rois if not roi.resized)
        parts.append(("without enlarged ROIs", "val/not_resized", whole))
    rows = []
    for name, prefix, rois in parts:
        values = [row.scores.get(f"{prefix}/{score}") for score in ("iou", "dice", "yardstick")]
        patients = len({roi.patient for roi in rois})
        cells = (number(value, score_text(value)) for value in values)
        rows.append((Cell(name), number(len(rois), str(len(rois))), number(patients, str(patients)), *cells))
    mixed = [row.scores.get(f"val/non_homogeneous/{score}") for score in ("iou", "dice", "yardstick")]
    rows.append((Cell("mixed cells only"), Cell(""), Cell(""), *(number(v, score_text(v)) for v in mixed)))
    return Table(
        caption=f"By centre, {board.title}: {model_of(row.trial)}",
        columns=("Validation part", "ROIs", "Patients", "IoU", "Dice", "Yardstick"),
        rows=tuple(rows),
        sortable=False,
    )


def confusion_table(board: Board, row: Row) -> Table:
    """Percent of each true class's pixels; a row sums to 100. Counts are the cells' titles."""
    scheme = row.scored.scheme
    counts = scores.class_confusion(row.scored.matrix, scheme)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    rows = []
    for name, line, share, total in zip(scheme.labels.class_names, counts, shares, totals[:, 0], strict=True):
        cells = [
            number(float(part), percent_text(float(part)) if total else "n/a",
                   shade=float(part), title=f"{int(n):,} of {int(total):,} pixels")
            for n, part in zip(line, share, strict=True)
        ]  # fmt: skip
        rows.append((Cell(name), *cells, number(int(total), count_text(int(total)))))
    return Table(
        caption=f"Confusion, {board.title}: percent of the true class predicted as each class",
        columns=("True \\ predicted", *scheme.columns, "True pixels"),
        rows=tuple(rows),
        sortable=False,
    )


def strata_table(sweep: Sweep) -> Table:
    """Trials by state and what they cost, per stratum."""
    rows = []
    there = {trial.state for trial in sweep.trials}
    states = [state for state in STATES if state != "paused" or state in there]  # only pruning by rungs pauses
    for stratum in dict.fromkeys(trial.stratum for trial in sweep.trials):
        trials = [trial for trial in sweep.trials if trial.stratum == stratum]
        counts = Counter(trial.state for trial in trials)
        epochs = sum(trial.epochs_trained for trial in trials)
        seconds = sum(trial.seconds_trained for trial in trials)
        numbers = (number(counts[state], str(counts[state])) for state in states)
        rows.append((Cell(stratum), *numbers, number(epochs, str(epochs)), number(seconds, duration_text(seconds))))
    return Table(
        caption="Trials by stratum",
        columns=("Stratum", *(state.capitalize() for state in states), "Epochs", "Training time"),
        rows=tuple(rows),
        note="Training time adds up the epochs of all trials, with validation and repeated attempts.",
    )


def models_table(sweep: Sweep) -> Table:
    """What each network costs: size, and seconds an epoch."""
    rows = []
    by_model: dict[str, list[Trial]] = {}
    for trial in sweep.trials:
        by_model.setdefault(model_of(trial), []).append(trial)
    for model, trials in sorted(by_model.items()):
        sizes = sorted({int(trial.started["parameters"]) for trial in trials if trial.started.get("parameters")})
        seconds = [epoch.seconds for trial in trials for epoch in trial.epochs]
        median = float(np.median(seconds)) if seconds else None
        # The head depends on the number of classes, so one network has a few sizes.
        size = ABSENT if not sizes else million_text(sizes[-1])
        rows.append(
            (
                Cell(model),
                number(len(trials), str(len(trials))),
                number(sizes[-1] if sizes else None, size),
                number(median, ABSENT if median is None else duration_text(median)),
                number(sum(seconds), duration_text(sum(seconds))),
            )
        )
    return Table(
        caption="Cost by model",
        columns=("Model", "Trials", "Parameters", "Seconds an epoch, median", "Training time"),
        rows=tuple(rows),
    )


def unranked_table(sweep: Sweep) -> Table:
    """Trials that ended without a rank, and why."""
    rows = []
    for trial in sweep.trials:
        if trial.state not in ("pruned", "failed") and not (trial.state == "complete" and trial.scored is None):
            continue
        epoch = trial.pruned_epoch or (trial.epochs[-1].number if trial.epochs else None)
        state = trial.state if trial.state != "complete" else "unreadable"
        why = trial.message or (trial.cause or "").replace("_", " ")
        if not why and trial.state == "pruned":
            why = "behind its peers at this epoch"
        rows.append(
            (
                Cell(trial_name(trial)),
                Cell(state, note=trial.cause.replace("_", " ") if trial.cause and trial.message else None),
                Cell(model_of(trial)),
                Cell(setting_of(trial, sweep, labels=False)),
                number(epoch, ABSENT if epoch is None else str(epoch)),
                Cell(why or ABSENT),
            )
        )
    columns = ("Trial", "State", "Model", "Setting", "Last epoch", "Why")
    return Table("Runs without a rank", columns, tuple(rows[:MOST_ROWS]), note=" ".join(rows_left_out(len(rows))))


def trials_table(sweep: Sweep, links: Links | None, out: Path) -> Table:
    """Every trial with every varying parameter."""
    rows = []
    for trial in sweep.trials[:MOST_ROWS]:
        score = trial.scored.scores.get(sweep.metric) if trial.scored else None
        rows.append(
            (
                Cell(trial_name(trial), href=links.run(trial) if links else None),
                Cell(trial.state),
                *(_value_cell(trial.parameters.get(key)) for key in sweep.varying),
                number(trial.seed, str(trial.seed)),
                number(score, score_text(score) if score is not None else ABSENT),
                Cell(trial.uid, href=relative_url(trial.folder, out)),
            )
        )
    heads = tuple(key.replace("_", " ") for key in sweep.varying)
    columns = ("Trial", "State", *heads, "Seed", metric_text(sweep.metric), "Folder")
    return Table("Every run", columns, tuple(rows), note=" ".join(rows_left_out(len(sweep.trials))))


def paper_table(sweep: Sweep) -> Table:
    """torchmetrics' means over validation patches, as the source report measured; beside the exact scores, unranked."""
    keys = [f"paper/{way}val/{name}" for way in ("", "best_of_any_epoch/") for name in ("iou", "dice", "loss")]
    rows = [
        (
            Cell(trial_name(trial)),
            Cell(model_of(trial)),
            Cell(setting_of(trial, sweep, labels=True) or ABSENT),
            *(number(value, score_text(value)) for value in map(_mapping(trial.result, "paper").get, keys)),
        )
        for trial in sweep.complete[:MOST_ROWS]
    ]
    if not any(_mapping(trial.result, "paper") for trial in sweep.complete):
        rows = []  # results of older versions do not have them
    for entry in sweep.document.get("reference_rows") or ():
        given = [_mapping(entry, "scores").get(name) for name in ("iou", "dice", "loss")]
        quoted = (number(value, score_text(value)) for value in given)
        unknown = number(None, ABSENT)
        note = Cell(f"{entry.get('labels')}, quoted", note=str(entry.get("note") or "split unknown"))
        rows.append((Cell(str(entry.get("name"))), Cell(ABSENT), note, unknown, unknown, unknown, *quoted))
    return Table(
        caption="Means over patches (torchmetrics), at the best epoch, and each at its own best epoch",
        columns=("Run", "Model", "Setting", "IoU", "Dice", "Loss", "Best IoU", "Best Dice", "Best loss"),
        rows=tuple(rows),
        note=" ".join(
            [
                "They depend on patch size, and the loss on batch size: for comparison with the source only.",
                *rows_left_out(len(sweep.complete)),
            ]
        ),
    )


def _mapping(holder: object, key: str) -> dict[str, float | None]:
    found = holder.get(key) if isinstance(holder, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _value_cell(value: object) -> Cell:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(value_text(value), sort=value if numeric else None, numeric=numeric)  # type: ignore[arg-type]  # a number
