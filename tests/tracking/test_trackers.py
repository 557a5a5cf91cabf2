"""What every tracker promises: the same suite over MLflow (SQLite, and a server) and over memory."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from harness.files import sha256_file
from harness.tracking.client import MlflowTracker
from harness.tracking.memory import MemoryTracker
from harness.tracking.store import Store
from harness.tracking.tracker import DatasetUse, Point, Shelf, StoreAway, StoreDeclines, Tracker
from tests.tracking.served import Line

pytestmark = pytest.mark.slow


@pytest.fixture(params=["mlflow", "server", "memory"])
def tracker(request: pytest.FixtureRequest) -> Tracker:
    if request.param == "memory":
        return MemoryTracker()
    if request.param == "server":
        line: Line = request.getfixturevalue("line")
        return MlflowTracker(Store(line.uri))
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
    file, shelf = tmp_path / "result.json", Shelf("run", run)
    file.write_text("{}")
    for folder in ("", "figures", "figures"):
        tracker.log_file(shelf, file, folder)
    assert tracker.read(run).files == ("figures/result.json", "result.json")
    with pytest.raises((StoreAway, StoreDeclines)):
        tracker.log_file(shelf, file, "figures/")


@pytest.mark.parametrize("size_bytes", [0, 1, 3_000_000])
@pytest.mark.parametrize("of", ["run", "model"])
def test_what_is_read_back_is_what_was_sent(
    tracker: Tracker, experiment: str, run: str, tmp_path: Path, of: str, size_bytes: int
) -> None:
    """Byte by byte, also after it was replaced; of a file that was never sent there is nothing."""
    identity = ("harness.trial_uid", "a/1")
    model = tracker.model(experiment, run, identity=identity, name="n").model_id
    shelf = Shelf("run", run) if of == "run" else Shelf("model", model)
    file = tmp_path / "weights.safetensors"
    for content in (b"a" * size_bytes, b"b" * size_bytes):
        file.write_bytes(content)
        tracker.log_file(shelf, file, "deep/er")
        path = "deep/er/weights.safetensors"
        assert tracker.stored_sha256(shelf, path, size_bytes=size_bytes) == sha256_file(file)
    for absent in ("deep/er/other", "other"):
        assert tracker.stored_sha256(shelf, absent, size_bytes=1) is None


def test_a_model_is_made_once_and_belongs_to_its_run(
    tracker: Tracker, experiment: str, run: str, tmp_path: Path
) -> None:
    """It is ready, and the run's, once it is finished; asked for again it is the same one."""
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    identity, name = ("harness.trial_uid", "a/1"), "unet·b0·unicorn3/all"
    first, again = (tracker.model(experiment, run, identity=identity, name=name) for _ in range(2))
    assert first == again
    assert not first.ready
    assert tracker.read(run).models == ()
    for _ in range(2):
        tracker.log_file(Shelf("model", first.model_id), tmp_path / "MLmodel", "")
        tracker.finish_model(first.model_id, run, points=[Point("iou", 0.5, 2, 1000)])
    assert tracker.model(experiment, run, identity=identity, name=name).ready
    assert tracker.read(run).models == (first.model_id,)
    assert tracker.read(run).files == ()


@pytest.mark.parametrize("status", ["FINISHED", "KILLED", "FAILED", "SCHEDULED", "RUNNING"])
def test_a_status_is_kept(tracker: Tracker, run: str, status: str) -> None:
    """Every state of a trial has a status that can be set and read."""
    tracker.set_status(run, status, 5000)  # type: ignore[arg-type]  # the parametrised literals
    assert tracker.read(run).status == status


def test_an_unknown_run_is_declined(tracker: Tracker) -> None:
    """What asking again will not change is told apart from an outage."""
    with pytest.raises(StoreDeclines):
        tracker.log("0" * 32, params={}, points=[Point("a", 1.0, 1, 1)], tags={})
    with pytest.raises(StoreDeclines):
        tracker.stored_sha256(Shelf("run", "0" * 32), "a", size_bytes=1)
