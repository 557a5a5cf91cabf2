"""run_trial(): from spec.json to accepted outputs, and how each failure is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch

from harness.config.spec import ModelSpec, TrialSpec
from harness.device_patches import DevicePatches
from harness.epoch import NotFinite
from harness.errors import BadInput, NoSpace
from harness.files import read_json, sha256_file
from harness.scores import read_scores, score_rois
from harness.trial.folder import OUTPUTS, TrialFolder
from harness.trial.outputs import png
from harness.trial.run import failure_cause, newest_checkpoint, run_trial
from harness.trial.warm import KeptPatches
from tests.toy import PATIENTS, toy_spec, write_cohort

Event = dict[str, Any]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = dict(zip(PATIENTS, [(64, 96), (40, 24), (64, 64), (96, 64), (64, 96)], strict=True))
    return write_cohort(tmp_path_factory.mktemp("cohort"), sizes)


def run(
    spec: TrialSpec, path: Path, number: int = 1, *, should_stop: Callable[[], bool] = lambda: False
) -> tuple[TrialFolder, list[Event]]:
    folder, events = TrialFolder(path), []
    folder.write_spec(spec)
    run_trial(
        folder,
        number,
        stores=path.parent / "stores",
        device="cpu",
        emit=events.append,
        should_stop=should_stop,
    )
    return folder, events


@pytest.fixture(scope="module")
def completed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialFolder, list[Event]]:
    folder, events = run(toy_spec(root, epochs=3), tmp_path_factory.mktemp("home") / "trial one; it's [1]")
    folder.accept(folder.attempt(1))
    return folder, events


def test_a_complete_trial_says_so_and_leaves_every_output(completed: tuple[TrialFolder, list[Event]]) -> None:
    """started, one event per epoch, finished; what was emitted stands in the file, the checkpoint is gone."""
    folder, events = completed
    assert [event["event"] for event in events] == ["started", "epoch", "epoch", "epoch", "finished"]
    assert (events[-1]["state"], events[-1]["cause"]) == ("complete", None)
    assert folder.attempt(1).read_events() == events
    assert all((folder.path / name).exists() for name in OUTPUTS)
    assert folder.damaged() == []
    assert not folder.attempt(1).checkpoint.exists()


def test_outputs_are_forced_to_disk_once_each_before_the_trial_says_that_it_ended(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files and folders; then the last event."""
    forced, real = list[Path](), os.fsync

    def fsync(descriptor: int) -> None:
        forced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder, _ = run(toy_spec(root, epochs=1), tmp_path / "trial")
    outputs = folder.attempt(1).outputs
    there = [outputs, *outputs.rglob("*")]
    assert len(there) > 10
    assert sorted(path for path in forced if path.is_relative_to(outputs)) == sorted(there)
    assert forced[-1] == folder.attempt(1).events


def test_started_counts_patches_and_regions(completed: tuple[TrialFolder, list[Event]]) -> None:
    """Three training ROIs hold 4 + 6 + 6 patches, two validating ones 6 + 2, one smaller than a patch."""
    started = completed[1][0]
    assert started["patches"] == {
        "train": 16, "train_unfiltered": 16, "validation": 8, "rois_validation": 2, "rois_resized": 1,
    }  # fmt: skip
    assert started["resumed_epoch"] == 0


def test_predictions_give_the_matrices_and_the_matrices_the_scores(
    completed: tuple[TrialFolder, list[Event]], root: Path
) -> None:
    """PNG + mask -> scores.json -> result.json -> the event of the best epoch, number for number."""
    folder, events = completed
    result = read_json(folder.result)
    rois, scheme = read_scores(read_json(folder.scores))
    for roi in rois:
        predicted_HW = cv2.imread(str(folder.predictions / f"{roi.name}.png"), cv2.IMREAD_UNCHANGED)
        (mask_file,) = [p for p in (root / "wsirois").rglob("masks/*.png") if roi.patient in p.name]
        truth_HW = cv2.imread(str(mask_file), cv2.IMREAD_UNCHANGED)
        recounted = [[int(((truth_HW == i) & (predicted_HW == k)).sum()) for k in (1, 2)] for i in range(8)]
        assert recounted == roi.matrix.tolist()
    assert result["scores"] == score_rois(rois, scheme)
    best = events[result["best_epoch"]]
    assert result["scores"]["val/iou"] == result["objective"]["value"] == best["objective"] == best["values"]["val/iou"]


def test_the_networks_speed_is_in_the_result(completed: tuple[TrialFolder, list[Event]]) -> None:
    """Milliseconds per megapixel, a number above zero that the report and MLflow read."""
    assert read_json(completed[0].result)["ms_per_megapixel"] > 0


