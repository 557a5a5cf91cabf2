"""The winner's score without the luck it was picked for."""

from __future__ import annotations

import numpy as np
import pytest

from harness.inference.ratios import Ratios
from harness.inference.selection import corrected_winner


def candidates(scores_CP: np.ndarray) -> list[Ratios]:
    patients = tuple(f"p{i}" for i in range(scores_CP.shape[1]))
    return [Ratios(patients, ("c",), row[:, None], np.ones((len(row), 1))) for row in scores_CP]


def test_a_single_candidate_has_no_optimism() -> None:
    """Nothing was picked."""
    found = corrected_winner(candidates(np.array([[0.2, 0.4, 0.9, 0.5]])))
    assert found is not None
    assert found.raw == pytest.approx(0.5)
    assert found.optimism == pytest.approx(0.0, abs=1e-12)


def test_a_winner_on_every_patient_keeps_its_score() -> None:
    """Whoever is left out, the same one is picked."""
    scores = np.array([[0.2, 0.4, 0.9, 0.5, 0.7, 0.1], [0.3, 0.5, 0.95, 0.6, 0.8, 0.2]])
    found = corrected_winner(candidates(scores))
    assert found is not None
    assert found.optimism == pytest.approx(0.0, abs=1e-12)
    assert found.candidates == 2


def test_leave_one_out_by_hand() -> None:
    """Three patients, two candidates, folds of one: without p0 B is picked (0 on p0), without p1 and p2 A."""
    a, b = [1.0, 0.4, 0.4], [0.0, 0.9, 0.5]
    # Without p0: A .4, B .7 -> B: 0 there. Without p1: A .7, B .25 -> A: .4. Without p2: A .7, B .45 -> A: .4.
    found = corrected_winner(candidates(np.array([a, b])), folds=3)
    assert found is not None
    assert found.raw == pytest.approx(0.6)
    assert found.corrected == pytest.approx((0.0 + 0.4 + 0.4) / 3)


def test_the_best_of_many_equal_ones_comes_back_to_their_mean() -> None:
    """60 sweeps of 50 equal models on 20 patients: raw is above .6 by more than 3 errors, corrected within 3."""
    random = np.random.default_rng(6)
    raw, corrected = [], []
    for _ in range(60):
        found = corrected_winner(candidates(0.6 + random.normal(0, 0.1, (50, 20))), seed=int(random.integers(1 << 30)))
        assert found is not None
        raw.append(found.raw)
        corrected.append(found.corrected)
    error = np.std(corrected, ddof=1) / np.sqrt(60)
    assert np.mean(raw) - 0.6 > 10 * np.std(raw, ddof=1) / np.sqrt(60)
    assert abs(np.mean(corrected) - 0.6) < 3 * error


def test_a_smaller_score_wins_where_it_is_better() -> None:
    """Minimised: raw is the smallest, corrected is not below it."""
    scores = np.random.default_rng(7).uniform(0.2, 0.8, (20, 10))
    found = corrected_winner(candidates(scores), minimize=True)
    assert found is not None
    assert found.raw == pytest.approx(scores.mean(axis=1).min())
    assert found.corrected > found.raw
