"""Drawings: where things stand, and that every text is only text."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report import figures
from harness.report.raster import standalone
from tests.report.hostile import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(standalone(svg).split("\n", 1)[1])


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(3, 8))
def test_ticks_enclose_the_data_in_round_even_steps(low: float, span: float, count: int) -> None:
    """First <= low, high <= last, all steps equal, and not more than twice as many as asked for."""
    steps = figures.ticks(low, low + span, count)
    widths = [b - a for a, b in itertools.pairwise(steps)]
    assert steps[0] <= low + 1e-6 and steps[-1] >= low + span - 1e-6
    assert max(widths) == pytest.approx(min(widths), rel=1e-6)
    assert 2 <= len(steps) <= 2 * count + 2


def test_ticks_of_a_single_value_still_span_something() -> None:
    """All runs equal: an axis around them, no division by zero."""
    steps = figures.ticks(0.5, 0.5, 5)
    assert steps[0] < 0.5 < steps[-1]


def test_curves_run_from_left_to_right_and_higher_scores_stand_higher() -> None:
    """Points (1, .2) and (3, .8): x grows, y (downwards in SVG) falls."""
    svg = drawn(figures.curves([figures.Line("a", ((1, 0.2), (3, 0.8)), series=1)], title="t", y_label="IoU"))
    (line,) = svg.iter(f"{SVG}polyline")
    (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line.attrib["points"].split())
    assert x1 < x2 and y1 > y2


def test_labels_of_neighbouring_curves_do_not_overlap() -> None:
    """Three curves that end at the same score have their names at least 15 px apart."""
    lines = [figures.Line(f"run {i}", ((1, 0.5), (2, 0.5)), series=i) for i in (1, 2, 3)]
    svg = drawn(figures.curves(lines, title="t", y_label="IoU"))
    heights = sorted(float(text.attrib["y"]) for text in svg.iter(f"{SVG}text") if "name" in text.attrib["class"])
    assert len(heights) == 3 and min(b - a for a, b in itertools.pairwise(heights)) >= 14.9


def test_a_pruned_run_is_dashed_and_marked() -> None:
    """It ends in a cross, so that it is not taken for one that converged."""
    svg = figures.curves([figures.Line("a", ((1, 0.2), (2, 0.3)), cut=True)], title="t", y_label="IoU")
    assert 'class="run cut"' in svg and 'class="mark"' in svg


def test_nothing_to_draw_is_no_drawing() -> None:
    """Empty text, which the page leaves out."""
    assert figures.curves([], title="t", y_label="y") == ""
    assert figures.curves([figures.Line("a", ())], title="t", y_label="y") == ""
    assert figures.strips({}, {}, title="t", x_label="x") == ""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_make_no_element(name: str) -> None:
    """Whatever a run or stratum is called, the drawing holds only its own elements."""
    drawings = [
        figures.curves([figures.Line(name, ((1, 0.1), (2, 0.2)), series=1)], title=name, y_label=name),
        figures.strips({name: [figures.Dot(0.5, 1, name)]}, {name: 1}, title=name, x_label=name),
    ]
    for svg in drawings:
        assert {re.sub(r"\{.*\}", "", element.tag) for element in drawn(svg).iter()} <= {
            "svg", "style", "text", "title", "line", "circle", "polyline", "path",
        }  # fmt: skip
