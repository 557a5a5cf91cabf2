"""Regions beside their truth and prediction, as one figure: the trial's best, median and worst, and a fixed set.

Which ones, `harness/regions.py` says. The fixed set is picked by the truth alone, so that it is the same for every
trial of a comparability group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.config.palette import WRONG_RGB, hex_colour
from harness.data.png import read_image
from harness.drawing import Rgb, as_picture, canvas, class_marks, coloured, scale_bar, shortened
from harness.regions import Chosen, Judged, classes_of, error_map, shrunk_classes, shrunk_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from harness.train import FitResult, TrialData

GALLERY_SIDE_PX = 400  # regions are shrunk to this before drawing; a whole one may have 25 megapixels
GALLERY_WIDTH_IN = 2.45  # of one picture


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


def gallery(
    chosen: Sequence[Chosen], data: TrialData, result: FitResult, images: Mapping[str, Path]
) -> list[GalleryRow]:
    """The chosen regions with image, truth and prediction. `images`: ROI name -> its image file."""
    rows: list[GalleryRow] = []
    read: dict[str, GalleryRow] = {}  # a region chosen twice is decoded once: 25 megapixels take half a second
    for rank, roi, iou in chosen:
        if roi.name not in read:
            read[roi.name] = _trained_row(roi.name, iou, data, result, images[roi.name])
        rows.append(replace(read[roi.name], rank=rank))
    return rows


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


def gallery_row(
    rank: str, name: str, iou: float | None, image_HWC: Rgb, judged: Judged, *, um_per_px: float
) -> GalleryRow:
    """One region, shrunk; `image_HWC` and `judged` (with one prediction) at its own pixels of `um_per_px`."""
    small_HWC = shrunk_image(image_HWC, GALLERY_SIDE_PX)
    return GalleryRow(
        rank=rank,
        name=name,
        iou=iou,
        um_per_px=um_per_px * image_HWC.shape[1] / small_HWC.shape[1],
        image_HWC=small_HWC,
        truth_HW=shrunk_classes(judged.truth_HW, GALLERY_SIDE_PX),
        predicted_HW=shrunk_classes(judged.predicted_HW[0], GALLERY_SIDE_PX),
    )


def _trained_row(name: str, iou: float | None, data: TrialData, result: FitResult, image: Path) -> GalleryRow:
    (place,) = [number for number, roi in enumerate(data.validation.rois) if roi.name == name]
    truth_HW = classes_of(data.validation.roi_mask(place), data.scheme)
    judged = Judged(truth_HW, (result.evaluation.predictions[name],))
    mpp = data.validation.rois[place].mpp
    return gallery_row("", name, iou, read_image(image)[0], judged, um_per_px=mpp)