def test_matrices_of_every_epoch_are_kept_per_patient(completed: tuple[TrialFolder, list[Event]]) -> None:
    """`epochs` in scores.json holds each epoch; at the best one they are the sums over the ROIs."""
    document = read_json(completed[0].scores)
    assert [entry["epoch"] for entry in document["epochs"]] == [1, 2, 3]
    patients = document["epochs"][document["epoch"] - 1]["patients"]
    assert patients == {roi["patient"]: roi["matrix"] for roi in document["rois"]}


def test_weights_are_readable_without_pickle(completed: tuple[TrialFolder, list[Event]]) -> None:
    """safetensors by numpy alone; the head has one output per class."""
    weights = safetensors.numpy.load_file(completed[0].weights)
    assert weights["head.weight"].shape[0] == 2
    assert read_json(completed[0].path / "model.json")["classes"] == ["tumor", "stroma"]


def test_paper_scores_stand_beside_the_exact_ones(completed: tuple[TrialFolder, list[Event]]) -> None:
    """Those of the best epoch, and each metric's own best, which is no worse."""
    paper = read_json(completed[0].result)["paper"]
    assert paper["paper/best_of_any_epoch/val/iou"] >= paper["paper/val/iou"]
    assert paper["paper/best_of_any_epoch/val/loss"] <= paper["paper/val/loss"]
    assert {"paper/train/iou", "paper/train/dice", "paper/train/loss", "paper/val/dice"} <= paper.keys()


def test_an_interrupted_trial_continues_in_its_next_attempt(root: Path, tmp_path: Path) -> None:
    """Stopped after epoch 2, attempt 2 goes on; its weights file is that of an uninterrupted trial."""
    spec = toy_spec(root, epochs=4)
    whole, _ = run(spec, tmp_path / "whole")
    events: list[Event] = []
    folder = TrialFolder(tmp_path / "parts")
    folder.write_spec(spec)

    def two_epochs() -> bool:
        return sum(event["event"] == "epoch" for event in events) == 2

    run_trial(folder, 1, stores=tmp_path / "stores", device="cpu", emit=events.append, should_stop=two_epochs)
    assert events[-1]["state"] == "stopped"
    folder, rest = run(spec, tmp_path / "parts", 2)
    assert rest[0]["resumed_epoch"] == 2
    assert [event["epoch"] for event in rest if event["event"] == "epoch"] == [3, 4]
    assert sha256_file(folder.attempt(2).outputs / "weights.safetensors") == sha256_file(
        whole.attempt(1).outputs / "weights.safetensors"
    )
    for name in ("scores.json", "model.json"):
        assert read_json(folder.attempt(2).outputs / name) == read_json(whole.attempt(1).outputs / name)


def test_an_unreadable_newest_checkpoint_falls_back_to_the_one_before(root: Path, tmp_path: Path) -> None:
    """Attempt 2's file is cut off: attempt 3 continues from attempt 1's; another spec's is never taken."""
    spec = toy_spec(root, epochs=4)
    seen: list[Event] = []
    folder = TrialFolder(tmp_path / "trial")
    folder.write_spec(spec)
    run_trial(
        folder,
        1,
        stores=tmp_path / "stores",
        device="cpu",
        emit=seen.append,
        should_stop=lambda: len(seen) == 2,
    )
    folder.attempt(2).path.mkdir()
    folder.attempt(2).checkpoint.write_bytes(folder.attempt(1).checkpoint.read_bytes()[:1000])
    found = newest_checkpoint(folder, 3, fingerprint=spec.fingerprint)
    assert found is not None and found.progress.epoch == 1
    assert newest_checkpoint(folder, 3, fingerprint=toy_spec(root, epochs=5).fingerprint) is None


def test_a_checkpoint_of_a_later_attempt_is_not_used(root: Path, tmp_path: Path) -> None:
    """An old worker that woke up again sees earlier attempts only."""
    spec = toy_spec(root, epochs=2)
    seen: list[Event] = []
    folder = TrialFolder(tmp_path / "trial")
    folder.write_spec(spec)
    run_trial(
        folder,
        5,
        stores=tmp_path / "stores",
        device="cpu",
        emit=seen.append,
        should_stop=lambda: len(seen) == 2,
    )
    assert newest_checkpoint(folder, 5, fingerprint=spec.fingerprint) is None


