"""When a sweep ends: by hand on small numbers."""

from __future__ import annotations

import pytest

from harness.sweep.forecast import Climb, Forecast, Pace, forecast, forecast_rungs


def known(found: Forecast | None) -> Forecast:
    assert found is not None
    return found


def test_what_is_left_goes_to_the_slot_that_is_free_first() -> None:
    """One of six ended in 10 s, one runs since 4 s, two slots: ends at 6, 16 and 26 s on one, at 10 and 20 s beside."""
    found = known(forecast({"a": Pace(6, 1, [10.0])}, [("a", 4.0)], slots=2))
    assert found.left_s == 26.0
    assert found.ended == {"a": 6}


def test_on_rungs_epochs_count_not_trials() -> None:
    """9 x 1 + 3 x 2 + 1 x 6 = 21 epochs, nine trained: 12 left at 5 s on two slots. In 15 s, half of the rest."""
    climbs = {"a": Climb(wanted=9, ended=1, planned=21.0, trained=9)}
    assert known(forecast_rungs(climbs, 5.0, slots=2)) == Forecast(
        30.0, {"a": 9}, "from 21 planned epochs at the median time of those so far, 2 slots"
    )
    assert known(forecast_rungs(climbs, 5.0, slots=2, limit_s=15.0)).ended == {"a": 5}
    assert forecast_rungs(climbs, None, slots=2) is None


def test_a_time_limit_counts_what_ends_before_it() -> None:
    """Of ends at 6, 10, 16, 20 and 26 s three fall within 16 s; with the one that has ended that makes four."""
    found = known(forecast({"a": Pace(6, 1, [10.0])}, [("a", 4.0)], slots=2, limit_s=16.0))
    assert found.ended == {"a": 4}


def test_strata_take_turns_so_that_a_limit_ends_them_evenly() -> None:
    """Two strata, 2 and 10 s a trial, one slot, 24 s: ends at 2 and 12, 14 and 24."""
    paces = {"quick": Pace(4, 1, [2.0]), "slow": Pace(4, 1, [10.0])}
    found = known(forecast(paces, [], slots=1, limit_s=24.0))
    assert found.ended == {"quick": 3, "slow": 3}
    assert found.left_s == 36.0


def test_pruned_trials_shorten_the_rest_by_their_share() -> None:
    """One complete in 40 s, three pruned in 8, 10 and 12: (40 + 3 * 10) / 4 = 17.5 s to expect of a trial."""
    assert Pace(9, 4, [40.0], [8.0, 10.0, 12.0]).trial_s == 17.5


def test_a_stratum_without_an_end_borrows_and_a_first_guess_comes_from_epochs() -> None:
    """Nothing known: None, not zero. With a guess of 30 s: that. Beside a stratum of 10 s: 10 s."""
    paces = {"a": Pace(1, 0)}
    assert forecast(paces, [], slots=1) is None
    guessed = known(forecast(paces, [], slots=1, guess_s=30.0))
    assert guessed.left_s == 30.0 and "epochs so far" in guessed.basis
    assert known(forecast({**paces, "b": Pace(1, 1, [10.0])}, [], slots=1, guess_s=30.0)).left_s == 10.0


def test_a_trial_that_runs_longer_than_expected_is_about_to_end() -> None:
    """25 s into a trial of 10: nothing is left, never less than nothing; and a sweep at its end has 0 s to go."""
    assert known(forecast({"a": Pace(2, 1, [10.0])}, [("a", 25.0)], slots=1)).left_s == pytest.approx(0.0)
    assert known(forecast({"a": Pace(1, 1, [10.0])}, [], slots=1)).left_s == 0.0
