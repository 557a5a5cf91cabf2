"""fit(): the one training loop. Per epoch: train, evaluate, log, save, stop?

Every epoch draws from a torch seed made of (seed, epoch), batches are keyed by (seed, epoch, index), and the
checkpoint holds everything else, so that training interrupted after any epoch ends in the same weights and
numbers (on the CPU with one thread to the last bit).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.checkpoint import (
    Checkpoint,
    PatientMatrices,
    Progress,
    Weights,
    restore_rng,
    rng_states,
    snapshot,
)
from harness.config.pause import Pause
from harness.config.spec import TrainSpec, TrialSpec
from harness.data.patches import PatchStore, class_counts
from harness.device_patches import DevicePatches
from harness.epoch import NotFinite, OnStep, Trained, train_epoch
from harness.errors import BadInput
from harness.evaluate import Evaluation, evaluate, placed_model, torchmetrics_scores
from harness.losses import build_loss
from harness.models.build import build_model
from harness.optimization import (
    Schedule,
    averaged_with,
    balanced_weights,
    build_optimizer,
    build_schedule,
    minimized,
    restore_optimizer,
    step_schedule,
)
from harness.scores import Scheme, pooled, score_rois

# Beside `val/<score>`; the other scores (per centre, ...) stand in `scores.json` at the best epoch.
ALSO_LOGGED = ("val/non_homogeneous/iou", "val/non_homogeneous/dice", "val/non_homogeneous/yardstick")


class Stopped(Exception):
    """`should_stop()` said so; the running epoch is dropped, the last checkpoint stands."""


class Paused(Exception):
    """The trial is where it was to pause; its last checkpoint is of that epoch."""


@dataclass(frozen=True, slots=True)
class TrialData:
    """The patches of a trial, from two stores, because training and validation are cut differently."""

    training: PatchStore
    training_indices: NDArray[np.int64]
    validation: PatchStore
    validation_indices: NDArray[np.int64]
    scheme: Scheme


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One epoch's numbers, as logged. `objective` is None where its metric is n/a."""

    epoch: int
    seconds: float
    objective: float | None
    values: Mapping[str, float]
    data_seconds: float  # of `seconds`: training waited for its batches


@dataclass(frozen=True, slots=True)
class FitResult:
    """The best epoch's weights and evaluation (with predictions), and the way there."""

    best_epoch: int
    objective: float
    weights: Weights
    evaluation: Evaluation
    progress: Progress
    stopped_early: bool


def initial_model(spec: TrialSpec) -> nn.Module:
    """The network with its initial weights, which depend on the spec alone."""
    torch.manual_seed(derived_seed(spec.seed, "weights"))
    return build_model(spec.model, classes=spec.classes, input_px=spec.dataset.cut.input_px)


def fit(
    spec: TrialSpec,
    data: TrialData,
    model: nn.Module,
    *,
    device: torch.device,
    save: Callable[[Checkpoint], None],
    on_epoch: Callable[[EpochReport], None],
    should_stop: Callable[[], bool],
    resume_from: Checkpoint | None = None,
    pause: Pause | None = None,
    on_step: OnStep | None = None,
    on_device: DevicePatches | None = None,
) -> FitResult:
    """Train `model` (from `initial_model`) and return its best epoch by `spec.objective`.

    Every epoch ends with `on_epoch`, then `save`. NotFinite when a loss is not; Stopped when asked to (polled per
    batch); Paused after an epoch at or beyond `pause`, unless the training is over with it; BadInput when the
    objective is n/a in every epoch. `on_step` sees every batch, and may raise. `on_device`: the training patches where
    they are on the device already; otherwise batches are made on the host.
    """
    train = spec.train
    model = placed_model(model, device)
    loss = build_loss(
        train.loss_terms,
        classes=spec.classes,
        class_weights=_class_weights(spec, data),
        undefined=train.undefined,
    )
    optimizer = build_optimizer(model, train)
    average = averaged_with(model, optimizer, train)
    judged = model if average is None else average.module
    schedule = build_schedule(optimizer, train)
    progress, best_weights, best_evaluation = Progress(), None, None
    if resume_from is not None:
        progress, best_weights = _restore(resume_from, model, average, optimizer, schedule, device)

    def poll() -> None:
        if should_stop():
            raise Stopped

    validate = partial(
        evaluate,
        judged,
        data.validation,
        data.validation_indices,
        data.scheme,
        train=train,
        loss=loss,
        device=device,
        keep_predictions=True,
        poll=poll,
    )
    while not finished(progress, train):
        samples, seconds = progress.epoch * len(data.training_indices), sum(progress.seconds)
        if pause is not None and pause.is_reached(epochs=progress.epoch, samples=samples, seconds=seconds):
            raise Paused
        began = time.perf_counter()
        epoch = progress.epoch + 1
        lr = float(optimizer.param_groups[0]["lr"])
        torch.manual_seed(derived_seed(spec.seed, f"epoch {epoch}"))

        trained = train_epoch(
            spec, data.training, data.training_indices, model, loss, optimizer,
            epoch=epoch, device=device, poll=poll, on_step=on_step, on_device=on_device,
        )  # fmt: skip
        evaluation = validate()
        if not math.isfinite(evaluation.loss):
            raise NotFinite(f"validation loss is {evaluation.loss} in epoch {epoch}")

        scores = score_rois(evaluation.rois, data.scheme)
        objective = scores.get(spec.objective.metric)
        values = _logged(spec, trained, evaluation, scores) | {"lr": lr}
        if objective is not None and spec.objective.better(objective, progress.best_value):
            progress.best_epoch, progress.best_value = epoch, objective
            best_weights, best_evaluation = snapshot(judged), evaluation
        watch(progress, train, values.get(train.monitor))
        progress.lr_cuts += step_schedule(schedule, optimizer, monitor=train.monitor, value=values.get(train.monitor))
        progress.epoch = epoch
        progress.history.append(values)
        progress.patients.append(patient_matrices(evaluation))
        progress.seconds.append(time.perf_counter() - began)

        shared = best_weights if average is None and progress.best_epoch == epoch else None
        # Logged before it is saved: a kill in between logs the epoch twice, with equal numbers; none is lost.
        on_epoch(EpochReport(epoch, progress.seconds[-1], objective, values, trained.data_seconds))
        save(
            Checkpoint(
                progress=progress,
                model=shared or snapshot(model),  # the best ones if they are these: torch.save writes them once
                best=best_weights,
                optimizer=optimizer.state_dict(),
                schedule=schedule.state_dict() if schedule else None,
                rng=rng_states(device),
                average=snapshot(average) if average is not None else None,
            )
        )

    if best_weights is None or progress.best_epoch is None or progress.best_value is None:
        raise BadInput(f"objective {spec.objective.metric} is n/a in every epoch; choose another")
    if best_evaluation is None:  # the best epoch lies before the checkpoint, which holds no predictions
        judged.load_state_dict(best_weights)
        best_evaluation = validate()
    # Every epoch was counted, and told so; of the best one torchmetrics' own numbers are kept.
    own = torchmetrics_scores(
        best_evaluation, data.validation, data.validation_indices, data.scheme, train=train, device=device
    )
    at_best = progress.best_epoch - 1
    progress.history[at_best] = progress.history[at_best] | {
        f"paper/val/{name}": value for name, value in own.items() if value is not None
    }
    return FitResult(
        best_epoch=progress.best_epoch,
        objective=progress.best_value,
        weights=best_weights,
        evaluation=replace(best_evaluation, patch_classes_NHW=None),  # a byte a pixel that nobody asks for again
        progress=progress,
        stopped_early=progress.epoch < train.epochs,
    )


