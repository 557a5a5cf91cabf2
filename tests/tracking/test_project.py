"""A trial's folder becomes a run: what it shows, and that copying it again changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.tracking.content import SweepView
from harness.tracking.memory import MemoryTracker
from harness.tracking.project import Projection, read_cursor
from harness.tracking.tracker import RunRecord
from tests.tracking.sweeps import CREATED, SPEC, complete, make_trial, set_state, start, train_epoch


@pytest.fixture
def tracker() -> MemoryTracker:
    return MemoryTracker()


@pytest.fixture
def projection(tracker: MemoryTracker, generation: Path) -> Projection:
    return Projection(tracker, "store", SweepView.read(generation))


def trial_run(tracker: MemoryTracker, uid: str = "t1") -> RunRecord:
    """The only run of that trial."""
    (run_id,) = [
        run_id for run_id, run in tracker.runs.items() if run.tags.get("harness.trial_uid", "").endswith(f"/{uid}")
    ]
    return tracker.read(run_id)


def test_a_run_lies_under_the_sweeps_run(tracker: MemoryTracker, projection: Projection, generation: Path) -> None:
    """Parent and child share an experiment named like the sweep; the child names its parent."""
    projection.sweep_changed("running")
    projection.trial_changed(make_trial(generation))
    parent = read_cursor(generation)
    assert parent is not None
    assert tracker.experiment(generation.parent.name) == parent.experiment_id
    assert trial_run(tracker).tags["mlflow.parentRunId"] == parent.run_id
    assert tracker.read(parent.run_id).name == f"{generation.parent.name} g1"
    assert tracker.read(parent.run_id).files == ("space.json", "split.json")


def test_a_running_trial_shows_name_parameters_tags_and_data(
    tracker: MemoryTracker, projection: Projection, generation: Path
) -> None:
    """Everything that people filter and group by is there from the first epoch on."""
    folder = make_trial(generation)
    start(folder)
    projection.trial_changed(folder)
    run = trial_run(tracker)
    assert run.name == "unet·b0·unicorn3/all·64·1e-3"
    assert run.status == "RUNNING"
    assert run.params["architecture"] == "unet"
    assert run.params["learning_rate"] == "0.001"
    assert run.params["labels"] == "unicorn3"
    assert "decoder_channels" not in run.params  # null: the architecture's own
    expected = {"stratum": "unicorn3/all", "state": "running", "baseline": "true", "mark": "in_paper"}
    assert expected.items() <= run.tags.items()
    assert run.tags["folder"] == str(folder.path)
    assert run.tags["fingerprint"] == SPEC.fingerprint
    digest = SPEC.dataset.data_hash[:16]
    assert run.datasets == (
        ("tiger unicorn3 train", digest, "training"),
        ("tiger unicorn3 validation", digest, "validation"),
    )


def test_curves_have_the_events_own_times_and_epochs(
    tracker: MemoryTracker, projection: Projection, generation: Path
) -> None:
    """Epoch 2, measured 20 s after the start, is a point at step 2 and at that time."""
    folder = make_trial(generation)
    start(folder)
    train_epoch(folder, 1)
    projection.trial_changed(folder)
    train_epoch(folder, 2)
    projection.trial_changed(folder)
    curve = tracker.curve(trial_run(tracker).run_id, "val/iou")
    assert [(point.step, point.value, point.time_ms / 1000 - CREATED) for point in curve] == [
        (1, 0.1, 10.0),
        (2, 0.2, 20.0),
    ]
    assert "system/cpu_utilization_percentage" in trial_run(tracker).metrics


def test_a_waiting_trial_has_no_run_yet(tracker: MemoryTracker, projection: Projection, generation: Path) -> None:
    """Runs appear as trials begin."""
    projection.trial_changed(make_trial(generation, state="waiting"))
    assert tracker.runs == {}


def test_a_complete_trial_shows_scores_files_and_status(
    tracker: MemoryTracker, projection: Projection, generation: Path
) -> None:
    """The best epoch's scores stand at the top level, n/a ones nowhere; predictions stay in the folder."""
    folder = make_trial(generation)
    complete(folder)
    projection.trial_changed(folder)
    run = trial_run(tracker)
    assert run.status == "FINISHED"
    assert run.tags["state"] == "complete"
    at_the_top = {key: value for key, value in run.metrics.items() if "/" not in key}
    assert at_the_top == {"iou": 0.2, "dice": 0.3, "objective": 0.2, "best_epoch": 2.0, "minutes": 1.5}
    assert run.metrics["scores/val/iou_tumor"] == 0.25
    assert run.metrics["scores/val/centre/RUMC/iou"] == 0.15
    assert "scores/val/centre/RUMC/iou_tumor" not in run.metrics  # 100 charts of one point hide the others
    assert run.metrics["paper/best_epoch/val/iou"] == 0.21
    assert run.metrics["paper/best_of_any_epoch/val/iou"] == 0.22
    assert run.metrics["val/iou"] == 0.3  # the curve, at its last epoch
    assert run.files == (
        "figures/confusion.json",
        "figures/confusion.png",
        "result.json",
        "scores.json",
        "spec.json",
        "weights.safetensors",
    )


