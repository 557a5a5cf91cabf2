"""What the figures show, computed; how they look is for a person."""

from __future__ import annotations

import cv2
import numpy as np

from harness.config.labels import BUILTIN
from harness.config.palette import KNOWN, class_colours
from harness.drawing import drawn
from harness.scores import Scheme
from harness.trial.figures import (
    confusion,
    confusion_figure,
    curves_figure,
)

SCHEME = Scheme(tuple(range(8)), BUILTIN["unicorn3"])


def matrix(**cells: int) -> np.ndarray:
    """`matrix(s1p2=5)`: 5 pixels of source id 1 predicted as column 2."""
    counts = np.zeros((8, 3), np.int64)
    for name, count in cells.items():
        counts[int(name[1]), int(name[3]) - 1] = count
    return counts


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


def test_beside_it_stands_the_percent_of_the_predicted_class() -> None:
    """Of 80 pixels predicted as tumor 60 are tumor (75 %) and 20 stroma; nothing was predicted as rest: null."""
    found = confusion([matrix(s1p1=60, s2p1=20, s2p2=7)], SCHEME)
    assert found.percent_of_predicted[:, 0].tolist() == [75.0, 25.0, 0.0]
    document = found.document()
    assert document["percent_of_predicted"] == [[75.0, 0.0, None], [25.0, 100.0, None], [0.0, 0.0, None]]


def test_as_paper_has_a_first_column_for_predicted_undefined() -> None:
    """1 of 4 tumor pixels is predicted as undefined: 25 % of tumor, all of what was predicted so."""
    scheme = Scheme(tuple(range(8)), BUILTIN["unicorn3"], undefined_column=True)
    counts = np.zeros((8, 4), np.int64)
    counts[1, :2] = (1, 3)
    found = confusion([counts], scheme)
    assert found.columns == ("undefined", "tumor", "stroma", "rest")
    assert found.percent[0].tolist() == [25.0, 75.0, 0.0, 0.0]
    assert found.percent_of_predicted[0, :2].tolist() == [100.0, 100.0]
    titles = [axes.get_title(loc="left") for axes in confusion_figure(found, "All").axes]
    assert titles == ["% of the true class, and pixels", "% of the predicted class"]


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
    history = [{"train/loss": 1.0, "val/loss": 0.9, "val/iou": 0.2, "lr": 1e-3}] * 2
    figures = (
        confusion_figure(confusion([matrix(s1p1=1)], SCHEME), "All"),
        curves_figure(history, 1),
    )
    for figure in figures:
        decoded = cv2.imdecode(np.frombuffer(drawn(figure), np.uint8), cv2.IMREAD_COLOR)
        assert min(decoded.shape[:2]) > 100
        assert max(decoded.shape[:2]) < 2000
