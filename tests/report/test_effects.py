"""Main effects: paired where there are pairs, fitted where not, open where no run tells."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from harness.report.effects import Effect, effect_sentences, effects_figure, effects_table, main_effects
from harness.report.queries import Value
from harness.report.statistics import Run, design
from tests.report.hostile import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"


def found(runs: list[Run], *, minimize: bool = False) -> dict[tuple[str, str], Effect]:
    factors = list(dict.fromkeys(key for parameters, _ in runs for key in parameters))
    return {(e.factor, e.level): e for e in main_effects(design(runs, factors), minimize=minimize)}


def grid(extra: float = 0.0) -> list[Run]:
    """2 x 4 settings; b is .1, .2, .3, .4 above a in turn."""
    low: list[Run] = [({"arch": "a", "px": i}, 0.1 + extra) for i in range(4)]
    return [*low, *(({"arch": "b", "px": i}, 0.2 + i / 10 + extra) for i in range(4))]


def test_adjusted_means_of_a_full_grid_are_the_plain_means() -> None:
    """a .1, b (.2 + .3 + .4 + .5) / 4 = .35; the difference .25 with SD .1291 over 4 pairs."""
    effects = found(grid())
    low, high = effects["arch", "a"], effects["arch", "b"]
    assert (low.way, low.gain, low.mean, low.runs) == ("reference", None, pytest.approx(0.1), 4)
    assert (high.way, high.gain, high.mean) == ("pairs", pytest.approx(0.25), pytest.approx(0.35))
    assert high.contrast.sd == pytest.approx(0.1290994) and high.visible


def test_adjusting_undoes_unbalanced_company() -> None:
    """b was mostly run at the good size: raw means differ by .38, at equal sizes by .1, also where no pair is left."""
    truth = {"a": 0.0, "b": 0.1, 1: 0.0, 2: 0.4}
    chosen: list[tuple[str, int]] = [("a", 1)] * 5 + [("a", 2)] * 1 + [("b", 1)] * 1 + [("b", 2)] * 5
    runs: list[Run] = [({"arch": arch, "px": px}, 0.3 + truth[arch] + truth[px]) for arch, px in chosen]
    effect = found(runs)["arch", "b"]
    assert effect.contrast.pairs == 2  # (px 1) and (px 2): too few, so the fit
    assert (effect.way, effect.gain) == ("fit", pytest.approx(0.1))
    # Half of the runs stand at each size: .3 + .2, and .1 more.
    assert effect.mean == pytest.approx(0.6) and found(runs)["arch", "a"].mean == pytest.approx(0.5)


def test_too_few_runs_for_a_fit_leave_the_few_pairs() -> None:
    """Two runs, one pair: its difference, called what it is, without a spread or a verdict."""
    effect = found([({"arch": "a"}, 0.2), ({"arch": "b"}, 0.5)])["arch", "b"]
    assert (effect.way, effect.gain, effect.contrast.sd, effect.visible) == (
        "few pairs",
        pytest.approx(0.3),
        None,
        False,
    )


def test_confounded_factors_are_said_and_not_numbered() -> None:
    """Weights that always came with the network: no number, and the sentence names the other factor."""
    runs: list[Run] = [
        ({"arch": arch, "encoder_weights": weights, "px": px}, 0.1 * px)
        for arch, weights in (("plain", "random"), ("unet", "imagenet"))
        for px in (1, 2, 3)
    ]
    effect = found(runs)["encoder_weights", "random"]
    assert (effect.way, effect.gain, effect.mean) == ("open", None, None)
    assert effect.reason == "cannot be told apart from arch"
    said = effect_sentences(list(found(runs).values()), "val/iou")
    assert "Encoder weights: cannot be told apart from arch (random)." in said


def test_a_minimised_score_counts_a_decrease_as_a_gain() -> None:
    """b is .25 above a, so .25 worse; its adjusted mean stays a mean of scores."""
    effect = found(grid(), minimize=True)["arch", "b"]
    assert (effect.gain, effect.mean) == (pytest.approx(-0.25), pytest.approx(0.35))


def test_sentences_name_the_better_level_first_and_count_the_rest() -> None:
    """A visible loss is told as the reference's gain; px 1, 2 and 3 against 0 are undecided, each of two pairs."""
    turned: list[Run] = [({**values, "arch": {"a": "z", "b": "b"}[str(values["arch"])]}, s) for values, s in grid()]
    first, second, *rest = effect_sentences(list(found(turned, minimize=True).values()), "val/iou")
    assert first == "Arch: z is 0.250 IoU better than b (SD 0.129 over 4 paired cells)."
    assert second == "Undecided: 3 comparisons of px." and not rest


def test_the_table_has_a_row_per_level_and_explains_its_ways() -> None:
    """2 + 4 levels; the fit and the spread are explained below."""
    table = effects_table(list(found(grid()).values()), "unicorn3", "val/iou")
    assert [row[1].text for row in table.rows] == ["a", "b", "0", "1", "2", "3"]
    assert [row[7].text for row in table.rows[:3]] == ["reference", "visible", "reference"]
    assert "not over patients" in table.note


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


def test_a_gain_stands_right_of_zero() -> None:
    """The mean's dot lies to the right of the zero line for a positive gain."""
    svg = drawn(effects_figure(list(found(grid()).values()), title="t", x_label="gain"))
    zero = next(line for line in svg.iter(f"{SVG}line") if line.attrib["class"] == "axis")
    mean = next(dot for dot in svg.iter(f"{SVG}circle") if dot.attrib["class"] == "full s1")
    assert float(mean.attrib["cx"]) > float(zero.attrib["x1"])
    assert effects_figure([], title="t", x_label="x") == ""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_levels_make_no_element(name: str) -> None:
    """Whatever a factor or level is called, the drawing holds only its own elements."""
    values: list[Value] = [name, "other"]
    runs: list[Run] = [({name: value, "px": px}, 0.1) for value in values for px in range(4)]
    svg = drawn(effects_figure(list(found(runs).values()), title=name, x_label=name))
    assert {re.sub(r"\{.*\}", "", one.tag) for one in svg.iter()} <= {"svg", "text", "title", "line", "circle"}
