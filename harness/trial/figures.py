"""A trial's pictures: confusion matrices, a gallery of regions, curves. Computed, then drawn, then written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.palette import CORRECT_RGB, UNDEFINED_RGB, WRONG_RGB, hex_colour
from harness.data.png import read_image
from harness.drawing import (
    FAINT,
    INK,
    Rgb,
    as_picture,
    canvas,
    class_marks,
    coloured,
    drawn,
    short_count,
    shortened,
    wrapped,
)
from harness.files import write_bytes, write_json
from harness.scores import Matrix, RoiMatrices, Scheme, class_confusion, pooled, score_matrix

if TYPE_CHECKING:  # torch stays out, so that a report may draw with these too
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.train import FitResult, TrialData

GALLERY_SIDE_PX = 400  # regions are shrunk to this before drawing; a whole one may have 25 megapixels
GALLERY_WIDTH_IN = 2.45  # of one picture


@dataclass(frozen=True, slots=True)
class Confusion:
    """Pixels of true class (rows) by predicted class (columns), undefined and ignored truth left out."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: Matrix

    @property
    def percent(self) -> NDArray[np.float64]:
        """Of the true class's pixels: rows sum to 100; a class without a pixel is NaN."""
        totals = self.counts.sum(axis=1, keepdims=True).astype(np.float64)
        return np.where(totals > 0, 100 * self.counts / np.maximum(totals, 1), np.nan)

    def document(self) -> dict[str, Any]:
        """For confusion.json; a row without a pixel is null."""
        percent = [None if np.isnan(row).any() else row.tolist() for row in self.percent]
        return {
            "rows": list(self.rows),
            "columns": list(self.columns),
            "counts": self.counts.tolist(),
            "percent": percent,
        }


@dataclass(frozen=True, slots=True)
class GalleryRow:
    """One region, small enough to draw. Masks hold columns of the matrix: 0 undefined, 1..K classes."""

    rank: str
    name: str
    iou: float
    image_HWC: Rgb
    truth_HW: NDArray[np.uint8]
    predicted_HW: NDArray[np.uint8]


def write_figures(folder: Path, data: TrialData, result: FitResult, *, images: Mapping[str, Path]) -> None:
    """Draw all figures of a trial into `folder`. `images`: ROI name -> its image file."""
    scheme, rois = data.scheme, result.evaluation.rois
    everywhere = confusion([roi.matrix for roi in rois], scheme)
    mixed = confusion([roi.matrix_non_homogeneous for roi in rois], scheme)
    write_json(folder / "confusion.json", {"all": everywhere.document(), "non_homogeneous": mixed.document()})
    write_bytes(folder / "confusion.png", drawn(confusion_figure(everywhere, "All validation pixels")))
    write_bytes(
        folder / "confusion_non_homogeneous.png",
        drawn(confusion_figure(mixed, "Validation pixels in non-homogeneous cells")),
    )
    rows = gallery(data, result, images)
    write_bytes(folder / "gallery.png", drawn(gallery_figure(rows, scheme.columns)))
    write_bytes(folder / "curves.png", drawn(curves_figure(result.progress.history, result.best_epoch)))


def confusion(matrices: Sequence[Matrix], scheme: Scheme) -> Confusion:
    """The pooled confusion of some regions."""
    return Confusion(scheme.labels.class_names, scheme.columns, class_confusion(pooled(matrices), scheme))


def chosen_rois(rois: Sequence[RoiMatrices], scheme: Scheme) -> list[tuple[str, RoiMatrices, float]]:
    """The best, median and worst region by macro IoU; fewer when there are fewer."""
    scored = [(roi, score_matrix(roi.matrix, scheme, per_class=False)["iou"]) for roi in rois]
    ranked = sorted(((iou, roi.name, roi) for roi, iou in scored if iou is not None), reverse=True)
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    if len(ranked) < len(places):
        places = {"best": 0, "worst": 1} if len(ranked) == 2 else {"only": 0} if ranked else {}
    return [(rank, ranked[place][2], ranked[place][0]) for rank, place in places.items()]


def gallery(data: TrialData, result: FitResult, images: Mapping[str, Path]) -> list[GalleryRow]:
    """The chosen regions with image, truth and prediction."""
    places = {roi.name: number for number, roi in enumerate(data.validation.rois)}
    rows = []
    for rank, roi, iou in chosen_rois(result.evaluation.rois, data.scheme):
        image_HWC, _ = read_image(images[roi.name])
        source_HW = data.validation.roi_mask(places[roi.name])
        rows.append(
            GalleryRow(
                rank=rank,
                name=roi.name,
                iou=iou,
                image_HWC=_small(image_HWC, cv2.INTER_AREA),
                truth_HW=_classes_of(_small(source_HW, cv2.INTER_NEAREST), data.scheme),
                predicted_HW=_small(result.evaluation.predictions[roi.name], cv2.INTER_NEAREST),
            )
        )
    return rows


