"""Regions beside their truth and prediction: the trial's best, median and worst, and a fixed set.

The fixed set is picked by the truth alone, so that it is the same for every trial of a comparability group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.labels import UNDEFINED
from harness.config.palette import CORRECT_RGB, UNDEFINED_RGB, WRONG_RGB, hex_colour
from harness.data.png import read_image
from harness.drawing import Rgb, as_picture, canvas, class_marks, coloured, scale_bar, shortened
from harness.scores import RoiMatrices, Scheme, score_matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.train import FitResult, TrialData

GALLERY_SIDE_PX = 400  # regions are shrunk to this before drawing; a whole one may have 25 megapixels
GALLERY_WIDTH_IN = 2.45  # of one picture
FIXED_ROIS = 4

# What a line is called, its region, and its macro IoU (None: no defined pixel).
Chosen = tuple[str, RoiMatrices, float | None]


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """One region, small enough to draw. Masks hold 0 undefined, 1..K classes."""

    rank: str
    name: str
    iou: float | None
    um_per_px: float  # of these small pictures
    image_HWC: Rgb
    truth_HW: NDArray[np.uint8]
    predicted_HW: NDArray[np.uint8]


def chosen_rois(rois: Sequence[RoiMatrices], scheme: Scheme) -> list[Chosen]:
    """The best, median and worst region by macro IoU; fewer when there are fewer."""
    scored = [(roi, _iou(roi, scheme)) for roi in rois]
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
    return [(f"{ids[roi.name]} labels", roi, _iou(roi, scheme)) for roi in picked if ids[roi.name]]


def gallery(
    chosen: Sequence[Chosen], data: TrialData, result: FitResult, images: Mapping[str, Path]
) -> list[GalleryRow]:
    """The chosen regions with image, truth and prediction. `images`: ROI name -> its image file."""
    rows: list[GalleryRow] = []
    read: dict[str, GalleryRow] = {}  # a region chosen twice is decoded once: 25 megapixels take half a second
    for rank, roi, iou in chosen:
        if roi.name not in read:
            read[roi.name] = _gallery_row(roi.name, iou, data, result, images[roi.name])
        rows.append(replace(read[roi.name], rank=rank))
    return rows


def classes_of(source_HW: NDArray[np.uint8], scheme: Scheme) -> NDArray[np.uint8]:
    """Source ids as 1..K; undefined and ignored ids as 0."""
    table = np.zeros(256, np.uint8)
    for source_id in scheme.source_ids:
        table[source_id] = scheme.labels.class_of(source_id) or 0
    return table[source_HW]


def error_map(truth_HW: NDArray[np.uint8], predicted_HW: NDArray[np.uint8]) -> Rgb:
    """Right in grey, wrong in dark red, undefined truth in white."""
    picture = np.empty((*truth_HW.shape, 3), np.uint8)
    picture[:] = CORRECT_RGB
    picture[truth_HW != predicted_HW] = WRONG_RGB
    picture[truth_HW == 0] = UNDEFINED_RGB
    return picture


def gallery_figure(rows: Sequence[GalleryRow], columns: Sequence[str]) -> Figure:
    """One line per region: image with a scale bar, truth, prediction, errors."""
    from matplotlib.patches import Patch

    names = [name for name in columns if name != "undefined"]
    heights = [min(max(GALLERY_WIDTH_IN * row.truth_HW.shape[0] / row.truth_HW.shape[1], 1.2), 3.6) for row in rows]
    figure = canvas(4 * GALLERY_WIDTH_IN + 0.5, sum(heights) + 0.28 * len(rows) + 1.0)
    axes = figure.subplots(max(len(rows), 1), 4, squeeze=False, height_ratios=heights or None)
    for ax in axes.flat:
        as_picture(ax)
    for line, row in zip(axes, rows, strict=False):
        truth, predicted = coloured(row.truth_HW, names), coloured(row.predicted_HW, names)
        pictures = (row.image_HWC, truth, predicted, error_map(row.truth_HW, row.predicted_HW))
        for ax, picture in zip(line, pictures, strict=True):
            ax.imshow(picture)
        scale_bar(line[0], width_px=row.image_HWC.shape[1], um_per_px=row.um_per_px)
        score = "n/a" if row.iou is None else f"{row.iou:.3f}"
        line[0].set_ylabel(f"{row.rank}\nIoU {score}", fontsize=9)
        line[0].set_xlabel(shortened(row.name), fontsize=7, color="#666666", labelpad=2)
    for ax, title in zip(axes[0], ("image", "truth", "prediction", "errors"), strict=True):
        ax.set_title(title, fontsize=10)
    marks = [*class_marks(names), Patch(facecolor=hex_colour(WRONG_RGB), label="wrong")]
    figure.legend(handles=marks, loc="outside lower center", ncols=5, fontsize=8.5, frameon=False)
    return figure


def _gallery_row(name: str, iou: float | None, data: TrialData, result: FitResult, image: Path) -> GalleryRow:
    (place,) = [number for number, roi in enumerate(data.validation.rois) if roi.name == name]
    image_HWC, _ = read_image(image)
    small_HWC = _small(image_HWC, cv2.INTER_AREA)
    source_HW = _small(data.validation.roi_mask(place), cv2.INTER_NEAREST)
    return GalleryRow(
        rank="",
        name=name,
        iou=iou,
        um_per_px=data.validation.rois[place].mpp * image_HWC.shape[1] / small_HWC.shape[1],
        image_HWC=small_HWC,
        truth_HW=classes_of(source_HW, data.scheme),
        predicted_HW=_small(result.evaluation.predictions[name], cv2.INTER_NEAREST),
    )


def _iou(roi: RoiMatrices, scheme: Scheme) -> float | None:
    return score_matrix(roi.matrix, scheme, per_class=False)["iou"]


def _small(pixels: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    shrink = min(1.0, GALLERY_SIDE_PX / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)
