"""What is particular to MLflow: its trash, and stores that do not answer."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from harness.errors import Refused
from harness.tracking.client import MlflowTracker, delete_experiment
from harness.tracking.model import save_pt2
from harness.tracking.store import Store, tracking_store
from harness.tracking.tracker import Shelf, StoreAway

NOWHERE = Store("http://ann:s3cret@127.0.0.1:9")  # the discard port: nothing listens

pytestmark = pytest.mark.slow


def make_run(tracker: MlflowTracker, name: str) -> str:
    """A run in the experiment of that name."""
    return tracker.run(tracker.experiment(name), identity=("k", "v"), name="n", tags={}, start_ms=1)


def test_a_deleted_sweep_frees_its_name(mlflow_tracker: MlflowTracker, store: Store) -> None:
    """The number of its runs is told; a new sweep of that name starts with none and can be deleted too."""
    name = uuid4().hex
    first = make_run(mlflow_tracker, name)
    assert delete_experiment(store, name) == 1
    second = make_run(mlflow_tracker, name)
    assert second != first
    assert delete_experiment(store, name) == 1
    assert delete_experiment(store, name) == 0


def test_an_experiment_deleted_by_hand_comes_back(mlflow_tracker: MlflowTracker) -> None:
    """With its runs: the folders are still there, and they are the truth."""
    name = uuid4().hex
    run = make_run(mlflow_tracker, name)
    mlflow_tracker._client.delete_experiment(mlflow_tracker.experiment(name))
    assert make_run(mlflow_tracker, name) == run


def test_deleting_from_a_home_without_a_store_makes_none(tmp_path: Path) -> None:
    """Nothing was tracked, so there is nothing to open."""
    assert delete_experiment(tracking_store(tmp_path, {}), "unicorn") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_refuses_connections_is_away_at_once(mlflow_tracker: MlflowTracker) -> None:
    """Not after minutes of the client's own retries; and the reason is short, without address or password."""
    began = time.monotonic()
    with pytest.raises(StoreAway) as caught:
        MlflowTracker(NOWHERE).experiment("unicorn")
    assert time.monotonic() - began < 5
    assert str(caught.value) == "connection refused"


def test_deleting_waits_for_the_store(mlflow_tracker: MlflowTracker) -> None:
    """A removal that leaves runs behind would be a lie."""
    with pytest.raises(Refused, match=r"http://ann:\*\*\*@127\.0\.0\.1:9 does not answer"):
        delete_experiment(NOWHERE, "unicorn")


def test_a_tracked_model_loads_by_its_id(
    mlflow_tracker: MlflowTracker, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`models:/<id>` with plain MLflow, from a home with spaces and quotes in its path, without pickle."""
    import mlflow.pytorch

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    experiment = mlflow_tracker.experiment(uuid4().hex)
    run = mlflow_tracker.run(experiment, identity=("k", "v"), name="n", tags={}, start_ms=1)
    network = torch.nn.Conv2d(3, 2, 1).eval()
    save_pt2(network, tmp_path / "model", input_px=8, outputs=2, requirements=["torch"], metadata={})
    model_id = mlflow_tracker.model(experiment, run, identity=("k", "v"), name="unet·b0").model_id
    for file in (path for path in (tmp_path / "model").rglob("*") if path.is_file()):
        inside = file.parent.relative_to(tmp_path / "model").as_posix()
        mlflow_tracker.log_file(Shelf("model", model_id), file, "" if inside == "." else inside)
    mlflow_tracker.finish_model(model_id, run, points=[])
    images = torch.rand(3, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(mlflow.pytorch.load_model(f"models:/{model_id}")(images), network(images))
