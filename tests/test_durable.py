"""Telling Optuna's storage all values of a trial: at once in a database, one by one elsewhere, to the same end."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage

from harness.durable import _report
from harness.study import open_storage


@pytest.fixture(params=["sqlite", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> BaseStorage:
    return open_storage(f"sqlite:///{tmp_path / 'o.db'}") if request.param == "sqlite" else InMemoryStorage()


def test_values_are_there_once_however_often_they_are_told(storage: BaseStorage) -> None:
    """Some were told before a kill; infinity is a value to Optuna; another trial has none of them."""
    study = optuna.create_study(storage=storage)
    one, other = study.ask(), study.ask()
    told = {epoch: epoch / 7 for epoch in range(1, 51)} | {51: math.inf}
    for some in ({}, {3: 3 / 7}, told, told):
        _report(study._storage, one._trial_id, some)
    study.tell(one, 0.5)
    first, second = optuna.load_study(study_name=study.study_name, storage=storage).trials
    assert first.intermediate_values == told
    assert (first.state.name, first.value) == ("COMPLETE", 0.5)
    assert second.number == other.number and second.intermediate_values == {}
