"""run_trial(): one trial from its spec to its outputs, every failure named by its cause.

Only this attempt's folder is written to. The controller reads it, and it alone accepts an attempt.
"""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import torch

from harness.checkpoint import Checkpoint
from harness.config.pause import Pause
from harness.config.spec import TrialSpec
from harness.data.cohort import read_cohort
from harness.data.patches import non_homogeneous, open_store, patches_of, validation_cut
from harness.data.tiger import Roi
from harness.epoch import NotFinite
from harness.errors import BadInput, HarnessError, NoSpace, Refused
from harness.files import is_disk_full, write_text
from harness.models.build import count_parameters
from harness.scores import Scheme
from harness.train import EpochReport, Paused, Stopped, TrialData, fit
from harness.trial.environment import Gauge
from harness.trial.folder import Attempt, TrialFolder
from harness.trial.outputs import PatchFacts, write_outputs
from harness.trial.saving import Saving, newest_state
from harness.trial.warm import INITIAL_MODELS, KEPT_PATCHES

Event = dict[str, Any]

# What the allocators of torch (CPU, CUDA, MPS), numpy, OpenCV and the kernel say when memory is short. oneDNN says only
# that it "could not create a primitive" (seen under a limit of 4 GB of address space).
OUT_OF_MEMORY = re.compile(
    r"(can't|cannot) allocate memory|(not enough|out of|insufficient) memory|could not create a( \w+)? primitive",
    re.IGNORECASE,
)


def run_trial(
    folder: TrialFolder,
    number: int,
    *,
    stores: Path,
    device: str,
    emit: Callable[[Event], None],
    should_stop: Callable[[], bool],
    pause: Pause | None = None,
) -> None:
    """Train the folder's spec as attempt `number`, on `device` ("cpu", "cuda:0", "mps"), to its end or to `pause`.

    Continues from the newest readable checkpoint of an earlier attempt. Events (`started`, `epoch`,
    `finished`) go to the attempt's file and to `emit`; every end, good or bad, is one `finished` event, except
    for what ends a process (KeyboardInterrupt, SystemExit).
    """
    attempt = folder.attempt(number)
    attempt.path.mkdir(parents=True, exist_ok=True)
    saving = Saving(attempt)

    def record(event: Event) -> None:
        event["time"] = time.time()
        saving.event(event)
        emit(event)

    try:
        place = torch.device(device)
        ended = _ending(lambda: _train(folder, attempt, saving, stores, place, record, should_stop, pause))
        # A disk that is full by this last word is a failure with a cause, too.
        record({"event": "finished", "state": ended, "cause": None, "message": None})
    except Exception as error:
        end = {"event": "finished", "state": "failed", "cause": failure_cause(error), "message": _one_line(error)}
        if end["cause"] == "out_of_memory":
            INITIAL_MODELS.forget()
            KEPT_PATCHES.forget()
        try:
            write_text(attempt.path / "error.txt", traceback.format_exc())
            record(end)
        except OSError:
            emit(end)  # the folder cannot be written to, and that may be why
        return
    if ended == "complete":
        # Outputs and event are on disk: nothing will resume from here, and it is the folder's largest file.
        for file in attempt.states:
            file.unlink()


def _ending(train: Callable[[], None]) -> str:
    """`complete`, `paused` or `stopped`."""
    try:
        train()
    except Paused:
        return "paused"
    except Stopped:
        return "stopped"
    return "complete"


def failure_cause(error: Exception) -> str:
    """`nan`, `out_of_memory`, `disk_full`, `data`, `refused` or `error`."""
    if isinstance(error, NotFinite):
        return "nan"
    if is_disk_full(error) or isinstance(error, NoSpace):
        return "disk_full"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or OUT_OF_MEMORY.search(str(error)):
        return "out_of_memory"
    if isinstance(error, Refused):
        return "refused"
    return "data" if isinstance(error, BadInput) else "error"


def open_data(spec: TrialSpec, rois: Sequence[Roi], stores: Path) -> TrialData:
    """The trial's patches; stores that are not there yet are built. BadInput when a role has no patch."""
    cut, data_hash = spec.dataset.cut, spec.dataset.data_hash
    training = open_store(stores, rois, cut, data_hash=data_hash)
    validation = open_store(stores, rois, validation_cut(cut), data_hash=data_hash)
    split, labels = spec.dataset.split, spec.dataset.labels
    training_indices = patches_of(training, split.train)
    if spec.dataset.patches == "non_homogeneous":
        training_indices = non_homogeneous(training, training_indices, labels, spec.dataset.min_share)
    validation_indices = patches_of(validation, split.validation)
    for role, indices in (("training", training_indices), ("validation", validation_indices)):
        if not len(indices):
            raise BadInput(f"{spec.dataset.root}: no {role} patch is left ({spec.dataset.patches} patches)")
    return TrialData(training, training_indices, validation, validation_indices, scheme_of(spec))