@pytest.mark.parametrize(("state", "status"), [("pruned", "KILLED"), ("failed", "FAILED"), ("waiting", "SCHEDULED")])
def test_every_end_has_its_status(
    tracker: MemoryTracker, projection: Projection, generation: Path, state: str, status: str
) -> None:
    """Pruned is told from failed, and a trial put back to wait is not left RUNNING."""
    folder = make_trial(generation)
    start(folder)
    projection.trial_changed(folder)
    set_state(folder, state, cause="nan", message="the loss is not a number", finished=CREATED + 50)
    projection.trial_changed(folder)
    assert trial_run(tracker).status == status
    assert trial_run(tracker).tags["cause"] == "nan"


def test_a_second_try_forgets_the_cause_of_the_first(
    tracker: MemoryTracker, projection: Projection, generation: Path
) -> None:
    """A trial that failed and completes later shows no cause."""
    folder = make_trial(generation, state="failed", cause="nan")
    projection.trial_changed(folder)
    complete(folder)
    projection.trial_changed(folder)
    assert trial_run(tracker).tags["cause"] == ""
    assert trial_run(tracker).status == "FINISHED"


def test_copying_again_changes_nothing(tracker: MemoryTracker, projection: Projection, generation: Path) -> None:
    """Also when the cursor was lost, as after a kill between the answer and the note of it."""
    folder = make_trial(generation)
    complete(folder)
    projection.trial_changed(folder)
    before = trial_run(tracker)
    projection.trial_changed(folder)
    assert trial_run(tracker) == before
    (folder.path / "mlflow.json").unlink()
    projection.trial_changed(folder)
    assert trial_run(tracker) == before


def test_a_new_projection_goes_on_with_the_same_runs(
    tracker: MemoryTracker, projection: Projection, generation: Path
) -> None:
    """The controller was killed in between: still one parent and one run, and the curve has no gap."""
    folder = make_trial(generation)
    start(folder)
    train_epoch(folder, 1)
    projection.trial_changed(folder)
    again = Projection(tracker, "store", SweepView.read(generation))
    train_epoch(folder, 2)
    again.trial_changed(folder)
    assert len(tracker.runs) == 2
    assert [point.step for point in tracker.curve(trial_run(tracker).run_id, "val/iou")] == [1, 2]


def test_another_store_gets_a_copy_of_its_own(projection: Projection, generation: Path) -> None:
    """A cursor counts for the store it was written for."""
    folder = make_trial(generation)
    complete(folder)
    projection.trial_changed(folder)
    elsewhere = MemoryTracker()
    Projection(elsewhere, "another store", SweepView.read(generation)).trial_changed(folder)
    assert trial_run(elsewhere).status == "FINISHED"


