"""Who cannot be told from the leader: known answers, and the share of false alarms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.inference.intervals import Spread, normal_of, spread_of
from harness.inference.ratios import Ratios
from harness.inference.simultaneous import CAUTION, Against, against_leader


def judged(scores_PM: np.ndarray, *, minimize: bool = False, seed: int = 0) -> tuple[Against, ...]:
    """Against the best mean."""
    means = scores_PM.mean(axis=0)
    leader = int(means.argmin() if minimize else means.argmax())
    return against_leader(board(scores_PM), leader=leader, minimize=minimize, seed=seed)


def board(scores_PM: np.ndarray) -> list[Spread]:
    """Patients of one size: each column is a model."""
    patients = tuple(f"p{i}" for i in range(len(scores_PM)))
    rows = [Ratios(patients, ("c",), column[:, None], np.ones((len(column), 1))) for column in scores_PM.T]
    return [spread for row in rows if (spread := spread_of(row)) is not None]


def test_equal_predictions_are_never_told_apart() -> None:
    """Two copies of one model, and a third that is worse by the same amount on every patient."""
    base = np.random.default_rng(1).uniform(0.4, 0.8, 10)
    leader, copy, worse = judged(np.stack([base, base, base - 0.1], axis=1))
    assert (leader.told_apart, copy.told_apart, worse.told_apart) == (False, False, True)
    assert leader.p_value == copy.p_value == 1.0
    assert leader.first + copy.first == 1.0


def test_a_pair_is_judged_nearly_as_by_the_paired_t_test() -> None:
    """With two rows there is one pair: the p-value is that of the t-test, but for caution and 2,000 draws."""
    random = np.random.default_rng(2)
    scores = np.stack([random.normal(0.62, 0.05, 20), random.normal(0.6, 0.05, 20)], axis=1)
    found = judged(scores)
    known = stats.ttest_rel(scores[:, 0], scores[:, 1]).pvalue
    other = found[int(scores.mean(axis=0).argmin())]
    assert other.p_value is not None
    assert abs(other.p_value - known) < 0.03


def test_fewer_than_six_patients_say_nothing_but_chances() -> None:
    """No p-value, no verdict."""
    rows = judged(np.random.default_rng(3).uniform(size=(5, 3)))
    assert [(row.told_apart, row.p_value) for row in rows] == [(None, None)] * 3
    assert sum(row.first for row in rows) == 1.0


def test_a_smaller_score_leads_where_it_is_better() -> None:
    """Minimised: the mirror image."""
    scores = np.random.default_rng(4).uniform(0.3, 0.7, (12, 4))
    up, down = judged(scores), judged(1 - scores, minimize=True)
    assert [row.told_apart for row in up] == [row.told_apart for row in down]
    assert int(np.argmax([row.first for row in up])) == int(np.argmax([row.first for row in down]))


def test_boards_of_equal_models_rarely_name_a_loser() -> None:
    """60 boards of 10 equal models on 12 patients: 5 % are 3; more than 8 have a chance of 1 in 250 (binomial)."""
    random = np.random.default_rng(5)
    false = 0
    for _ in range(60):
        hard = random.normal(0, 0.1, (12, 1))
        rows = judged(0.6 + hard + random.normal(0, 0.05, (12, 10)), seed=int(random.integers(1 << 30)))
        false += any(row.told_apart for row in rows)
    assert stats.binom.sf(8, 60, 0.05) < 0.004
    assert false <= 8


@pytest.mark.parametrize(("patients", "seeds"), [(6, 0), (60, 0), (12, 1)])
def test_p_values_are_those_of_a_walk_over_all_pairs(patients: int, seeds: int) -> None:
    """Rows that are equal, nearly equal and far apart; few directions, many, and deviations of each row's own."""
    random = np.random.default_rng(4)
    shared = random.normal(0, 0.01, (patients, 40)) * random.random(40) + random.normal(0, 0.03, (patients, 1))
    shared -= shared.mean(axis=0)
    shared[:, 4], shared[:, 6] = shared[:, 3], shared[:, 5] + 1e-9
    own = random.normal(0, 0.004, (seeds, 40))
    scores = np.sort(random.uniform(0.5, 0.55, 40))[::-1]
    rows = [Spread(float(scores[i]), shared[:, i], patients - 1.0, own[:, i]) for i in range(40)]
    everything = np.concatenate([shared, *(np.diag(line) for line in own)])
    draws = np.random.default_rng(0).standard_normal((2000, len(everything))) @ everything
    first, second = np.triu_indices(40, 1)
    apart = ((everything[:, first] - everything[:, second]) ** 2).sum(axis=0) ** 0.5
    told = apart > 1e-7
    largest = (np.abs(draws[:, first[told]] - draws[:, second[told]]) / apart[told]).max(axis=1)
    gaps = (scores[0] - scores[1:]) / ((everything[:, :1] - everything[:, 1:]) ** 2).sum(axis=0) ** 0.5
    normal = normal_of(gaps, CAUTION * (patients - 1))
    expected = (1 + (largest[:, None] >= normal).sum(axis=0)) / 2001
    assert [row.p_value for row in against_leader(rows)[1:]] == pytest.approx(expected, abs=1e-12)
