"""Paired differences, worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.queries import Trial, read_sweep
from harness.report.statistics import Contrast, contrasts, t_95
from harness.report.wording import ABSENT
from tests.report.factory import SweepFolder

Setting = dict[str, Any]


def found(
    tmp_path: Path, runs: list[tuple[Setting, float | None]], **options: Any
) -> dict[tuple[str, str, str], Contrast]:
    """Contrasts of `runs` (parameters, score), by (factor, better, worse)."""
    folder = SweepFolder(tmp_path)
    values: dict[str, float | None] = {}
    for parameters, value in runs:
        values[folder.trial(parameters, state="pruned")] = value
    trials = read_sweep(folder.path).trials
    keys = list(dict.fromkeys(key for parameters, _ in runs for key in parameters))

    def score(trial: Trial) -> float | None:
        return values[trial.uid]

    result = contrasts(trials, keys, score, **options)
    return {(c.factor, c.better, c.worse): c for c in result}


def test_pairs_agree_in_everything_else(tmp_path: Path) -> None:
    """Of 2 x 2 settings with one missing, one pair is left for each factor: .6-.5 and .5-.3."""
    runs = [({"arch": "a", "px": 1}, 0.3), ({"arch": "a", "px": 2}, 0.5), ({"arch": "b", "px": 2}, 0.6)]
    result = found(tmp_path, runs)
    assert result["arch", "b", "a"].gains == pytest.approx((0.1,))
    assert result["px", "2", "1"].gains == pytest.approx((0.2,))
    assert result["px", "2", "1"].interval is None and not result["px", "2", "1"].visible


def test_repeats_within_a_cell_are_averaged_into_one_pair(tmp_path: Path) -> None:
    """Two runs of the same setting are one side of one pair, not two pairs."""
    runs = [({"arch": "a"}, 0.2), ({"arch": "a"}, 0.4), ({"arch": "b"}, 0.5)]
    assert found(tmp_path, runs)["arch", "b", "a"].gains == pytest.approx((0.2,))


def test_inactive_parameters_do_not_keep_cells_apart(tmp_path: Path) -> None:
    """A plain U-Net has no encoder: it pairs with the mean over encoders of the other."""
    runs = [
        ({"arch": "plain", "enc": None}, 0.1),
        ({"arch": "unet", "enc": "x"}, 0.2),
        ({"arch": "unet", "enc": "y"}, 0.4),
    ]
    result = found(tmp_path, runs)
    assert result["arch", "unet", "plain"].gains == pytest.approx((0.2,))
    assert ("enc", "x", ABSENT) not in result


def test_verdict_needs_four_pairs_and_an_interval_without_zero(tmp_path: Path) -> None:
    """Gains .1 .2 .3 .4: mean .25, SD .1291, half width 3.182 x .1291 / 2 = .2054: visible."""
    runs = [({"arch": "a", "px": i}, 0.1) for i in range(4)] + [
        ({"arch": "b", "px": i}, 0.2 + i / 10) for i in range(4)
    ]
    effect = found(tmp_path, runs)["arch", "b", "a"]
    assert (effect.pairs, effect.mean, effect.sd) == (4, pytest.approx(0.25), pytest.approx(0.1290994))
    assert effect.interval == pytest.approx((0.25 - 0.205426, 0.25 + 0.205426), abs=1e-5)
    assert effect.visible


def test_effects_that_change_sign_are_undecided(tmp_path: Path) -> None:
    """Gains of +.3 and -.2 in turn are no effect."""
    runs = [({"arch": "a", "px": i}, 0.5) for i in range(4)]
    runs += [({"arch": "b", "px": i}, 0.8 if i % 2 else 0.3) for i in range(4)]
    assert not found(tmp_path, runs)["arch", "b", "a"].visible


def test_a_continuous_parameter_is_cut_into_thirds(tmp_path: Path) -> None:
    """Nine learning rates: three levels; cells of other factors match within a third."""
    rates = [1e-5 * 2**i for i in range(9)]
    runs = [({"lr": rate, "arch": "a"}, float(i // 3)) for i, rate in enumerate(rates)]
    runs.append(({"lr": rates[0] * 1.1, "arch": "b"}, 0.5))
    result = found(tmp_path, runs)
    top = next(
        c for (factor, better, worse), c in result.items() if better.startswith("above") and worse.startswith("below")
    )
    assert top.gains == pytest.approx((2.0,))
    assert result["arch", "b", "a"].gains == pytest.approx((0.5,))


def test_a_minimised_score_counts_a_decrease_as_a_gain(tmp_path: Path) -> None:
    """The smaller one is `better`, by a positive gain."""
    result = found(tmp_path, [({"arch": "a"}, 0.7), ({"arch": "b"}, 0.5)], minimize=True)
    assert result["arch", "b", "a"].gains == pytest.approx((0.2,))


def test_runs_without_the_score_are_left_out(tmp_path: Path) -> None:
    """An n/a yardstick is no zero."""
    assert found(tmp_path, [({"arch": "a"}, None), ({"arch": "b"}, 0.5)]) == {}


@pytest.mark.parametrize(
    ("degrees", "expected"), [(3, 3.18245), (7, 2.36462), (30, 2.04227), (40, 2.02108), (120, 1.97993)]
)
def test_t_quantiles_agree_with_published_tables(degrees: int, expected: float) -> None:
    """Two-sided 5 % points of Student's t."""
    assert t_95(degrees) == pytest.approx(expected, abs=1e-4)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=12))
def test_an_interval_holds_its_mean(gains: list[float]) -> None:
    """mean - half <= mean <= mean + half, and the verdict follows from its ends."""
    contrast = Contrast("f", "a", "b", tuple(gains))
    assert contrast.interval is not None
    low, high = contrast.interval
    assert low - 1e-12 <= contrast.mean <= high + 1e-12
    assert contrast.visible == (low > 0 or high < 0)
    assert math.isfinite(low)