def test_a_resumed_attempt_continues_the_curve(
    tracker: MemoryTracker, projection: Projection, generation: Path
) -> None:
    """Attempt 2 resumed after epoch 2: epochs 1 and 2 come from attempt 1, its lost epoch 3 does not."""
    folder = make_trial(generation)
    start(folder)
    for epoch in (1, 2, 3):
        train_epoch(folder, epoch, 1)
    start(folder, 2, resumed_epoch=2)
    train_epoch(folder, 3, 2, **{"val/iou": 0.7})
    projection.trial_changed(folder)
    assert [point.value for point in tracker.curve(trial_run(tracker).run_id, "val/iou")] == [0.1, 0.2, 0.7]


def test_an_epoch_trained_twice_is_one_point(tracker: MemoryTracker, projection: Projection, generation: Path) -> None:
    """Attempt 1 was copied up to epoch 3 before it died; attempt 2 repeats epoch 3: no second point."""
    folder = make_trial(generation)
    start(folder)
    for epoch in (1, 2, 3):
        train_epoch(folder, epoch, 1)
    projection.trial_changed(folder)
    start(folder, 2, resumed_epoch=2)
    for epoch in (3, 4):
        train_epoch(folder, epoch, 2)
    projection.trial_changed(folder)
    assert [point.step for point in tracker.curve(trial_run(tracker).run_id, "val/iou")] == [1, 2, 3, 4]


def test_a_model_exported_later_is_added(tracker: MemoryTracker, projection: Projection, generation: Path) -> None:
    """`export: top:3` is decided after the search, when the trial's run has long ended."""
    folder = make_trial(generation)
    complete(folder)
    projection.trial_changed(folder)
    assert trial_run(tracker).models == ()
    folder.mlflow_model.mkdir()
    projection.trial_changed(folder)
    assert len(trial_run(tracker).models) == 1


def test_a_password_in_a_message_is_not_copied(
    tracker: MemoryTracker, projection: Projection, generation: Path
) -> None:
    """Trackers are read by more people than the machine is."""
    message = "cannot connect to postgresql://ann:s3cret@db/optuna"
    projection.trial_changed(make_trial(generation, state="failed", message=message))
    run = trial_run(tracker)
    assert run.tags["mlflow.note.content"] == "cannot connect to postgresql://ann:***@db/optuna"
    assert "s3cret" not in json.dumps(dict(run.tags) | dict(run.params))


@pytest.mark.slow
def test_a_whole_trial_reads_the_same_from_mlflow_and_from_memory(
    tracker: MemoryTracker, projection: Projection, generation: Path, request: pytest.FixtureRequest
) -> None:
    """The two trackers agree on name, status, parameters, metrics, data and files of one complete trial."""
    folder = make_trial(generation)
    complete(folder)
    projection.sweep_changed("running")
    projection.trial_changed(folder)
    projection.sweep_changed("finished")
    real = request.getfixturevalue("mlflow_tracker")
    copy = Projection(real, "mlflow", SweepView.read(generation))
    copy.sweep_changed("running")
    copy.trial_changed(folder)
    copy.sweep_changed("finished")
    cursor, parent = read_cursor(folder.path), read_cursor(generation)
    assert cursor is not None
    assert parent is not None
    expected, found = trial_run(tracker), real.read(cursor.run_id)
    for fact in ("name", "status", "params", "metrics", "datasets", "files"):
        assert getattr(found, fact) == getattr(expected, fact), fact
    for key in ("stratum", "state", "fingerprint", "folder", "baseline", "mark", "harness.trial_uid"):
        assert found.tags[key] == expected.tags[key]
    assert found.tags["mlflow.parentRunId"] == parent.run_id
    assert real.read(parent.run_id).status == "FINISHED"