def finished(progress: Progress, train: TrainSpec) -> bool:
    """All epochs done, or the monitor was not better for `stop_patience` epochs."""
    patience = train.stop_patience
    return progress.epoch >= train.epochs or (patience is not None and progress.bad_epochs >= patience)


def derived_seed(seed: int, purpose: str) -> int:
    """A seed of its own for every purpose, so that no two draw the same numbers."""
    digest = hashlib.sha256(f"{seed}: {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def patient_matrices(evaluation: Evaluation) -> PatientMatrices:
    """The source matrix of each patient, as plain lists."""
    patients = sorted({roi.patient for roi in evaluation.rois})
    return {
        patient: pooled([roi.matrix for roi in evaluation.rois if roi.patient == patient]).tolist()
        for patient in patients
    }


def _class_weights(spec: TrialSpec, data: TrialData) -> tuple[float, ...] | None:
    if spec.train.class_weights == "none":
        return None
    if spec.train.class_weights == "balanced":
        counts = class_counts(data.training, data.training_indices, spec.dataset.labels)
        return balanced_weights(counts.sum(axis=0))
    return spec.train.class_weights


def _logged(
    spec: TrialSpec, trained: Trained, evaluation: Evaluation, scores: Mapping[str, float | None]
) -> dict[str, float]:
    """The epoch's values that are there, by name."""
    overall = [name for name in scores if name.count("/") == 1]  # val/iou, val/dice_tumor, ...
    wanted = dict.fromkeys((*overall, *ALSO_LOGGED, spec.objective.metric, spec.train.monitor))
    values: dict[str, float | None] = {
        "train/loss": trained.loss,
        "val/loss": evaluation.loss,
        **{name: scores.get(name) for name in wanted if name != "val/loss"},
        "paper/train/loss": trained.loss,
        **{f"paper/train/{name}": value for name, value in trained.paper.items()},
        "paper/val/loss": evaluation.loss,
        **{f"paper/val/{name}": value for name, value in evaluation.paper.items()},
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def watch(progress: Progress, train: TrainSpec, value: float | None) -> None:
    """Count the epochs since the monitor was last better; an epoch where it is n/a is not better."""
    best = progress.monitor_best
    if value is not None and (best is None or (value < best if minimized(train.monitor) else value > best)):
        progress.monitor_best, progress.bad_epochs = value, 0
    else:
        progress.bad_epochs += 1


def _restore(
    checkpoint: Checkpoint,
    model: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule | None,
    device: torch.device,
) -> tuple[Progress, dict[str, Tensor] | None]:
    model.load_state_dict(checkpoint.model)
    if average is not None and checkpoint.average is not None:
        average.load_state_dict(checkpoint.average)
    restore_optimizer(optimizer, checkpoint.optimizer)
    if schedule is not None and checkpoint.schedule is not None:
        schedule.load_state_dict(checkpoint.schedule)
    restore_rng(checkpoint.rng, device)
    return checkpoint.progress, checkpoint.best
