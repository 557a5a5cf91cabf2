"""A trial's pictures: confusion matrices, a gallery of regions, curves. Computed, then drawn, then written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.drawing import FAINT, INK, canvas, drawn, short_count, wrapped
from harness.files import write_bytes, write_json
from harness.regions import chosen_rois, fixed_rois
from harness.scores import Matrix, Scheme, class_confusion, pooled
from harness.trial.gallery import gallery, gallery_figure

if TYPE_CHECKING:  # torch stays out, so that a report may draw with these too
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.train import FitResult, TrialData


@dataclass(frozen=True, slots=True)
class Confusion:
    """Pixels of true class (rows) by predicted class (columns), undefined and ignored truth left out."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: Matrix

    @property
    def percent(self) -> NDArray[np.float64]:
        """Of the true class's pixels: rows sum to 100; a class without a pixel is NaN."""
        return _percent(self.counts, axis=1)

    @property
    def percent_of_predicted(self) -> NDArray[np.float64]:
        """Of the pixels predicted as a class: columns sum to 100; a class that was never predicted is NaN."""
        return _percent(self.counts, axis=0)

    def document(self) -> dict[str, Any]:
        """For confusion.json; in `percent` a row without a pixel is null, in the other the cells of such a column."""
        percent = [None if np.isnan(row).any() else row.tolist() for row in self.percent]
        of_predicted = [[None if np.isnan(x) else float(x) for x in row] for row in self.percent_of_predicted]
        return {
            "rows": list(self.rows),
            "columns": list(self.columns),
            "counts": self.counts.tolist(),
            "percent": percent,
            "percent_of_predicted": of_predicted,
        }


def write_figures(folder: Path, data: TrialData, result: FitResult, *, images: Mapping[str, Path]) -> None:
    """Draw matrices, galleries and curves into `folder`, not forced to disk. `images`: ROI name -> its image file."""
    scheme, rois = data.scheme, result.evaluation.rois
    everywhere = confusion([roi.matrix for roi in rois], scheme)
    mixed = confusion([roi.matrix_non_homogeneous for roi in rois], scheme)
    matrices = {"all": everywhere.document(), "non_homogeneous": mixed.document()}
    write_json(folder / "confusion.json", matrices, settle=False)
    own, fixed = chosen_rois(rois, scheme), fixed_rois(rois, scheme)
    rows = gallery([*own, *fixed], data, result, images)
    figures = {
        "confusion": confusion_figure(everywhere, "All validation pixels"),
        "confusion_non_homogeneous": confusion_figure(mixed, "Validation pixels in non-homogeneous cells"),
        "gallery": gallery_figure(rows[: len(own)], scheme.columns),
        "gallery_fixed": gallery_figure(rows[len(own) :], scheme.columns),
        "curves": curves_figure(result.progress.history, result.best_epoch),
    }
    for name, figure in figures.items():
        write_bytes(folder / f"{name}.png", drawn(figure), settle=False)


def confusion(matrices: Sequence[Matrix], scheme: Scheme) -> Confusion:
    """The pooled confusion of some regions."""
    return Confusion(scheme.labels.class_names, scheme.columns, class_confusion(pooled(matrices), scheme))


def confusion_figure(confusion: Confusion, title: str) -> Figure:
    """Two panels: percent of the true class with its pixels, and percent of the predicted class; darker is more."""
    height, width = confusion.counts.shape
    figure = canvas(2.2 + 2 * 0.74 * max(width, 3), 1.75 + 0.56 * max(height, 3))
    figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    of_true, of_predicted = figure.subplots(1, 2)
    counts = np.vectorize(short_count, otypes=[object])(confusion.counts)
    _cells(of_true, confusion.percent, counts)
    _cells(of_predicted, confusion.percent_of_predicted, None)
    columns = [wrapped(name) for name in confusion.columns]
    totals = [f"\n({short_count(n)} px)" for n in confusion.counts.sum(axis=0)]
    of_true.set_xticks(range(width), columns, fontsize=8)
    of_predicted.set_xticks(range(width), [a + b for a, b in zip(columns, totals, strict=True)], fontsize=8)
    names = zip(confusion.rows, confusion.counts.sum(axis=1), strict=True)
    of_true.set_yticks(range(height), [f"{wrapped(name)}\n({short_count(n)} px)" for name, n in names], fontsize=8)
    of_predicted.set_yticks([])
    of_true.set_ylabel("true", fontsize=9)
    of_true.set_title("% of the true class, and pixels", fontsize=9, loc="left")
    of_predicted.set_title("% of the predicted class", fontsize=9, loc="left")
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


def _percent(counts: Matrix, *, axis: int) -> NDArray[np.float64]:
    totals = counts.sum(axis=axis, keepdims=True).astype(np.float64)
    return np.where(totals > 0, 100 * counts / np.maximum(totals, 1), np.nan)


def _cells(axes: Axes, percent: NDArray[np.float64], below: NDArray[np.object_] | None) -> None:
    """One matrix; `below` has a second line for every cell."""
    axes.imshow(np.nan_to_num(percent), cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), share in np.ndenumerate(percent):
        known = not np.isnan(share)
        text = f"{share:.1f}" if known else "n/a"
        if known and below is not None:
            text += f"\n{below[row, column]}"
        colour = "white" if share > 55 else INK if share > 0 else FAINT
        # Out of the layout: it fits its cell, and measuring a hundred texts takes as long as drawing them.
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour, in_layout=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted", fontsize=9)


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