def test_a_trial_on_patches_that_stay_on_the_device_has_the_numbers_of_one_on_the_hosts(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the device is the CPU, told that it has memory of its own; nothing moves, so every value is the same."""
    spec, found = toy_spec(root, epochs=2, augment="none"), []
    for kept in (KeptPatches(), KeptPatches(free=lambda device: 10**9)):
        monkeypatch.setattr("harness.trial.run.KEPT_PATCHES", kept)
        _, events = run(spec, tmp_path / f"trial {len(found)}")
        values = [event["values"] for event in events if event["event"] == "epoch"]
        found.append([{name: v for name, v in one.items() if not name.startswith("system/")} for one in values])
    assert len(found[0]) == 2
    assert found[0] == found[1]


def test_memory_that_runs_short_frees_the_patches_on_the_device(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next trial, of whatever network, finds that memory free."""
    kept, copies = KeptPatches(free=lambda device: 10**9), []

    def full(*_: object, on_device: DevicePatches, **__: object) -> None:
        copies.append(weakref.ref(on_device))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("harness.trial.run.KEPT_PATCHES", kept)
    monkeypatch.setattr("harness.trial.run.fit", full)
    _, events = run(toy_spec(root, augment="none"), tmp_path / "trial")
    assert events[-1]["cause"] == "out_of_memory"
    assert [copy() for copy in copies] == [None]


def test_divergence_is_failed_by_nan(root: Path, tmp_path: Path) -> None:
    """A rate of 99 with plain SGD overflows: state failed, cause nan, and no outputs."""
    spec = toy_spec(root, epochs=30, optimizer="sgd", learning_rate=99.0, weight_decay=10.0, loss="cross_entropy")
    folder, events = run(spec, tmp_path / "trial")
    assert (events[-1]["state"], events[-1]["cause"]) == ("failed", "nan")
    assert "epoch" in events[-1]["message"]
    assert not folder.attempt(1).outputs.exists()


def test_missing_data_is_failed_by_data(root: Path, tmp_path: Path) -> None:
    """The message names the path, the traceback lies in the attempt's folder."""
    copy = tmp_path / "moved"
    shutil.copytree(root / "wsirois", copy / "wsirois")
    spec = toy_spec(copy)
    shutil.rmtree(copy)
    folder, events = run(spec, tmp_path / "trial")
    assert (events[-1]["state"], events[-1]["cause"]) == ("failed", "data")
    assert str(copy) in events[-1]["message"]
    assert "Traceback" in (folder.attempt(1).path / "error.txt").read_text()


def test_a_network_that_does_not_exist_is_failed_by_data(root: Path, tmp_path: Path) -> None:
    """A bad name that nobody checked before ends this trial, and says what is wrong in one line."""
    _, events = run(toy_spec(root, model=ModelSpec(architecture="unett")), tmp_path / "trial")
    assert (events[-1]["state"], events[-1]["cause"]) == ("failed", "data")
    assert "\n" not in events[-1]["message"]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (NotFinite("training loss is nan"), "nan"),
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory."), "out_of_memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            "out_of_memory",
        ),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"),
            "out_of_memory",
        ),
        (OSError(12, "Cannot allocate memory"), "out_of_memory"),
        (RuntimeError("could not create a primitive"), "out_of_memory"),
        (NoSpace("stores: the patches need 3 MB and 1 MB are free"), "disk_full"),
        (BadInput("x.png: cannot be read"), "data"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
        (KeyError("memory"), "error"),
    ],
)
def test_failures_are_classified(error: Exception, cause: str) -> None:
    """By type first, then by the words that allocators use."""
    assert failure_cause(error) == cause


def test_label_png_is_lossless() -> None:
    """Values 0..255 come back as they were."""
    labels_HW = np.arange(256, dtype=np.uint8).reshape(16, 16)
    decoded = cv2.imdecode(np.frombuffer(png(labels_HW), np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded.tolist() == labels_HW.tolist()


def test_every_document_is_strict_json(completed: tuple[TrialFolder, list[Event]]) -> None:
    """No NaN, no Infinity: any reader can load them."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    for path in completed[0].path.rglob("*.json"):
        json.loads(path.read_text(), parse_constant=refuse)


FIRST_AND_THIRD = """
import sys, torch
from pathlib import Path
from tests.toy import toy_spec
from harness.files import sha256_file
from harness.trial.folder import TrialFolder
from harness.trial.run import run_trial

root, home, others = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for number in range(others + 1):
    last = number == others
    folder = TrialFolder(home / str(number))
    folder.write_spec(toy_spec(root, epochs=2) if last else toy_spec(root, epochs=1, seed=number, batch_size=3))
    run_trial(folder, 1, stores=home / "stores", device="cpu", emit=lambda event: None, should_stop=lambda: False)
print(sha256_file(folder.attempt(1).outputs / "weights.safetensors"))
"""


@pytest.mark.slow
def test_first_in_one_process_and_third_in_another_give_the_same_file(root: Path, tmp_path: Path) -> None:
    """Two fresh processes, one of them warm from two other trials: weights equal byte by byte."""
    repository = Path(__file__).parents[2]
    shas = [
        subprocess.run(
            [sys.executable, "-c", FIRST_AND_THIRD, str(root), str(tmp_path / others), others],
            cwd=repository, check=True, capture_output=True, text=True,
        ).stdout
        for others in ("0", "2")
    ]  # fmt: skip
    assert len(shas[0]) > 60
    assert shas[0] == shas[1]
