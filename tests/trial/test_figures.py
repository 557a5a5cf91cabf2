"""What the figures show, computed; how they look is for a person."""

from __future__ import annotations

import cv2
import numpy as np

from harness.config.labels import BUILTIN
from harness.config.palette import KNOWN, class_colours
from harness.drawing import drawn
from harness.scores import RoiMatrices, Scheme
from harness.trial.figures import (
    GalleryRow,
    chosen_rois,
    confusion,
    confusion_figure,
    curves_figure,
    error_map,
    gallery_figure,
)

SCHEME = Scheme(tuple(range(8)), BUILTIN["unicorn3"])


def matrix(**cells: int) -> np.ndarray:
    """`matrix(s1p2=5)`: 5 pixels of source id 1 predicted as column 2."""
    counts = np.zeros((8, 3), np.int64)
    for name, count in cells.items():
        counts[int(name[1]), int(name[3]) - 1] = count
    return counts


def roi(name: str, right: int, wrong: int) -> RoiMatrices:
    counts = matrix(s1p1=right, s1p2=wrong)
    return RoiMatrices(name, "P", "C", False, counts, counts)


def test_confusion_is_in_percent_of_the_true_class() -> None:
    """Tumor: ids 1 and 3 together, 60 right and 20 as stroma = 75 % and 25 %; undefined is left out."""
    counts = matrix(s0p1=1000, s1p1=40, s3p1=20, s3p2=20, s2p2=7)
    found = confusion([counts], SCHEME)
    assert found.percent[0].tolist() == [75.0, 25.0, 0.0]
    assert found.percent[1].tolist() == [0.0, 100.0, 0.0]
    assert found.counts[0].tolist() == [60, 20, 0]


def test_a_class_without_a_pixel_is_null_in_the_document() -> None:
    """Not 0 %: nothing is known."""
    document = confusion([matrix(s1p1=1)], SCHEME).document()
    assert document["percent"] == [[100.0, 0.0, 0.0], None, None]
    assert document["rows"] == document["columns"] == ["tumor", "stroma", "rest"]


def test_gallery_takes_best_median_and_worst() -> None:
    """IoU .9, .7, .5, .3, .1: the first, third and last, whatever their order."""
    rois = [roi(name, right, 100 - right) for name, right in zip("dbaec", (30, 70, 90, 10, 50), strict=True)]
    assert [(rank, r.name) for rank, r, _ in chosen_rois(rois, SCHEME)] == [
        ("best", "a"), ("median", "c"), ("worst", "e"),
    ]  # fmt: skip


def test_gallery_of_few_regions_repeats_none() -> None:
    """Two regions: best and worst; one: the only; without a defined pixel there is no IoU."""
    empty = RoiMatrices("empty", "P", "C", False, matrix(s0p1=9), matrix())
    assert [rank for rank, _, _ in chosen_rois([roi("a", 1, 0), roi("b", 1, 1), empty], SCHEME)] == [
        "best",
        "worst",
    ]
    assert [rank for rank, _, _ in chosen_rois([roi("a", 1, 0), empty], SCHEME)] == ["only"]
    assert chosen_rois([empty], SCHEME) == []


def test_errors_are_marked_on_defined_pixels_only() -> None:
    """Right, wrong, undefined: three colours."""
    picture = error_map(np.array([[1, 1, 0]], np.uint8), np.array([[1, 2, 2]], np.uint8))
    assert len({tuple(pixel) for pixel in picture[0].tolist()}) == 3
    assert picture[0, 2].tolist() == [255, 255, 255]


def test_known_classes_keep_their_colour_in_every_map() -> None:
    """tumor is the same orange beside any other class; unknown names get colours of their own."""
    colours = class_colours(["tumor", "fat", "vessel"])
    assert colours["tumor"] == class_colours(["stroma", "tumor"])["tumor"] == KNOWN["tumor"]
    assert len(set(colours.values())) == 3
    assert len(set(class_colours(BUILTIN["tiger7"].class_names).values())) == 7


def test_more_unknown_classes_than_colours_still_draw() -> None:
    """Thirty classes: colours repeat, no error."""
    assert len(class_colours([f"class {i}" for i in range(30)])) == 30


def test_figures_are_png_of_a_sane_size() -> None:
    """Each decodes, and none is a poster."""
    picture = np.zeros((40, 60, 3), np.uint8)
    labels = np.ones((40, 60), np.uint8)
    history = [{"train/loss": 1.0, "val/loss": 0.9, "val/iou": 0.2, "lr": 1e-3}] * 2
    figures = (
        confusion_figure(confusion([matrix(s1p1=1)], SCHEME), "All"),
        gallery_figure([GalleryRow("only", "a", 0.5, picture, labels, labels)], SCHEME.columns),
        gallery_figure([], SCHEME.columns),
        curves_figure(history, 1),
    )
    for figure in figures:
        decoded = cv2.imdecode(np.frombuffer(drawn(figure), np.uint8), cv2.IMREAD_COLOR)
        assert min(decoded.shape[:2]) > 100
        assert max(decoded.shape[:2]) < 2000