def error_map(truth_HW: NDArray[np.uint8], predicted_HW: NDArray[np.uint8]) -> Rgb:
    """Right in grey, wrong in dark red, undefined truth in white."""
    picture = np.empty((*truth_HW.shape, 3), np.uint8)
    picture[:] = CORRECT_RGB
    picture[truth_HW != predicted_HW] = WRONG_RGB
    picture[truth_HW == 0] = UNDEFINED_RGB
    return picture


def confusion_figure(confusion: Confusion, title: str) -> Figure:
    """Percent of the true class in each cell, its pixels below; darker is more."""
    percent, counts = confusion.percent, confusion.counts
    height, width = counts.shape
    figure = canvas(2.1 + 0.95 * width, 1.5 + 0.72 * height)
    axes = figure.subplots()
    axes.imshow(np.nan_to_num(percent), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row in range(height):
        for column in range(width):
            share = percent[row, column]
            text = "n/a" if np.isnan(share) else f"{share:.1f} %\n{short_count(counts[row, column])}"
            colour = "white" if share > 55 else INK if counts[row, column] else FAINT
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=colour)
    axes.set_xticks(range(width), [wrapped(name) for name in confusion.columns], fontsize=9)
    totals = counts.sum(axis=1)
    labels = [f"{wrapped(name)}\n({short_count(n)} px)" for name, n in zip(confusion.rows, totals, strict=True)]
    axes.set_yticks(range(height), labels, fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", fontsize=9.5)
    axes.set_ylabel("true", fontsize=9.5)
    axes.set_title(f"{title}: % of the true class, and pixels", fontsize=10.5, loc="left")
    return figure


def gallery_figure(rows: Sequence[GalleryRow], columns: Sequence[str]) -> Figure:
    """One line per region: image, truth, prediction, errors."""
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
        line[0].set_ylabel(f"{row.rank}\nIoU {row.iou:.3f}", fontsize=9)
        line[0].set_xlabel(shortened(row.name), fontsize=7, color="#666666", labelpad=2)
    for ax, title in zip(axes[0], ("image", "truth", "prediction", "errors"), strict=True):
        ax.set_title(title, fontsize=10)
    marks = [*class_marks(names), Patch(facecolor=hex_colour(WRONG_RGB), label="wrong")]
    figure.legend(handles=marks, loc="outside lower center", ncols=5, fontsize=8.5, frameon=False)
    return figure


def curves_figure(history: Sequence[Mapping[str, float]], best_epoch: int) -> Figure:
    """Losses, exact validation scores and the learning rate by epoch; the best epoch is marked."""
    figure = canvas(10.2, 3.1)
    loss, score, rate = figure.subplots(1, 3, width_ratios=(1.15, 1.15, 0.8))
    lines = (
        (loss, "loss", (("train/loss", "training", "#0072b2"), ("val/loss", "validation", "#d55e00"))),
        (
            score,
            "validation score",
            (
                ("val/iou", "IoU", "#0072b2"),
                ("val/dice", "Dice", "#d55e00"),
                ("val/yardstick", "yardstick", "#009e73"),
            ),
        ),
        (rate, "learning rate", (("lr", "", "#444444"),)),
    )
    for axes, title, series in lines:
        for name, label, colour in series:
            _line(axes, history, name, label, colour)
        _dress(axes, title, best_epoch, len(history))
    rate.set_yscale("log")
    score.set_ylim(0, 1)
    return figure


def _line(axes: Axes, history: Sequence[Mapping[str, float]], name: str, label: str, colour: str) -> None:
    points = [(epoch, values[name]) for epoch, values in enumerate(history, start=1) if name in values]
    if points:
        marker = "o" if len(points) < 30 else None
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            label=label or None,
            marker=marker,
            markersize=3,
            linewidth=1.6,
        )


def _dress(axes: Axes, title: str, best_epoch: int, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.axvline(best_epoch, color="#999999", linewidth=1, linestyle=":")
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(f"epoch (dotted: best, {best_epoch})", fontsize=8.5)
    axes.set_xlim(0.5, max(epochs, 1) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=8)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(fontsize=8, frameon=False)


def _small(pixels: NDArray[np.uint8], interpolation: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    shrink = min(1.0, GALLERY_SIDE_PX / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), np.uint8)


def _classes_of(source_HW: NDArray[np.uint8], scheme: Scheme) -> NDArray[np.uint8]:
    """Source ids as 1..K; undefined and ignored ids as 0."""
    table = np.zeros(256, np.uint8)
    for source_id in scheme.source_ids:
        table[source_id] = scheme.labels.class_of(source_id) or 0
    return table[source_HW]
