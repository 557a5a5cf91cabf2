"""Optimiser, learning-rate schedule and class weights, by the names of TrainSpec."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel

from harness.config.spec import TrainSpec

Schedule = ReduceLROnPlateau | CosineAnnealingLR


def build_optimizer(model: nn.Module, train: TrainSpec) -> torch.optim.Optimizer:
    """Adam (the paper's, assumed), AdamW, or SGD with Nesterov's momentum of .9, for a model on its device."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    lr, weight_decay = train.learning_rate, train.weight_decay
    # One kernel for all parameters on CUDA. Not on CPUs: 6 % faster at best, and it rounds otherwise.
    fused = True if parameters and parameters[0].device.type == "cuda" else None
    if train.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
    if train.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay, momentum=0.9, nesterov=True)


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a state that may come from another device: whether steps are fused is the optimizer's own business."""
    pairs = zip(saved["param_groups"], optimizer.param_groups, strict=True)
    groups = [{**group, "fused": own.get("fused")} for group, own in pairs]
    optimizer.load_state_dict({**saved, "param_groups": groups})


def averaged_with(model: nn.Module, optimizer: torch.optim.Optimizer, train: TrainSpec) -> AveragedModel | None:
    """The running mean of the model's weights and buffers over its optimizer's steps, if there is to be one.

    Exponential (Polyak and Juditsky 1992; Tarvainen and Valpola 2017). The decay after t steps is at most
    (1 + t) / (10 + t), as in TensorFlow's ExponentialMovingAverage, so that the start is soon forgotten.
    """
    decay = train.average
    if decay is None:
        return None

    @torch.no_grad()
    def blend(means: Any, news: Any, _: Tensor | int) -> None:
        steps = int(average.n_averaged)  # it lies on the CPU: no device is waited for
        if means[0].is_floating_point():
            torch._foreach_lerp_(means, news, 1 - min(decay, (1 + steps) / (10 + steps)))
        else:  # how many batches normalisation saw
            for mean, new in zip(means, news, strict=True):
                mean.copy_(new)

    average = AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
    optimizer.register_step_post_hook(lambda *_: average.update_parameters(model))
    return average


def build_schedule(optimizer: torch.optim.Optimizer, train: TrainSpec) -> Schedule | None:
    """The learning rate's schedule, stepped once per epoch; None for a constant rate."""
    if train.schedule == "plateau":
        # threshold=0: "better" means the same to the plateau as to early stopping (torch's own is .01 %).
        return ReduceLROnPlateau(
            optimizer,
            mode="min" if minimized(train.monitor) else "max",
            factor=train.plateau_factor,
            patience=train.plateau_patience,
            threshold=0.0,
        )
    if train.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=train.epochs)
    return None


def step_schedule(
    schedule: Schedule | None, optimizer: torch.optim.Optimizer, *, monitor: str, value: float | None
) -> bool:
    """End an epoch; true when a plateau cut the rate. A monitor that is n/a counts as no better."""
    before = optimizer.param_groups[0]["lr"]
    if isinstance(schedule, ReduceLROnPlateau):
        worst = math.inf if minimized(monitor) else -math.inf
        schedule.step(worst if value is None else value)
        return bool(optimizer.param_groups[0]["lr"] < before)
    if schedule is not None:
        schedule.step()
    return False


def minimized(monitor: str) -> bool:
    """Whether less is better: so for the loss alone."""
    return monitor == "val/loss"


def balanced_weights(pixels_K: NDArray[np.int64]) -> tuple[float, ...]:
    """Inverse class frequencies, their mean 1 over the classes that occur; a class without a pixel weighs 1.

    The inverse frequency is scikit-learn's `class_weight="balanced"` (King and Zeng 2001), up to its scale.
    """
    present = pixels_K > 0
    inverse = np.where(present, 1.0 / np.maximum(pixels_K, 1), 0.0)
    scaled = inverse / inverse[present].mean() if present.any() else inverse
    return tuple(float(weight) for weight in np.where(present, scaled, 1.0))


def parts_of(samples: int, parts: int) -> list[slice]:
    """A batch of so many samples in so many parts of nearly equal size, or as many as it has samples.

    Each part's loss counts by its share of the samples. It is not the same training as on the whole batch: batch
    normalisation and losses over a whole batch (Jaccard, Dice) see the part alone.
    """
    bounds = np.linspace(0, samples, min(parts, samples) + 1).round().astype(int).tolist()
    return [slice(start, end) for start, end in pairwise(bounds)]
