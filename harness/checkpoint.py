"""The full state of training after a whole epoch, in one file that is either there in full or not at all.

Tensors and plain types only: it is read with `weights_only=True`, so that a file from elsewhere runs no code.
"""

from __future__ import annotations

import json
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.files import written_aside

# Raise it when a checkpoint of an older version would no longer continue to the same weights.
CHECKPOINT_VERSION = 2

Weights = dict[str, Tensor]
PatientMatrices = dict[str, list[list[int]]]


class CheckpointUnreadable(Exception):
    """The file is missing, cut off, changed, of another version or of another spec."""


@dataclass(slots=True)
class Progress:
    """Where training stands after `epoch` whole epochs: plain values only, so that it can be stored."""

    epoch: int = 0
    best_epoch: int | None = None
    best_value: float | None = None
    monitor_best: float | None = None
    bad_epochs: int = 0  # since `train.monitor` was last better
    lr_cuts: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # the logged values of each epoch
    patients: list[PatientMatrices] = field(default_factory=list)  # source matrix per patient, of each epoch
    seconds: list[float] = field(default_factory=list)  # of each epoch
    _texts: dict[str, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def as_text(self) -> str:
        """JSON of the fields. That of earlier epochs is kept: after 50 of 10 patients it takes a millisecond."""
        state = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        lists = []
        for name in ("history", "patients", "seconds"):
            values, texts = state.pop(name), self._texts.setdefault(name, [])
            texts += [json.dumps(value) for value in values[len(texts) :]]
            lists.append(f'"{name}": [{", ".join(texts)}]')
        return f"{json.dumps(state)[:-1]}, {', '.join(lists)}}}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One stored state. `best` holds the weights of `progress.best_epoch` (None before there is one)."""

    progress: Progress
    model: Weights
    best: Weights | None
    optimizer: dict[str, Any]
    schedule: dict[str, Any] | None
    rng: dict[str, Tensor]
    average: Weights | None = None  # the running mean of the weights, where there is one


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, fingerprint: str) -> None:
    """Write aside, fsync, rename: a kill at any moment leaves the previous checkpoint readable."""
    with written_aside(path) as aside, aside.open("wb") as stream:
        # By its path, torch would tell of a full disk only that it "failed writing file".
        torch.save(_document(checkpoint, fingerprint), stream)


def save_unsettled(path: Path, checkpoint: Checkpoint, *, earlier: Path, fingerprint: str) -> None:
    """The same without forcing it to disk: a kill leaves the new one at `path`, or the one before there or, between two
    renames, at `earlier`; a loss of power perhaps none."""
    aside = path.with_name(f".{path.name}.{os.getpid():08d}")  # as `written_aside` names them: the doctor finds it
    try:
        with aside.open("wb") as stream:
            torch.save(_document(checkpoint, fingerprint), stream)
        # Not over the one before: ext4 writes out at once what is renamed over a file (100 MB: .15 s instead of .1 s),
        # while a file that is gone again before the next write-back never costs the disk anything.
        with suppress(FileNotFoundError):
            path.rename(earlier)
        aside.replace(path)
        earlier.unlink(missing_ok=True)
    finally:
        aside.unlink(missing_ok=True)


def _document(checkpoint: Checkpoint, fingerprint: str) -> dict[str, Any]:
    return {
        "version": CHECKPOINT_VERSION,
        "fingerprint": fingerprint,
        # As text: torch's pickler asks a Python function about every number, 10 ms after 50 epochs of 10 patients.
        "progress": checkpoint.progress.as_text(),
        "model": checkpoint.model,
        "best": checkpoint.best,
        "optimizer": checkpoint.optimizer,
        "schedule": checkpoint.schedule,
        "rng": checkpoint.rng,
        "average": checkpoint.average,
    }


def load_checkpoint(path: Path, *, fingerprint: str) -> Checkpoint:
    """Read the checkpoint of that spec onto the CPU; CheckpointUnreadable says why it cannot be used."""
    try:
        with zipfile.ZipFile(path) as records:
            damaged = records.testzip()  # torch reads past a changed byte; the CRC-32 of its records does not
        document = torch.load(path, map_location="cpu", weights_only=True)
        version, owner = document["version"], document["fingerprint"]
    except Exception as error:
        # A torn or foreign file raises whatever the unpickler or the zip reader met first; all mean the same.
        raise CheckpointUnreadable(f"{path}: {type(error).__name__}: {error}") from error
    if damaged is not None:
        raise CheckpointUnreadable(f"{path}: {damaged} was changed since it was written")
    if (version, owner) != (CHECKPOINT_VERSION, fingerprint):
        raise CheckpointUnreadable(f"{path}: of another version or another spec")
    return Checkpoint(
        progress=_progress(document["progress"]),
        model=document["model"],
        best=document["best"],
        optimizer=document["optimizer"],
        schedule=document["schedule"],
        rng=document["rng"],
        average=document.get("average"),  # not in those from before there were averages
    )


def _progress(stored: str | dict[str, Any]) -> Progress:
    """Earlier checkpoints have it as a mapping."""
    return Progress(**(json.loads(stored) if isinstance(stored, str) else stored))


def snapshot(model: torch.nn.Module) -> Weights:
    """A copy of all parameters and buffers on the CPU, contiguous whatever the strides on the device."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()}


def rng_states(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators that training on `device` draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_rng(states: dict[str, Tensor], device: torch.device) -> None:
    """Put the generators back; a state of a device that is not in use now is passed over."""
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
