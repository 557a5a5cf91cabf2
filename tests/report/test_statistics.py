"""Paired differences and the additive fit, worked out by hand or by numpy.linalg.lstsq."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.report.queries import Value
from harness.report.statistics import Contrast, Design, Level, Run, design, paired_gains, t_95

Setting = dict[str, Value]


def gains(runs: list[tuple[Setting, float]], factor: str, level: str, reference: str) -> tuple[float, ...]:
    found = designed(runs)
    by_name = {one.name: one for one in found.levels[factor]}
    return paired_gains(found, factor, by_name[level], by_name[reference])


def designed(runs: list[tuple[Setting, float]]) -> Design:
    return design(list[Run](runs), list(dict.fromkeys(key for parameters, _ in runs for key in parameters)))


def test_pairs_agree_in_everything_else() -> None:
    """Of 2 x 2 settings with one missing, one pair is left for each factor: .6-.5 and .5-.3."""
    runs: list[tuple[Setting, float]] = [
        ({"arch": "a", "px": 1}, 0.3), ({"arch": "a", "px": 2}, 0.5), ({"arch": "b", "px": 2}, 0.6),
    ]  # fmt: skip
    assert gains(runs, "arch", "b", "a") == pytest.approx((0.1,))
    assert gains(runs, "px", "2", "1") == pytest.approx((0.2,))


def test_repeats_within_a_cell_are_averaged_into_one_pair() -> None:
    """Two runs of the same setting are one side of one pair, not two pairs."""
    runs: list[tuple[Setting, float]] = [({"arch": "a"}, 0.2), ({"arch": "a"}, 0.4), ({"arch": "b"}, 0.5)]
    assert gains(runs, "arch", "b", "a") == pytest.approx((0.2,))


def test_inactive_parameters_do_not_keep_cells_apart() -> None:
    """A plain U-Net has no encoder: it pairs with the mean over encoders of the other; inactive is no level."""
    runs: list[tuple[Setting, float]] = [
        ({"arch": "plain", "enc": None}, 0.1),
        ({"arch": "unet", "enc": "x"}, 0.2),
        ({"arch": "unet", "enc": "y"}, 0.4),
    ]
    assert gains(runs, "arch", "unet", "plain") == pytest.approx((0.2,))
    assert [level.name for level in designed(runs).levels["enc"]] == ["x", "y"]


def test_a_parameter_with_one_active_value_is_no_factor() -> None:
    """An encoder that is set for one of two networks only has nothing to be compared with."""
    runs: list[tuple[Setting, float]] = [({"arch": "a", "enc": None}, 0.1), ({"arch": "b", "enc": "x"}, 0.2)]
    assert set(designed(runs).levels) == {"arch"}


def test_levels_come_in_the_files_order_and_numbers_ascend() -> None:
    """The first is the reference: `unet_plain` where the file lists it first, 64 before 128."""
    runs: list[Run] = [({"arch": name, "px": px}, 0.5) for name in ("attention", "plain") for px in (128, 64)]
    found = design(runs, ["arch", "px"], {"arch": ["plain", "attention"], "px": ["128", "64"]})
    assert [level.name for level in found.levels["arch"]] == ["plain", "attention"]
    assert [level.name for level in found.levels["px"]] == ["64", "128"]


def test_a_continuous_parameter_is_cut_into_thirds() -> None:
    """Nine learning rates: three levels; cells of other factors match within a third."""
    rates = [1e-5 * 2**i for i in range(9)]
    runs: list[tuple[Setting, float]] = [({"lr": rate, "arch": "a"}, float(i // 3)) for i, rate in enumerate(rates)]
    runs.append(({"lr": rates[0] * 1.1, "arch": "b"}, 0.5))
    low, _, high = designed(runs).levels["lr"]
    assert low.name.startswith("below") and high.name.startswith("above")
    assert paired_gains(designed(runs), "lr", high, low) == pytest.approx((2.0,))
    assert gains(runs, "arch", "b", "a") == pytest.approx((0.5,))


def test_verdict_needs_four_pairs_and_an_interval_without_zero() -> None:
    """Gains .1 .2 .3 .4: mean .25, SD .1291, half width 3.182 x .1291 / 2 = .2054: visible; three pairs never are."""
    effect = Contrast("arch", "b", "a", (0.1, 0.2, 0.3, 0.4))
    assert (effect.pairs, effect.mean, effect.sd) == (4, pytest.approx(0.25), pytest.approx(0.1290994))
    assert effect.interval == pytest.approx((0.25 - 0.205426, 0.25 + 0.205426), abs=1e-5)
    assert effect.visible
    assert not Contrast("arch", "b", "a", (0.3, 0.3, 0.3)).visible
    assert not Contrast("arch", "b", "a", (0.3, -0.2, 0.3, -0.2)).visible


@pytest.mark.parametrize(
    ("degrees", "expected"), [(3, 3.18245), (7, 2.36462), (30, 2.04227), (40, 2.02108), (120, 1.97993)]
)
def test_t_quantiles_agree_with_published_tables(degrees: int, expected: float) -> None:
    """Two-sided 5 % points of Student's t."""
    assert t_95(degrees) == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=12))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    """mean - half <= mean <= mean + half, and the verdict follows from its ends."""
    contrast = Contrast("f", "a", "b", tuple(values))
    assert contrast.interval is not None and contrast.mean is not None
    low, high = contrast.interval
    assert low - 1e-12 <= contrast.mean <= high + 1e-12
    assert contrast.visible == (low > 0 or high < 0)
    assert math.isfinite(low)


