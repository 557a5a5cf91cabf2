"""A generation's folder as the controller and the workers write it, without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.config.labels import BUILTIN
from harness.config.spec import Cut, DatasetVariant, ModelSpec, Split, TrainSpec, TrialSpec
from harness.files import write_json, write_text
from harness.trial.folder import TrialFolder

CREATED = 1_700_000_000.0
SPEC = TrialSpec(
    dataset=DatasetVariant(
        root="data/tiger",
        data_hash="0123456789abcdef" * 4,
        source_ids=tuple(range(8)),
        labels=BUILTIN["unicorn3"],
        cut=Cut(patch_px=64, input_px=64, stride=64),
        split=Split(train=("P1", "P2"), validation=("P3",)),
    ),
    model=ModelSpec(architecture="unet", encoder="efficientnet-b0", encoder_weights="random"),
    train=TrainSpec(epochs=3, learning_rate=1e-3),
    seed=5,
)


def make_generation(home: Path, *, name: str = "unicorn", created: float = CREATED) -> Path:
    """`<home>/sweeps/<name>/g1` with its space.json."""
    folder = home / "sweeps" / name / "g1"
    space = {
        "method": "tpe",
        "seed": 7,
        "objective": {"metric": "val/iou", "goal": "maximize"},
        "budget": {"trials": 24},
        "prune": {"type": "hyperband"},
        "parameters": {"learning_rate": {"min": 1e-5, "max": 3e-3}, "loss": {"value": "jaccard"}},
    }
    document = {
        "name": name,
        "generation": 1,
        "created": created,
        "command": ["harness", "sweep", f"{name}.yaml"],
        "yaml": f"name: {name}\n",
        "space": space,
        "data": {"root": "data/tiger", "hash": SPEC.dataset.data_hash, "rois": 12, "patients": 3},
        "revision": "abc123",
        "harness_version": "0.1.0",
    }
    write_json(folder / "space.json", document)
    write_json(folder / "split.json", {"train": ["P1", "P2"], "validation": ["P3"], "test": []})
    return folder


def make_trial(generation: Path, uid: str = "t1", state: str = "running", **facts: Any) -> TrialFolder:
    """A trial's folder in some state, with spec and attempt 1."""
    folder = TrialFolder(generation / "trials" / uid)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_spec(SPEC)
    set_state(folder, state, **facts)
    folder.attempt(1).path.mkdir(parents=True, exist_ok=True)
    return folder


def set_state(folder: TrialFolder, state: str, **facts: Any) -> None:
    """Write trial.json anew."""
    document = {
        "uid": folder.uid,
        "sweep": "unicorn",
        "generation": 1,
        "stratum": "unicorn3/all",
        "number": 3,
        "state": state,
        "cause": None,
        "message": None,
        "parameters": {"labels": "unicorn3", "patches": "all", "learning_rate": 1e-3, "loss": "jaccard"},
        "baseline": True,
        "mark": "in_paper",
        "replicate_of": None,
        "seed": 5,
        "fingerprint": SPEC.fingerprint,
        "accepted_attempt": None,
        "created": CREATED,
        "finished": None,
        **facts,
    }
    write_json(folder.state_file, document)


def start(folder: TrialFolder, attempt: int = 1, *, resumed_epoch: int = 0, at: float = CREATED + 1) -> None:
    """The event with which a worker begins an attempt."""
    folder.attempt(attempt).path.mkdir(parents=True, exist_ok=True)
    patches = {"train": 40, "train_unfiltered": 50, "validation": 9, "rois_validation": 2, "rois_resized": 0}
    folder.attempt(attempt).append_event(
        {
            "event": "started",
            "attempt": attempt,
            "time": at,
            "resumed_epoch": resumed_epoch,
            "patches": patches,
        }
    )


def train_epoch(folder: TrialFolder, epoch: int, attempt: int = 1, **values: float) -> None:
    """One epoch's event, 10 s after the one before; `val/iou` is epoch / 10 unless told."""
    measured = {"val/iou": epoch / 10, "system/cpu_utilization_percentage": 50.0, **values}
    folder.attempt(attempt).append_event(
        {"event": "epoch", "epoch": epoch, "time": CREATED + 10 * epoch, "seconds": 9.5, "values": measured}
    )


def complete(folder: TrialFolder, epochs: int = 3) -> None:
    """A whole, accepted trial of so many epochs, with its files."""
    start(folder)
    for epoch in range(1, epochs + 1):
        train_epoch(folder, epoch)
    result = {
        "best_epoch": 2,
        "epochs_run": epochs,
        "objective": {"metric": "val/iou", "goal": "maximize", "value": 0.2},
        "scores": {
            "val/iou": 0.2,
            "val/dice": 0.3,
            "val/yardstick": None,
            "val/iou_tumor": 0.25,
            "val/centre/RUMC/iou": 0.15,
            "val/centre/RUMC/iou_tumor": 0.1,
        },
        "paper": {"paper/val/iou": 0.21, "paper/best_of_any_epoch/val/iou": 0.22},
        "seconds": 90.0,
        "parameters": 1000,
    }
    outputs = folder.attempt(1).outputs
    write_json(outputs / "result.json", result)
    write_json(outputs / "scores.json", {"rois": []})
    write_json(outputs / "figures" / "confusion.json", {"matrix": [[1]]})
    write_text(outputs / "figures" / "confusion.png", "not really a picture")
    write_text(outputs / "weights.safetensors", "not really weights")
    folder.accept(folder.attempt(1))
    set_state(folder, "complete", accepted_attempt=1, finished=CREATED + 100)
