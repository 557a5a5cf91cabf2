"""Artifacts over a real MLflow server's proxy: interrupted, altered, late, refused; in the end every file is whole."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from harness.files import sha256_file, write_bytes, write_text
from harness.tracking.client import MlflowTracker
from harness.tracking.content import SweepView
from harness.tracking.outbox import Projector
from harness.tracking.project import Projection, read_cursor, store_key
from harness.tracking.store import Store, client_settings
from harness.tracking.tracker import Shelf, StoreAway, StoreDeclines
from harness.trial.folder import TrialFolder
from tests.tracking.served import Line, Served, line_to, served
from tests.tracking.sweeps import complete, make_trial

pytestmark = pytest.mark.slow

WEIGHTS_BYTES = 5_000_000


@pytest.fixture
def trial(generation: Path) -> TrialFolder:
    """A complete trial whose weights take a moment, with an exported model."""
    folder, weights = make_trial(generation), os.urandom(WEIGHTS_BYTES)
    complete(folder)
    folder.manifest.unlink()
    write_bytes(folder.attempt(1).outputs / "weights.safetensors", weights)
    folder.accept(folder.attempt(1))
    write_text(folder.mlflow_model / "MLmodel", "flavors: {}\n")
    write_bytes(folder.mlflow_model / "data" / "model.pt2", weights)
    return folder


def projection(line: Line, generation: Path) -> Projection:
    """As a new process would make it."""
    return Projection(MlflowTracker(Store(line.uri)), store_key(line.uri), SweepView.read(generation))


def all_there(server: Served, trial: TrialFolder) -> bool:
    """Whether the server's own store holds exactly the bytes of every file of the trial and its model."""
    cursor = read_cursor(trial.path)
    assert cursor is not None and cursor.model_id is not None
    run = server.files / cursor.experiment_id / cursor.run_id / "artifacts"
    model = server.files / cursor.experiment_id / "models" / cursor.model_id / "artifacts"
    for name, digest in cursor.files.items():
        here = trial.path / name
        inside = here.is_relative_to(trial.mlflow_model)
        there = model / here.relative_to(trial.mlflow_model) if inside else run / name
        if not sha256_file(there) == sha256_file(here) == digest:
            return False
    return len(cursor.files) == 8 and cursor.state == "complete"


@pytest.mark.parametrize("name", ["weights.safetensors", "model.pt2"])
def test_an_upload_that_is_cut_goes_on_with_that_file(
    server: Served, line: Line, generation: Path, trial: TrialFolder, name: str
) -> None:
    """The connection ends in the middle of a file: that one is sent again, and no other."""
    line.faults[name] = ["cut"]
    with pytest.raises(StoreAway):
        projection(line, generation).trial_changed(trial)
    projection(line, generation).trial_changed(trial)
    assert all_there(server, trial)
    assert {sent: line.sent.count(sent) for sent in line.sent if line.sent.count(sent) > 1} == {name: 2}


def test_a_server_killed_in_the_middle_of_a_file_loses_nothing(
    tmp_path: Path, generation: Path, trial: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back with its store, and every file is there once the outbox has gone on."""
    for setting, value in client_settings({}).items():
        monkeypatch.setenv(setting, value)
    with served(tmp_path / "killed") as server, line_to(server) as line:
        line.faults["weights.safetensors"] = ["cut"]
        projector = Projector(generation, Store(line.uri), every_s=0.0, first_delay_s=0.1, longest_delay_s=0.5)
        projector.touch(trial)
        assert line.middle.wait(60)
        server.kill()
        back = Thread(target=server.start)
        back.start()
        assert projector.drain(120)
        back.join()
        assert projector.failures == ()
        projector.close()
        assert all_there(server, trial)
        assert line.sent.count("result.json") == 1


def test_a_store_that_alters_a_byte_is_noticed(
    server: Served, line: Line, generation: Path, trial: TrialFolder
) -> None:
    """Once: the file is sent again. Twice: it is named, all others are there, and the next start sends it alone."""
    line.faults["weights.safetensors"] = ["alter"]
    line.faults["model.pt2"] = ["alter", "alter"]
    with pytest.raises(StoreDeclines, match=r"^mlflow_model/data/model.pt2: not there as it was sent, 2 times$"):
        projection(line, generation).trial_changed(trial)
    assert line.sent.count("weights.safetensors") == line.sent.count("model.pt2") == 2
    line.sent.clear()
    projection(line, generation).trial_changed(trial)
    assert line.sent == ["model.pt2"]
    assert all_there(server, trial)


def test_a_file_that_the_store_takes_long_for_arrives(
    server: Served, line: Line, generation: Path, trial: TrialFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer comes later than MLflow waits for one to a question."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    line.faults["weights.safetensors"] = ["late"]
    projection(line, generation).trial_changed(trial)
    assert all_there(server, trial)
    assert line.sent.count("weights.safetensors") == 1


def test_a_file_too_large_for_what_stands_before_the_server_is_declined(
    line: Line, generation: Path, trial: TrialFolder
) -> None:
    """Asking again would change nothing, and everything behind it would wait for ever."""
    line.faults["weights.safetensors"] = ["large"]
    tracker = MlflowTracker(Store(line.uri))
    run = tracker.run(tracker.experiment(generation.parent.name), identity=("k", "v"), name="n", tags={}, start_ms=1)
    with pytest.raises(StoreDeclines, match=r"weights.safetensors \(5.0 MB\) is more than a request"):
        tracker.log_file(Shelf("run", run), trial.weights, "")
