"""Regions side by side: which ones to show, as what is on disk now, and small enough to draw. Loads no torch.

A region is shown only while its files still give the matrix that was scored: a picture of other pixels than those
judged would be worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.config.labels import UNDEFINED
from harness.config.palette import CORRECT_RGB, UNDEFINED_RGB, WRONG_RGB
from harness.data.png import read_header, read_image, read_mask
from harness.data.tiger import Roi
from harness.drawing import Classes, Rgb
from harness.errors import BadInput
from harness.scores import RoiMatrices, Scheme, score_matrix, source_matrix

FIXED_ROIS = 4

# What a line is called, its region, and its macro IoU (None: no defined pixel).
Chosen = tuple[str, RoiMatrices, float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """The truth of one region and what one or several trials said, at its own pixels.

    Truth: 0 undefined, 1..K classes. Predictions: 1..K, and 0 where a trial may say `undefined`.
    """

    truth_HW: Classes
    predicted_HW: tuple[Classes, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """Where a trial keeps its predictions, and what it scored on one region."""

    folder: Path
    scored: RoiMatrices
    scheme: Scheme


def chosen_rois(rois: Sequence[RoiMatrices], scheme: Scheme) -> list[Chosen]:
    """The best, median and worst region by macro IoU; fewer when there are fewer."""
    scored = [(roi, roi_iou(roi, scheme)) for roi in rois]
    ranked = sorted(((iou, roi.name, roi) for roi, iou in scored if iou is not None), reverse=True)
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    if len(ranked) < len(places):
        places = {"best": 0, "worst": 1} if len(ranked) == 2 else {"only": 0} if ranked else {}
    return [(rank, ranked[place][2], ranked[place][0]) for rank, place in places.items()]


def fixed_rois(rois: Sequence[RoiMatrices], scheme: Scheme, *, at_most: int = FIXED_ROIS) -> list[Chosen]:
    """The regions with most different source ids in their truth, ties by name; never by a score.

    A matrix's row sums are the truth's pixels at the region's own resolution, whatever was predicted and
    however the region was cut.
    """
    named = [row for row, source_id in enumerate(scheme.source_ids) if source_id != UNDEFINED]
    ids = {roi.name: int(np.count_nonzero(roi.matrix[named].sum(axis=1))) for roi in rois}
    picked = sorted(rois, key=lambda roi: (-ids[roi.name], roi.name))[:at_most]
    return [(f"{ids[roi.name]} labels", roi, roi_iou(roi, scheme)) for roi in picked if ids[roi.name]]


def roi_iou(roi: RoiMatrices, scheme: Scheme) -> float | None:
    """Macro IoU of one region over the classes of its truth."""
    return score_matrix(roi.matrix, scheme, per_class=False)["iou"]


def read_photo(roi: Roi) -> Rgb:
    """(H, W, 3) pixels of a region's image. BadInput when it is gone, or of another size than its mask."""
    image_HWC, mask = read_image(roi.image)[0], read_header(roi.mask)
    if image_HWC.shape[:2] != (mask.height_px, mask.width_px):
        raise BadInput(f"{roi.name}: its image is no longer as large as its mask")
    return image_HWC


def read_judged(roi: Roi, said: Sequence[Said]) -> Judged:
    """The truth of a region and its predictions, under the classes of the first.

    BadInput, by the region's name, when a file is gone or no longer gives the matrix that was scored.
    """
    source_HW = read_mask(roi.mask)[0]
    predicted = []
    for one in said:
        predicted_HW = read_mask(one.folder / f"{roi.name}.png")[0]
        if not _gives(source_HW, predicted_HW, one):
            raise BadInput(f"{roi.name}: its mask, or what {one.folder.parent.name} predicted, changed since the sweep")
        predicted.append(predicted_HW)
    return Judged(classes_of(source_HW, said[0].scheme), tuple(predicted))


def classes_of(source_HW: NDArray[np.uint8], scheme: Scheme) -> Classes:
    """Source ids as 1..K; undefined and ignored ids as 0."""
    table = np.zeros(256, np.uint8)
    for source_id in scheme.source_ids:
        table[source_id] = scheme.labels.class_of(source_id) or 0
    return table[source_HW]


def error_map(truth_HW: Classes, predicted_HW: Classes) -> Rgb:
    """Right in grey, wrong in dark red, undefined truth in white."""
    picture = np.empty((*truth_HW.shape, 3), np.uint8)
    picture[:] = CORRECT_RGB
    picture[truth_HW != predicted_HW] = WRONG_RGB
    picture[truth_HW == 0] = UNDEFINED_RGB
    return picture


def shrunk_image(pixels_HWC: Rgb, side_px: int) -> Rgb:
    """An image whose longer side is at most `side_px`, by averaging."""
    return _shrunk(pixels_HWC, side_px, average=True)


def shrunk_classes(classes_HW: Classes, side_px: int) -> Classes:
    """Classes, or ids, of the same size as such an image, by nearest neighbour: a mean of classes is none."""
    return _shrunk(classes_HW, side_px, average=False)


def _shrunk(pixels: NDArray[np.uint8], side_px: int, *, average: bool) -> NDArray[np.uint8]:
    import cv2  # .02 s that a report without pictures need not spend

    height, width = pixels.shape[:2]
    shrink = min(1.0, side_px / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(
        cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if average else cv2.INTER_NEAREST), np.uint8
    )


def _gives(source_HW: Classes, predicted_HW: Classes, said: Said) -> bool:
    if source_HW.shape != predicted_HW.shape:
        return False
    try:
        return bool(np.array_equal(source_matrix(source_HW, predicted_HW, said.scheme), said.scored.matrix))
    except ValueError:  # a value that the scheme has not
        return False
