"""Figures as files: colours written out for programs without CSS variables, and a PNG of each."""

from __future__ import annotations

import re

import cv2
import numpy as np

from harness.report import figures
from harness.report.raster import ZOOM, plain_style, pngs, standalone
from harness.report.svg import WIDTH

SVG = figures.strips(
    {"all": [figures.Dot(0.25, 1, "one"), figures.Dot(0.75, 2, "two", leader=True)]},
    {"unet": 1, "plain": 2},
    title="scores",
    x_label="IoU",
)


def test_an_svg_file_has_no_variable_left() -> None:
    """Inkscape, Illustrator and word processors draw `var(...)` in black or not at all."""
    assert "var(" in figures.STYLE
    assert "var(" not in standalone(SVG) and "--" not in plain_style()


def test_a_rule_on_series_becomes_one_rule_for_each_series() -> None:
    """`.full` is filled by the colour of the series that stands beside it."""
    colours = dict(re.findall(r"--(s\d):(#[0-9a-f]{6})", figures.STYLE))
    for name, colour in colours.items():
        assert f".figure .full.{name}{{fill:{colour}}}" in plain_style()


def test_a_png_shows_the_colours_of_its_series() -> None:
    """Twice the size of the drawing, on white, with pixels of exactly both series' colours."""
    (png,) = pngs({"scores.svg": standalone(SVG)}).values()
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture.shape[1] == ZOOM * WIDTH
    assert (picture[0, 0] == 255).all()
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (picture == colour).all(axis=-1).sum() > 50
