"""What pictures share, where it can be computed; how it looks is for a person."""

from __future__ import annotations

import io

import cv2
import numpy as np
from matplotlib.figure import Figure

from harness.config.palette import KNOWN, UNDEFINED_RGB
from harness.drawing import DPI, canvas, coloured, drawn, scale_bar, short_count


def test_counts_fit_a_cell() -> None:
    """At most four characters."""
    assert [short_count(n) for n in (0, 950, 1200, 12_345, 999_400, 3_400_000, 71_000_000)] == [
        "0", "950", "1.2k", "12k", "999k", "3.4M", "71M",
    ]  # fmt: skip


def test_classes_get_the_colours_of_their_names() -> None:
    """0 is white, class 1 and 2 have the palette's colours."""
    picture = coloured(np.array([[0, 1, 2]], np.uint8), ["tumor", "stroma"])
    assert [tuple(pixel) for pixel in picture[0].tolist()] == [UNDEFINED_RGB, KNOWN["tumor"], KNOWN["stroma"]]


def test_a_scale_bar_is_a_round_length_of_at_most_a_third_of_the_picture() -> None:
    """256 px at .5 um are 128 um: a third is 42.7 um, so the bar says 25 um and spans 50 of the 256 px."""
    axes = canvas(2, 2).subplots()
    assert scale_bar(axes, width_px=256, um_per_px=0.5) == 25
    left, right = axes.lines[0].get_xdata()
    assert abs((right - left) * 256 - 50) < 1e-9
    assert axes.texts[0].get_text() == "25 µm"


def test_a_picture_has_the_pixels_of_matplotlibs_own_savefig() -> None:
    """Whatever the layout moves: ticks of several lines, titles, a legend outside, a colour bar."""

    def busy() -> Figure:
        figure = canvas(6, 3)
        left, right = figure.subplots(1, 2)
        left.plot([1, 2, 3], [1e-5, 2e-4, 0.3], label="a curve")
        left.set_yscale("log")
        left.set_xticks([1, 2, 3], ["one\n(12k px)", "two", "three"], fontsize=8)
        right.imshow(np.arange(12).reshape(3, 4))
        figure.colorbar(right.images[0], ax=right).set_label("share")
        figure.suptitle("a title", x=0.01, ha="left")
        figure.legend(loc="outside lower center")
        return figure

    reference = io.BytesIO()
    busy().savefig(reference, format="png", dpi=DPI)
    pictures = (np.frombuffer(content, np.uint8) for content in (drawn(busy()), reference.getvalue()))
    ours, theirs = (cv2.imdecode(content, cv2.IMREAD_UNCHANGED) for content in pictures)
    assert ours.shape == (330, 660, 4) and np.array_equal(ours, theirs)
