"""Files of a trial that are copied to a store one by one: cut off, spoiled on the way, or there already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.files import read_json, sha256_file, write_json, write_text
from harness.tracking.content import SweepView
from harness.tracking.memory import MemoryTracker
from harness.tracking.project import Projection, read_cursor
from harness.tracking.tracker import Shelf, StoreAway, StoreDeclines
from harness.trial.folder import TrialFolder
from tests.tracking.sweeps import SPEC, complete, make_trial


class Narrow(MemoryTracker):
    """A store like a server's, over a line on which something happens to files: `meets` is told each one's name."""

    def __init__(self, meets: Callable[[str], None] = lambda name: None) -> None:
        super().__init__(remote=True)
        self.meets, self.sent = meets, list[str]()

    def log_file(self, shelf: Shelf, file: Path, folder: str) -> None:
        self.sent.append(file.name)
        self.meets(file.name)
        super().log_file(shelf, file, folder)


FILES = ["result.json", "scores.json", "spec.json", "weights.safetensors", "confusion.json", "confusion.png"]


def narrow(generation: Path, meets: Callable[[str], None] = lambda name: None) -> tuple[Narrow, Projection]:
    """Such a store, and a projection into it."""
    tracker = Narrow(meets)
    return tracker, Projection(tracker, "store", SweepView.read(generation))


def with_model(generation: Path) -> TrialFolder:
    """A complete trial with an exported model of two files."""
    folder = make_trial(generation)
    complete(folder)
    write_text(folder.mlflow_model / "MLmodel", "flavors: {}")
    write_text(folder.mlflow_model / "data" / "model.pt2", "not really a model")
    return folder


def test_a_copy_that_is_cut_off_goes_on_with_the_file_it_was_at(generation: Path) -> None:
    """At each file in turn, those of the model too, the line breaks once: that file is sent twice, the others once."""
    for broken in [*FILES, "MLmodel", "model.pt2"]:
        folder, away = with_model(generation), [broken]

        def breaks(name: str, away: list[str] = away) -> None:
            if name in away:
                away.remove(name)
                raise StoreAway("connection reset")

        tracker, projection = narrow(generation, breaks)
        with pytest.raises(StoreAway):
            projection.trial_changed(folder)
        Projection(tracker, "store", SweepView.read(generation)).trial_changed(folder)  # after a kill
        assert sorted(tracker.sent) == sorted([*FILES, "MLmodel", "model.pt2", broken])
        (model,) = tracker.models.values()
        assert (model.ready, sorted(model.files)) == (True, ["MLmodel", "data/model.pt2"])
        for file in generation.rglob("mlflow.json"):
            file.unlink()


def test_a_file_that_is_spoiled_once_is_sent_again(generation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read back is not what was sent: the second time it is."""
    tracker, projection = narrow(generation)
    spoils(tracker, ["weights.safetensors"], monkeypatch)
    folder = make_trial(generation)
    complete(folder)
    projection.trial_changed(folder)
    assert sorted(tracker.sent) == sorted([*FILES, "weights.safetensors"])
    cursor = read_cursor(folder.path)
    assert cursor is not None and cursor.state == "complete"
    assert cursor.files["weights.safetensors"] == sha256_file(folder.weights)
    assert stored(tracker)["weights.safetensors"] == folder.weights.read_bytes()


def test_a_file_that_stays_spoiled_is_named_and_holds_up_no_other(
    generation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line; the run has its state and all other files; the next start tries that file alone again."""
    tracker, projection = narrow(generation)
    spoils(tracker, ["weights.safetensors"] * 2, monkeypatch)
    folder = make_trial(generation)
    complete(folder)
    with pytest.raises(StoreDeclines, match=r"^weights.safetensors: not there as it was sent, 2 times$"):
        projection.trial_changed(folder)
    assert {run.status for run in tracker.runs.values() if run.files} == {"FINISHED"}
    assert len(stored(tracker)) == len(FILES)
    tracker.sent.clear()
    projection.trial_changed(folder)
    assert tracker.sent == ["weights.safetensors"]


def test_an_embedded_store_is_not_read_back(generation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are on this machine's disk, as the trial's own are."""
    tracker, projection = narrow(generation)
    tracker.remote = False
    monkeypatch.setattr(tracker, "stored_sha256", None)
    folder = make_trial(generation)
    complete(folder)
    projection.trial_changed(folder)
    assert sorted(tracker.sent) == sorted(FILES)


def test_only_files_that_changed_are_sent_again(generation: Path) -> None:
    """A failed trial is tried again with another spec; a damaged result is trained again; a report is written again."""
    tracker, projection = narrow(generation)
    folder = make_trial(generation, state="failed")
    projection.trial_changed(folder)
    assert tracker.sent == ["spec.json"]
    spec = SPEC.model_copy(update={"seed": 6})
    folder.write_spec(spec)
    complete(folder)
    projection.trial_changed(folder)
    assert sorted(tracker.sent[1:]) == sorted(FILES)

    write_text(folder.weights, "other weights")
    manifest = read_json(folder.manifest)
    manifest["sha256"]["weights.safetensors"] = sha256_file(folder.weights)
    write_json(folder.manifest, manifest)
    tracker.sent.clear()
    projection.trial_changed(folder)
    assert tracker.sent == ["weights.safetensors"]

    report = generation / "report"
    write_text(report / "index.html", "<p>one</p>")
    write_text(report / "figures" / "a.svg", "<svg/>")
    projection.attach(report, "report")
    write_text(report / "index.html", "<p>two</p>")
    tracker.sent.clear()
    projection.attach(report, "report")
    assert tracker.sent == ["index.html"]
    parent = read_cursor(generation)
    assert parent is not None
    assert tracker.runs[parent.run_id].files["report/index.html"] == b"<p>two</p>"
    assert "report/figures/a.svg" in tracker.runs[parent.run_id].files


def test_a_cursor_of_an_earlier_version_is_read(generation: Path) -> None:
    """It had a list of names: a finished copy stays finished, and one that goes on sends what has no hash again."""
    tracker, projection = narrow(generation)
    folder = make_trial(generation)
    complete(folder)
    projection.trial_changed(folder)
    said = read_json(folder.path / "mlflow.json")
    del said["unfinished_model_id"]
    write_json(folder.path / "mlflow.json", {**said, "files": list(said["files"])})
    tracker.sent.clear()
    projection.trial_changed(folder)
    assert tracker.sent == []
    write_json(folder.path / "mlflow.json", {**said, "files": ["result.json"], "state": "running"})
    projection.trial_changed(folder)
    assert len(tracker.runs) == 2
    assert sorted(tracker.sent) == sorted(FILES)


def spoils(tracker: Narrow, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store keeps of these files, once each, is one byte longer than what it was sent."""
    keep = MemoryTracker.log_file

    def spoiled(self: MemoryTracker, shelf: Shelf, file: Path, folder: str) -> None:
        keep(self, shelf, file, folder)
        if file.name in names:
            names.remove(file.name)
            self._files(shelf)[f"{folder}/{file.name}".lstrip("/")] += b"!"

    monkeypatch.setattr(MemoryTracker, "log_file", spoiled)


def stored(tracker: MemoryTracker) -> dict[str, bytes]:
    """The files of the only trial."""
    (run,) = [run for run in tracker.runs.values() if "harness.trial_uid" in run.tags]
    return run.files
