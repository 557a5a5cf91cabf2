"""The first rows of every board on the same regions, and what they looked at."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.data.tiger import Roi
from harness.drawing import shortened
from harness.errors import BadInput
from harness.files import fingerprint
from harness.regions import (
    Said,
    fixed_rois,
    read_judged,
    read_photo,
    roi_iou,
    shrunk_classes,
    shrunk_image,
)
from harness.report.boards import Board, Row
from harness.report.queries import Sweep
from harness.report.render import Beside
from harness.report.tables import model_of, trial_name
from harness.report.tiles import (
    TILE_PX,
    Tile,
    TileGrid,
    TileRow,
    class_legend,
    class_tile,
    cohort_of,
    listed_roi,
    photo_jpeg,
)
from harness.report.wording import score_text

FINALISTS = 3
# A figure of text and smooth colours: at this quality 25 to 45 kB, where the trial's PNG has 220 to 340.
WEBP_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Explained:
    """A finalist's Grad-CAM, beside the page."""

    path: str
    caption: str
    size_px: tuple[int, int]  # width, height


@dataclass(frozen=True, slots=True)
class Finalists:
    """The first rows of one board, side by side."""

    title: str
    grid: TileGrid | None
    explained: tuple[Explained, ...]
    missing: tuple[str, ...]  # what is not drawn, and why
    command: str  # compares them in detail


def finalists(sweep: Sweep, boards: Sequence[Board], beside: Beside) -> tuple[Finalists, ...]:
    """One block for every board with a leader; fills `beside`. Reads nothing where there is no prediction."""
    led = [board for board in boards if board.leader is not None]
    cohort: Mapping[str, Roi] = {}
    gone = ""
    try:
        if any((row.trial.folder / "predictions").is_dir() for board in led for row in board.ranked[:FINALISTS]):
            cohort = cohort_of(sweep)
    except BadInput as error:
        gone = str(error).splitlines()[0]
    photos: dict[str, bytes] = {}  # the boards of a sweep show the same regions: each is decoded once
    return tuple(_block(sweep, board, cohort, gone, photos, beside) for board in led)


def _block(
    sweep: Sweep, board: Board, cohort: Mapping[str, Roi], gone: str, photos: dict[str, bytes], beside: Beside
) -> Finalists:
    rows = board.ranked[:FINALISTS]
    missing = [gone] if gone else []
    with_masks = [row for row in rows if (row.trial.folder / "predictions").is_dir()]
    if not gone:
        missing += [f"{_named(row)} has no predictions" for row in rows if row not in with_masks]
    drawn: list[TileRow] = []
    if cohort and with_masks:
        scored = with_masks[0].scored
        for place, (labels, chosen, _) in enumerate(fixed_rois(scored.rois, scored.scheme), start=1):
            try:
                roi = listed_roi(cohort, chosen.name)
                drawn.append(_tile_row(roi, labels, place, with_masks, board, photos, beside))
            except BadInput as error:
                missing.append(str(error).splitlines()[0])
    grid = _grid(board, with_masks, drawn) if drawn else None
    explained, unexplained = _explained(board, rows, beside)
    command = ["harness", "compare", *(row.trial.external or row.trial.uid for row in rows), "--sweep", sweep.name]
    return Finalists(
        board.title, grid, explained, (*missing, *unexplained), shlex.join(command) if len(rows) > 1 else ""
    )


def _tile_row(
    roi: Roi, labels: str, place: int, rows: Sequence[Row], board: Board, photos: dict[str, bytes], beside: Beside
) -> TileRow:
    scored = [next(one for one in row.scored.rois if one.name == roi.name) for row in rows]
    said = [
        Said(row.trial.folder / "predictions", one, row.scored.scheme) for row, one in zip(rows, scored, strict=True)
    ]
    judged = read_judged(roi, said)
    if roi.name not in photos:
        photos[roi.name] = photo_jpeg(shrunk_image(read_photo(roi), TILE_PX))
    names = rows[0].scored.scheme.labels.class_names
    truth_HW = shrunk_classes(judged.truth_HW, TILE_PX)
    height, width = truth_HW.shape
    image = Tile(f"tile-{fingerprint(roi.name)[:10]}.jpg", f"Image of {roi.name}", "", width, height)
    truth = replace(image, file=f"tile-{board.key}-{place}-truth.png", alt=f"Truth in {roi.name}")
    beside.tiles[image.file] = photos[roi.name]
    beside.tiles[truth.file] = class_tile(truth_HW, names)
    tiles = [image, truth]
    for row, one, predicted_HW in zip(rows, scored, judged.predicted_HW, strict=True):
        file = f"tile-{board.key}-{place}-rank{rows.index(row) + 1}.png"
        beside.tiles[file] = class_tile(shrunk_classes(predicted_HW, TILE_PX), names)
        text = f"IoU {score_text(roi_iou(one, row.scored.scheme))}"
        tiles.append(Tile(file, f"Prediction of {_named(row)} in {roi.name}, {text}", text, width, height))
    return TileRow(shortened(roi.name), f"{labels}; {roi.patient}, {roi.centre}", tuple(tiles))


def _grid(board: Board, rows: Sequence[Row], drawn: Sequence[TileRow]) -> TileGrid:
    return TileGrid(
        caption=f"The first {len(rows)} of {board.title} on the same validation regions" if len(rows) > 1
        else f"The first of {board.title} on validation regions",
        columns=(("Image", ""), ("Truth", ""), *((_named(row), trial_name(row.trial)) for row in rows)),
        rows=tuple(drawn),
        legend=class_legend(rows[0].scored.scheme.labels.class_names),
    )  # fmt: skip


def _explained(board: Board, rows: Sequence[Row], beside: Beside) -> tuple[tuple[Explained, ...], list[str]]:
    """Every finalist's Grad-CAM, smaller; and who has none (masks of another tool never have)."""
    found, missing = [], []
    for place, row in enumerate(rows, start=1):
        file = row.trial.folder / "figures" / "gradcam.png"
        picture = _webp(file) if file.is_file() else None
        if picture is None:
            missing += [] if row.trial.external else [f"{_named(row)} has no Grad-CAM"]
            continue
        name = f"gradcam-{board.key}-{place}.webp"
        beside.tiles[name], size_px = picture
        caption = f"Grad-CAM of {_named(row)} ({trial_name(row.trial)})"
        found.append(Explained(f"figures/{name}", caption, size_px))
    return tuple(found), missing


def _named(row: Row) -> str:
    return f"{row.rank}. {model_of(row.trial)}"


def _webp(file: Path) -> tuple[bytes, tuple[int, int]] | None:
    """The picture in a file, in fewer bytes, with its width and height in pixels; None where it cannot be read."""
    import cv2  # .02 s that a report without pictures need not spend

    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if picture is None:
        return None
    content = cv2.imencode(".webp", np.asarray(picture, np.uint8), [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])[1]
    return content.tobytes(), (picture.shape[1], picture.shape[0])
