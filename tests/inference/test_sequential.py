"""Verdicts under repeated looks: known boundaries, the share of wrong verdicts, and words that follow the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.inference.intervals import Spread
from harness.inference.sequential import ALPHA, look_sizes, verdict

PATIENTS = 20


def differences(scores: np.ndarray, over_patients: float = 0.0, patients: int = PATIENTS) -> list[Spread]:
    """One a seed; `over_patients` is the standard error that all seeds share."""
    deviations = np.full(patients, over_patients / math.sqrt(patients))
    return [Spread(float(score), deviations, patients - 1.0) for score in scores]


def test_looks_are_close_at_first_then_further_apart() -> None:
    """Each step doubles when it has become small."""
    assert look_sizes(40) == (3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40)
    assert look_sizes(7) == (3, 4, 5, 6)


def test_the_first_look_is_a_t_test_at_a_third_of_the_error() -> None:
    """Three seeds, patients without spread: Student's t with .85 x 2 degrees of freedom at 5 % / 3, by scipy."""
    scores = np.array([0.01, 0.02, 0.03])
    known = verdict(differences(scores), 0.0).difference
    assert known is not None
    half = stats.t.ppf(1 - ALPHA / 6, 0.85 * 2) * stats.sem(scores)
    assert known.value == pytest.approx(0.02)
    assert known.high - known.value == pytest.approx(half, rel=0.05)  # the boundary is simulated


def test_words_follow_the_interval() -> None:
    """A clear gain of .05: more than .02, not more than .08, and undecided against .05."""
    scores = differences(0.05 + 0.001 * np.array([-1, 1, 0, -1, 1, 0]))
    assert [verdict(scores, margin).word for margin in (0.02, 0.08, 0.05)] == ["supported", "refuted", "undecided"]


def test_a_verdict_stands_whatever_comes_after_it() -> None:
    """Three good seeds decide; nine bad ones behind them are no longer asked."""
    scores = np.concatenate([[0.100, 0.101, 0.102], np.full(9, -0.5)])
    found = verdict(differences(scores), 0.0)
    assert (found.word, found.seeds) == ("supported", 3)


def test_few_patients_or_seeds_allow_no_verdict_and_say_so() -> None:
    """Five patients; two seeds."""
    few = verdict(differences(np.full(12, 0.3), patients=5), 0.0)
    assert (few.word, few.hopeless, few.reason) == ("undecided", True, "5 validation patients; a verdict needs 6")
    two = verdict(differences(np.full(2, 0.3)), 0.0)
    assert (two.word, two.hopeless, two.reason) == ("undecided", False, "2 of the 3 seeds that a first look needs")


def test_what_would_settle_it_is_what_the_variance_lacks() -> None:
    """Patients at a standard error of .02 and a gain of .01: no number of seeds will do, so it stops at once."""
    found = verdict(differences(0.01 + 0.0005 * np.array([-1, 0, 1]), over_patients=0.02), 0.0)
    assert (found.word, found.hopeless, found.more_seeds) == ("undecided", True, None)
    # The gap has to be some 2.4 standard errors: (.02 x 2.4 / .01)^2 = 23 times the patients, 20 of them there.
    assert found.more_patients == pytest.approx(22 * PATIENTS, rel=0.15)
    # Seeds that scatter by .03 around the same gain: (.03 x 2.8 / .01)^2, some 70 in all.
    wide = verdict(differences(0.01 + 0.03 * np.resize([-1, 0.0, 1], 12)), 0.0)
    assert (wide.word, wide.hopeless, wide.more_patients) == ("undecided", False, None)
    assert wide.more_seeds is not None and 20 < wide.more_seeds < 90
    assert verdict(differences(0.01 * np.resize([-1.0, 1], 12)), 0.0).more_seeds is None  # no gap at all


@pytest.mark.parametrize("over_patients", [0.0, 0.01, 0.03])
def test_looking_again_and_again_makes_few_wrong_verdicts(over_patients: float) -> None:
    """Equal sides, looks at 3 to 12 seeds: 5 % of 600 are 30, and 45 would be 2.8 standard errors more.

    A t-test at 5 % after each of these looks is wrong in about 15 %.
    """
    random = np.random.default_rng(5)
    wrong = naive = 0
    for _ in range(600):
        # The share of patients is one draw that all seeds have in common.
        scores = random.normal(0, 0.02, 12) + random.normal(0, over_patients)
        wrong += verdict(differences(scores, over_patients, patients=60), 0.0).word != "undecided"
        naive += any(stats.ttest_1samp(scores[:n], 0).pvalue < 0.05 for n in look_sizes(12))
    assert wrong <= 45 < naive


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-200, 200).map(lambda n: n / 1000), min_size=3, max_size=12),
    st.integers(-100, 100).map(lambda n: n / 1000),
    st.sampled_from([0.0, 0.004, 0.05]),
)
def test_turned_around_a_claim_is_turned_around(scores: list[float], margin: float, over_patients: float) -> None:
    """B - A against -margin: the same seeds decide, with the opposite word (but for equal sides)."""
    assume(over_patients or len(set(scores)) > 1)
    ahead = verdict(differences(np.array(scores), over_patients), margin)
    behind = verdict(differences(-np.array(scores), over_patients), -margin)
    opposite = {"supported": "refuted", "refuted": "supported", "undecided": "undecided"}
    assert (behind.word, behind.seeds) == (opposite[ahead.word], ahead.seeds)
