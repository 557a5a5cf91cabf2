"""The page of a comparison: tables, curves, patients, and the places where the trials disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from harness.config.palette import hex_colour
from harness.drawing import shortened
from harness.files import safe_name, write_text
from harness.regions import shrunk_classes, shrunk_image
from harness.report import compare_tables as tables
from harness.report import figures
from harness.report.compare import Comparison, scored_of
from harness.report.compare_words import answer, shown_moves
from harness.report.render import Beside, render_page
from harness.report.sides import Side
from harness.report.tables import Links
from harness.report.tiles import Tile, TileGrid, TileRow, class_legend, class_tile, flat_png, photo_jpeg
from harness.report.windows import VERDICT_RGB, Window, most_disagreeing, verdict_counts, verdict_names, verdicts
from harness.report.wording import count_text, metric_text, percent_text

WINDOW_TILE_PX = 256  # a window of 128 um at .5 um/px, pixel by pixel


def write_comparison(found: Comparison, out: Path, *, links: Links | None = None) -> tuple[Path, list[dict[str, Any]]]:
    """Write `<out>/<A's sweep>/compare/<names>/`; returns the page and what its windows show."""
    folder = out / safe_name(found.sides[0].sweep.name) / "compare" / page_name(found.sides)
    folder.mkdir(parents=True, exist_ok=True)
    beside = Beside()
    windows, missing = most_disagreeing(found.sides) if found.comparable else ([], [])
    html = render_page(
        "compare.html.j2",
        {
            "found": found,
            "answer": answer(found),
            "trials": tables.trials_table(found, links, folder),
            "parameters": tables.settings_table("Settings that differ", found.parameters, found.sides),
            "environment": tables.settings_table("Devices and versions that differ", found.environment, found.sides),
            "cost": tables.cost_table(found),
            "scores": tables.scores_table(found),
            "moved": shown_moves(found),
            "changes": tables.change_tables(found),
            "patients": tables.patients_table(found),
            "per_patient": beside.draw("patients.svg", patients_figure(found)),
            "curves": beside.draw("curves.svg", curves_figure(found)),
            "windows": _grid(windows, found, beside) if windows else None,
            "missing": missing,
        },
    )
    beside.write(folder)
    write_text(folder / "index.html", html)
    return folder / "index.html", [_window_document(window, found) for window in windows]


def page_name(sides: Sequence[Side]) -> str:
    """A folder name: uids, with the sweep before those of another one than A's."""
    own = sides[0].sweep
    names = [
        side.trial.uid if side.sweep.folder == own.folder
        else f"{side.sweep.name}.g{side.sweep.generation}.{side.trial.uid}"
        for side in sides
    ]  # fmt: skip
    return safe_name("-vs-".join(names))


def curves_figure(found: Comparison) -> str:
    """The objective after each epoch; empty where the trials may not be compared."""
    if not found.comparable:
        return ""
    lines = []
    for series, side in enumerate(found.sides, start=1):
        epochs = side.trial.epochs
        points = tuple((float(e.number), e.values[found.metric]) for e in epochs if found.metric in e.values)
        lines.append(figures.Line(f"{side.letter}: {side.name}", points, series, side.letter))
    title = f"Learning curves: {metric_text(found.metric)} on validation against epoch"
    return figures.curves(lines, title=title, y_label=metric_text(found.metric))


def patients_figure(found: Comparison) -> str:
    """One dot a patient: how much better or worse than A; empty for fewer than two patients."""
    rows: dict[str, list[figures.Dot]] = {}
    for place, side in enumerate(found.sides[1:]):
        dots = [
            figures.Dot(value, place + 2, f"{line.text}: {value:+.3f}")
            for line in found.patients
            if (value := line.differences[place]) is not None
        ]
        if len(dots) > 1:
            rows[f"{side.letter} minus A"] = dots
    metric = metric_text(found.metric)
    return figures.strips(rows, {}, title=f"Difference in {metric} of every validation patient", x_label=metric)


def _grid(windows: Sequence[Window], found: Comparison, beside: Beside) -> TileGrid:
    letters = [side.letter for side in found.sides]
    names = scored_of(found.sides[0]).scheme.labels.class_names
    marks = [
        (hex_colour(VERDICT_RGB[verdict]), name) for verdict, name in verdict_names(letters).items() if verdict != 0
    ]
    return TileGrid(
        caption="Windows of 128 µm with most disagreeing pixels, at most two a region",
        columns=(
            ("Image", ""),
            ("Truth", ""),
            *((side.letter, side.name) for side in found.sides),
            ("Who is right", ""),
        ),
        rows=tuple(_row(place, window, names, letters, beside) for place, window in enumerate(windows, start=1)),
        legend=(*class_legend(names), *marks),
    )


def _row(place: int, window: Window, names: Sequence[str], letters: Sequence[str], beside: Beside) -> TileRow:
    judged, region = window.judged, window.roi.name
    where = f"window {place} of {region}"
    map_HW = verdicts(judged)
    contents = {
        "image.jpg": (f"Image of {where}", photo_jpeg(shrunk_image(window.image_HWC, WINDOW_TILE_PX))),
        "truth.png": (f"Truth in {where}", _drawn(judged.truth_HW, names)),
    }
    for letter, said_HW in zip(letters, judged.predicted_HW, strict=True):
        contents[f"{letter}.png"] = (f"Prediction of {letter} in {where}", _drawn(said_HW, names))
    counts = verdict_counts(map_HW, letters)
    shares = [
        f"{name} {percent_text(pixels / window.defined)} %"
        for name, pixels in counts.items()
        if name != "undefined" and pixels
    ]
    contents["right.png"] = (
        f"Who is right in {where}: {', '.join(shares)}",
        flat_png(shrunk_classes(map_HW, WINDOW_TILE_PX), VERDICT_RGB),
    )
    height, width = shrunk_classes(map_HW, WINDOW_TILE_PX).shape
    tiles = []
    for kind, (alt, content) in contents.items():
        file = f"window-{place}-{kind}"
        beside.tiles[file] = content
        tiles.append(Tile(file, alt, ", ".join(shares) if kind == "right.png" else "", width, height))
    spot = window.place
    text = (
        f"x {count_text(spot.left)}, y {count_text(spot.top)}, {spot.width} by {spot.height} px; "
        f"{count_text(spot.disagreeing)} of {count_text(window.defined)} defined pixels disagree"
    )
    return TileRow(shortened(region), text, tuple(tiles))


def _drawn(classes_HW: np.ndarray[Any, np.dtype[np.uint8]], names: Sequence[str]) -> bytes:
    return class_tile(shrunk_classes(classes_HW, WINDOW_TILE_PX), names)


def _window_document(window: Window, found: Comparison) -> dict[str, Any]:
    letters = [side.letter for side in found.sides]
    return {
        "roi": window.roi.name,
        **asdict(window.place),
        "defined": window.defined,
        "pixels": verdict_counts(verdicts(window.judged), letters),
    }