def scheme_of(spec: TrialSpec) -> Scheme:
    """What the trial's matrices count."""
    return Scheme(
        source_ids=spec.dataset.source_ids,
        labels=spec.dataset.labels,
        source=spec.dataset.source,
        undefined_column=spec.train.undefined == "as_paper",
    )


def cohort(spec: TrialSpec) -> tuple[Roi, ...]:
    """The usable ROIs of the spec's data."""
    rois = read_cohort(Path(spec.dataset.root), patient_regex=spec.dataset.patient_regex)
    return tuple(roi for roi in rois if roi.name not in spec.dataset.quarantined)


def newest_checkpoint(folder: TrialFolder, before: int, *, fingerprint: str) -> Checkpoint | None:
    """The newest readable checkpoint of the same spec among attempts with a number below `before`."""
    for attempt in reversed(folder.attempts()):
        if attempt.number < before and (state := newest_state(attempt, fingerprint=fingerprint)) is not None:
            return state
    return None


def _train(
    folder: TrialFolder,
    attempt: Attempt,
    saving: Saving,
    stores: Path,
    device: torch.device,
    record: Callable[[Event], None],
    should_stop: Callable[[], bool],
    pause: Pause | None,
) -> None:
    began = time.perf_counter()
    settle(device)
    spec = folder.read_spec()
    rois = cohort(spec)
    data = open_data(spec, rois, stores)
    patches = patch_facts(spec, data)
    model = INITIAL_MODELS.of(spec)
    parameters = count_parameters(model)
    resumed = newest_checkpoint(folder, attempt.number, fingerprint=spec.fingerprint)
    record(
        {
            "event": "started",
            "attempt": attempt.number,
            "pid": os.getpid(),
            "device": str(device),
            "parameters": parameters,
            "patches": asdict(patches),
            "resumed_epoch": resumed.progress.epoch if resumed else 0,
        }
    )

    gauge = Gauge()

    def on_epoch(report: EpochReport) -> None:
        values = {**report.values, **gauge.read()}
        record({"event": "epoch", **asdict(report), "values": values})

    def save(checkpoint: Checkpoint) -> None:
        keep = spec.keeps(checkpoint.progress.epoch)
        saving.checkpoint(checkpoint, fingerprint=spec.fingerprint, keep=keep)

    result = fit(
        spec,
        data,
        model,
        device=device,
        save=save,
        on_epoch=on_epoch,
        should_stop=should_stop,
        resume_from=resumed,
        pause=pause,
        on_device=KEPT_PATCHES.of(spec, data, device),
    )
    earlier = sum(resumed.progress.seconds) if resumed else 0.0
    write_outputs(
        attempt.outputs,
        spec,
        data,
        result,
        model=model,
        images={roi.name: roi.image for roi in rois},
        device=device,
        parameters=parameters,
        patches=patches,
        seconds=earlier + time.perf_counter() - began,
    )


def settle(device: torch.device) -> None:
    """Put the process into the state that the same weights depend on, whatever ran in it before."""
    cv2.setNumThreads(1)
    if device.type == "cpu":
        # With two threads torch is 15 times slower as soon as another process runs, and gives other weights.
        torch.set_num_threads(1)
    elif device.type == "cuda":
        # cuDNN's fastest backward passes add in any order, so that the same spec would give other weights.
        torch.backends.cudnn.deterministic = True
        torch.cuda.reset_peak_memory_stats(device)


def patch_facts(spec: TrialSpec, data: TrialData) -> PatchFacts:
    """How many patches and ROIs a trial has, before and after its filter."""
    validation_rois = [roi for roi in data.validation.rois if roi.patient in spec.dataset.split.validation]
    return PatchFacts(
        train=len(data.training_indices),
        train_unfiltered=len(patches_of(data.training, spec.dataset.split.train)),
        validation=len(data.validation_indices),
        rois_validation=len(validation_rois),
        rois_resized=sum(roi.resized for roi in data.validation.rois),
    )


def _one_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    first = text[0] if text else ""
    known = isinstance(error, HarnessError | NotFinite)
    return first if known and first else f"{type(error).__name__}: {first}"[:500]
