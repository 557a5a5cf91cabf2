"""Intervals over patients: by hand, and against scipy's own t-test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from harness.inference.intervals import difference, interval, mean_over_seeds, spread_of
from harness.inference.ratios import Ratios


def ratios(hits: list[list[float]], sizes: list[list[float]]) -> Ratios:
    names = tuple(f"p{i}" for i in range(len(hits)))
    classes = tuple(f"c{i}" for i in range(len(hits[0])))
    return Ratios(names, classes, np.array(hits, dtype=float), np.array(sizes, dtype=float))


VALUES = [0.2, 0.5, 0.9, 0.4, 0.7]
OTHERS = [0.3, 0.4, 0.8, 0.1, 0.5]


def test_patients_of_one_size_give_the_t_interval_of_their_mean() -> None:
    """With equal sizes the score is the mean over patients, and everything is what scipy says of a sample."""
    spread = spread_of(ratios([[v] for v in VALUES], [[1.0]] * 5))
    assert spread is not None
    found, known = interval(spread), stats.t.interval(0.95, 4, np.mean(VALUES), stats.sem(VALUES))
    assert (found.low, found.high) == pytest.approx(known, abs=1e-12)
    assert spread.degrees == pytest.approx(4)


def test_a_difference_is_paired() -> None:
    """Equal sizes: scipy's paired t-test has the same interval."""
    first, second = (spread_of(ratios([[v] for v in values], [[1.0]] * 5)) for values in (VALUES, OTHERS))
    assert first is not None and second is not None
    known = stats.ttest_rel(VALUES, OTHERS).confidence_interval(0.95)
    found = difference(first, second)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=1e-12)
    nothing = difference(first, first)
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, 0.0)
    assert not nothing.leaves_out_zero


def test_the_jackknife_by_hand() -> None:
    """Two patients, one class: without the first 1/4, without the second 3/4; var = 1/2 * 2 * (1/4)^2."""
    spread = spread_of(ratios([[3.0], [1.0]], [[4.0], [4.0]]))
    assert spread is not None
    assert spread.score == 0.5
    assert spread.error == pytest.approx(math.sqrt(0.5 * 2 * 0.25**2))
    assert spread.degrees == 1.0


def test_one_patient_who_is_most_of_the_pixels_leaves_few_degrees_of_freedom() -> None:
    """Shares .9 and four times .025: 1 / (.81 + 4 * .000625) - 1 = .23, held at 1."""
    spread = spread_of(ratios([[18.0]] + [[0.3]] * 4, [[36.0]] + [[1.0]] * 4))
    assert spread is not None
    assert spread.degrees == 1.0


def test_a_class_of_one_patient_alone_has_no_interval() -> None:
    """Without that patient there is no such score."""
    assert spread_of(ratios([[1.0, 1.0], [1.0, 0.0]], [[2.0, 2.0], [2.0, 0.0]])) is None
    assert spread_of(ratios([[1.0]], [[2.0]])) is None


def test_seeds_add_their_own_variance() -> None:
    """By hand: patients agree on every seed, so only seeds vary: SD of (.4, .5, .6) over sqrt(3), 2 degrees."""
    spreads = [spread_of(ratios([[v], [v], [v]], [[1.0]] * 3)) for v in (0.4, 0.5, 0.6)]
    mean = mean_over_seeds([spread for spread in spreads if spread is not None])
    assert mean.score == pytest.approx(0.5)
    assert mean.error == pytest.approx(0.1 / math.sqrt(3))
    assert mean.degrees == pytest.approx(2.0)
