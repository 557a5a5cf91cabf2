"""Which regions the galleries show, and how; their looks are for a person."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from harness.config.labels import BUILTIN
from harness.regions import chosen_rois, error_map, fixed_rois
from harness.scores import RoiMatrices, Scheme, source_matrix
from harness.trial.gallery import GALLERY_SIDE_PX, gallery, gallery_figure
from harness.trial.run import cohort, open_data
from tests.toy import blocks, toy_spec, write_roi

SCHEME = Scheme(tuple(range(8)), BUILTIN["unicorn3"])


def roi(name: str, cells: dict[tuple[int, int], int]) -> RoiMatrices:
    """`{(source id, column): pixels}`."""
    counts = np.zeros((8, 3), np.int64)
    for (source_id, column), pixels in cells.items():
        counts[source_id, column - 1] = pixels
    return RoiMatrices(name, "P", "C", False, counts, counts)


def half_right(name: str, right: int, wrong: int) -> RoiMatrices:
    return roi(name, {(1, 1): right, (1, 2): wrong})


def test_gallery_takes_best_median_and_worst() -> None:
    """IoU .9, .7, .5, .3, .1: the first, third and last, whatever their order."""
    rois = [half_right(name, right, 100 - right) for name, right in zip("dbaec", (30, 70, 90, 10, 50), strict=True)]
    assert [(rank, r.name) for rank, r, _ in chosen_rois(rois, SCHEME)] == [
        ("best", "a"), ("median", "c"), ("worst", "e"),
    ]  # fmt: skip


def test_gallery_of_few_regions_repeats_none() -> None:
    """Two regions: best and worst; one: the only; without a defined pixel there is no IoU."""
    empty = roi("empty", {(0, 1): 9})
    assert [rank for rank, _, _ in chosen_rois([half_right("a", 1, 0), half_right("b", 1, 1), empty], SCHEME)] == [
        "best",
        "worst",
    ]
    assert [rank for rank, _, _ in chosen_rois([half_right("a", 1, 0), empty], SCHEME)] == ["only"]
    assert chosen_rois([empty], SCHEME) == []


def test_the_fixed_set_depends_on_the_truth_alone() -> None:
    """Most source ids first (7 is one, 0 is none), ties by name; other predictions change nothing."""
    truths = {"b": (1, 2), "a": (1, 2), "none": (0,), "most": (1, 2, 3, 7), "one": (6,), "three": (0, 1, 2, 5)}

    def names(column: int) -> list[str]:
        rois = [roi(name, {(source_id, column): 10 for source_id in ids}) for name, ids in truths.items()]
        return [picked.name for _, picked, _ in fixed_rois(rois, SCHEME)]

    assert names(1) == names(3) == ["most", "three", "a", "b"]


def test_the_scale_bar_counts_in_um_after_shrinking(tmp_path: Path) -> None:
    """A region of 800 px at .5 um is drawn 400 px wide, so a pixel is 1 um and a third of it 100 um."""
    write_roi(tmp_path, "TCGA-A2-A0A1", blocks(400, 800, seed=1), noise=20)
    write_roi(tmp_path, "TCGA-A2-A0B1", blocks(64, 64, seed=2), noise=20)
    write_roi(tmp_path, "TCGA-A2-A0C1", blocks(64, 64, seed=3), noise=20)
    spec = toy_spec(tmp_path)
    rois = cohort(spec)
    data = open_data(spec, rois, tmp_path / "stores")
    (large,) = [number for number, stored in enumerate(data.validation.rois) if stored.width_px == 800]
    name, truth_HW = data.validation.rois[large].name, data.validation.roi_mask(large)
    predicted_HW = np.full(truth_HW.shape, 1, np.uint8)
    matrix = source_matrix(truth_HW, predicted_HW, data.scheme)
    chosen = [("only", RoiMatrices(name, "P", "C", False, matrix, matrix), 0.5)] * 2
    result: Any = SimpleNamespace(evaluation=SimpleNamespace(predictions={name: predicted_HW}))
    rows = gallery(chosen, data, result, {one.name: one.image for one in rois})
    assert [(row.um_per_px, row.image_HWC.shape[1]) for row in rows] == [(1.0, GALLERY_SIDE_PX)] * 2
    figure = gallery_figure(rows, data.scheme.columns)
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["100 µm", "100 µm"]
    assert len(gallery_figure([], data.scheme.columns).axes) == 4  # no region with a defined pixel: still a picture


def test_errors_are_marked_on_defined_pixels_only() -> None:
    """Right, wrong, undefined: three colours."""
    picture = error_map(np.array([[1, 1, 0]], np.uint8), np.array([[1, 2, 2]], np.uint8))
    assert len({tuple(pixel) for pixel in picture[0].tolist()}) == 3
    assert picture[0, 2].tolist() == [255, 255, 255]
