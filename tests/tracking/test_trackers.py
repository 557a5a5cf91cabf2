"""What every tracker promises: the same suite over MLflow (SQLite) and over memory."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from harness.tracking.memory import MemoryTracker
from harness.tracking.tracker import DatasetUse, Point, StoreDeclines, Tracker

pytestmark = pytest.mark.slow


@pytest.fixture(params=["mlflow", "memory"])
def tracker(request: pytest.FixtureRequest) -> Tracker:
    if request.param == "memory":
        return MemoryTracker()
    found: Tracker = request.getfixturevalue("mlflow_tracker")
    return found


@pytest.fixture
def experiment(tracker: Tracker) -> str:
    return tracker.experiment(f"experiment {uuid4().hex}")


@pytest.fixture
def run(tracker: Tracker, experiment: str) -> str:
    return tracker.run(experiment, identity=("harness.trial_uid", "a/1"), name="unet·b0", tags={}, start_ms=1000)


def test_an_experiment_is_made_once_per_name(tracker: Tracker) -> None:
    """Asking for the same name again gives the same id; another name gives another."""
    name = uuid4().hex
    assert tracker.experiment(name) == tracker.experiment(name)
    assert tracker.experiment(name) != tracker.experiment(f"{name} two")


def test_a_run_is_made_once_per_identity(tracker: Tracker, experiment: str) -> None:
    """A caller that never saw the answer gets the same run, not a second one."""
    first, again, other = (
        tracker.run(experiment, identity=("harness.trial_uid", uid), name="n", tags={"a": "b"}, start_ms=1000)
        for uid in ("s/1", "s/1", "s/2")
    )
    assert first == again != other
    record = tracker.read(first)
    assert record.name == "n"
    assert record.status == "RUNNING"
    assert record.tags["a"] == "b"
    assert record.tags["harness.trial_uid"] == "s/1"


def test_a_run_is_not_found_in_another_experiment(tracker: Tracker, experiment: str, run: str) -> None:
    """Identities count within their experiment."""
    elsewhere = tracker.experiment(uuid4().hex)
    twin = tracker.run(elsewhere, identity=("harness.trial_uid", "a/1"), name="n", tags={}, start_ms=1000)
    assert twin != run


def test_points_sent_twice_are_stored_once(tracker: Tracker, run: str) -> None:
    """Replaying a history leaves one point per epoch, at the events' own times."""
    points = [Point("val/iou", epoch / 10, epoch, 1000 + epoch) for epoch in (1, 2, 3)]
    tracker.log(run, params={}, points=points[:2], tags={})
    tracker.log(run, params={}, points=points, tags={})
    assert tracker.curve(run, "val/iou") == tuple(points)
    assert tracker.read(run).metrics == {"val/iou": 0.3}


def test_more_points_than_one_request_carries_all_arrive(tracker: Tracker, run: str) -> None:
    """MLflow takes 1,000 values, 100 parameters and 100 tags at a time; 2,100, 130 and 120 arrive whole."""
    points = [Point(f"m{step % 3}", float(step), step, step) for step in range(2100)]
    params = {f"p{number}": str(number) for number in range(130)}
    tags = {f"t{number}": str(number) for number in range(120)}
    tracker.log(run, params=params, points=points, tags=tags)
    record = tracker.read(run)
    assert sum(len(tracker.curve(run, f"m{key}")) for key in range(3)) == 2100
    assert record.params == params
    assert {key: value for key, value in record.tags.items() if key.startswith("t")} == tags


def test_a_parameter_keeps_its_first_value(tracker: Tracker, run: str) -> None:
    """The same value may be sent again, another one is declined."""
    tracker.log(run, params={"lr": "0.1"}, points=(), tags={})
    tracker.log(run, params={"lr": "0.1"}, points=(), tags={})
    with pytest.raises(StoreDeclines):
        tracker.log(run, params={"lr": "0.2"}, points=(), tags={})


def test_datasets_carry_their_hash_and_role(tracker: Tracker, run: str) -> None:
    """Training and validation data stand side by side, once each."""
    uses = [DatasetUse(f"tiger {role}", "abc", role, '{"uri": "x"}') for role in ("training", "validation")]
    tracker.log_datasets(run, uses)
    tracker.log_datasets(run, uses)
    assert tracker.read(run).datasets == (
        ("tiger training", "abc", "training"),
        ("tiger validation", "abc", "validation"),
    )


def test_files_lie_in_their_folders(tracker: Tracker, run: str, tmp_path: Path) -> None:
    """A file goes to the top or into a folder; sending it again replaces it."""
    file = tmp_path / "result.json"
    file.write_text("{}")
    for folder in ("", "figures", "figures"):
        tracker.log_file(run, file, folder)
    assert tracker.read(run).files == ("figures/result.json", "result.json")


def test_a_model_is_made_once_and_belongs_to_its_run(
    tracker: Tracker, experiment: str, run: str, tmp_path: Path
) -> None:
    """Storing the same export twice gives one model."""
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    first, again = (
        tracker.log_model(
            experiment,
            run,
            tmp_path,
            identity=("harness.trial_uid", "a/1"),
            name="unet·b0·unicorn3/all",
            points=[Point("iou", 0.5, 2, 1000)],
        )
        for _ in range(2)
    )
    assert first == again
    assert tracker.read(run).models == (first,)


@pytest.mark.parametrize("status", ["FINISHED", "KILLED", "FAILED", "SCHEDULED", "RUNNING"])
def test_a_status_is_kept(tracker: Tracker, run: str, status: str) -> None:
    """Every state of a trial has a status that can be set and read."""
    tracker.set_status(run, status, 5000)  # type: ignore[arg-type]  # the parametrised literals
    assert tracker.read(run).status == status


def test_an_unknown_run_is_declined(tracker: Tracker) -> None:
    """What asking again will not change is told apart from an outage."""
    with pytest.raises(StoreDeclines):
        tracker.log("0" * 32, params={}, points=[Point("a", 1.0, 1, 1)], tags={})