@settings(max_examples=60)
@given(st.data())
def test_the_fit_recovers_additive_effects_of_unbalanced_designs(data: st.DataObject) -> None:
    """Scores that are sums of level effects, any subset of settings: what the fit tells, it tells exactly."""
    effects = {
        "a": {"x": 0.0, "y": 0.3, "z": -0.1}, "b": {"p": 0.0, "q": 0.05}, "c": {"u": 0.0, "v": -0.2, "w": 0.4},
    }  # fmt: skip
    cells = list(itertools.product(*effects.values()))
    chosen = data.draw(st.lists(st.sampled_from(cells), min_size=4, max_size=20))
    runs: list[Run] = [
        (dict(zip(effects, cell, strict=True)), 0.5 + sum(effects[f][v] for f, v in zip(effects, cell, strict=True)))
        for cell in chosen
    ]
    found = design(runs, list(effects))
    for factor, (reference, *levels) in found.levels.items():
        for level in levels:
            told = found.fit.difference(factor, level)
            truth = effects[factor][level.name] - effects[factor][reference.name]
            assert told is None or told == pytest.approx(truth, abs=1e-8)
            assert (told is None) == bool(found.fit.aliases(factor, level))


def test_the_fit_is_least_squares() -> None:
    """Noisy scores: the same numbers as numpy's lstsq of the columns 1, b, (px = 2), written out."""
    runs: list[tuple[Setting, float]] = [
        ({"arch": "a", "px": 1}, 0.30), ({"arch": "a", "px": 2}, 0.52), ({"arch": "b", "px": 1}, 0.35),
        ({"arch": "b", "px": 2}, 0.61), ({"arch": "b", "px": 2}, 0.65), ({"arch": "a", "px": 1}, 0.28),
    ]  # fmt: skip
    columns = [[1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 0, 0]]
    expected = np.linalg.lstsq(np.array(columns, float), np.array([s for _, s in runs]), rcond=None)[0]
    fit = designed(runs).fit
    assert fit.difference("arch", Level("b")) == pytest.approx(expected[1])
    assert fit.difference("px", Level("2", 2.0)) == pytest.approx(expected[2])
    assert fit.spare == 3


def test_factors_that_change_together_are_no_numbers_but_named() -> None:
    """Every unet has pretrained weights and every plain net none: their effects cannot be told apart; px can."""
    runs: list[tuple[Setting, float]] = [
        ({"arch": arch, "weights": weights, "px": px}, score)
        for (arch, weights), px, score in [
            (("plain", "random"), 1, 0.1), (("plain", "random"), 2, 0.2),
            (("unet", "imagenet"), 1, 0.4), (("unet", "imagenet"), 2, 0.5),
        ]
    ]  # fmt: skip
    fit = designed(runs).fit
    assert fit.difference("arch", Level("unet")) is None
    assert fit.aliases("arch", Level("unet")) == ("weights",)
    assert fit.difference("px", Level("2", 2.0)) == pytest.approx(0.1)


def test_an_inactive_parameter_stands_at_the_mean_of_the_active_ones() -> None:
    """Plain .1; unet .2 with x and .4 with y: unet is worth .2 over plain, y .2 over x."""
    runs: list[tuple[Setting, float]] = [
        ({"arch": "plain", "enc": None}, 0.1),
        ({"arch": "unet", "enc": "x"}, 0.2),
        ({"arch": "unet", "enc": "y"}, 0.4),
    ]
    fit = designed(runs).fit
    assert fit.difference("arch", Level("unet")) == pytest.approx(0.2)
    assert fit.difference("enc", Level("y")) == pytest.approx(0.2)
