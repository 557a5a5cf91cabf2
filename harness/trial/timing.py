"""A few timed steps of a spec's training, on random patches: what `plan` estimates from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from harness.config.spec import TrialSpec
from harness.data.augment import build_augment
from harness.losses import build_loss
from harness.models.build import build_model
from harness.trial.tryout import try_parts

_STEPS = 2  # after one to warm up; a batch of 32 at 256 px takes 20 s on one CPU core


@dataclass(frozen=True, slots=True)
class Timing:
    """Cost of one spec on one device."""

    train_s_per_patch: float
    validate_s_per_patch: float
    parameters: int
    memory_bytes: int  # of this process after the steps


def time_steps(spec: TrialSpec, device: str) -> Timing:
    """Train `_STEPS` batches and predict one, with random weights in place of the hub's.

    BadInput when an imported part does not keep to its contract.
    """
    torch.set_num_threads(1)
    try_parts(spec)
    side, batch = spec.dataset.cut.input_px, min(spec.train.batch_size, 8)
    model = build_model(spec.model.model_copy(update={"encoder_weights": "random"}), classes=spec.classes).to(device)
    loss = build_loss(spec.train.loss_terms, classes=spec.classes, class_weights=None, undefined=spec.train.undefined)
    optimizer = torch.optim.Adam(model.parameters())
    images_NCHW = torch.rand(batch, 3, side, side, device=device)
    targets_NHW = torch.randint(0, spec.classes, (batch, side, side), device=device)

    def train_step() -> None:
        optimizer.zero_grad()
        loss(model(images_NCHW), targets_NHW).backward()  # type: ignore[no-untyped-call]  # torch's own gap
        optimizer.step()

    def train_steps() -> None:
        for _ in range(_STEPS):
            train_step()

    train_step()
    train_s = _seconds(train_steps, device) / (_STEPS * batch)
    model.eval()
    with torch.inference_mode():
        validate_s = _seconds(lambda: model(images_NCHW), device) / batch
    return Timing(
        train_s_per_patch=train_s + _augment_seconds(spec),
        validate_s_per_patch=validate_s,
        parameters=sum(weights.numel() for weights in model.parameters()),
        memory_bytes=psutil.Process().memory_info().rss,
    )


def _augment_seconds(spec: TrialSpec, patches: int = 8) -> float:
    side = spec.dataset.cut.input_px
    rng = np.random.default_rng(0)
    image_HWC = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    target_HW = rng.integers(0, 3, (side, side), dtype=np.uint8)
    augment = build_augment(spec.train.augment, undefined_target=255)
    augment(image_HWC, target_HW, seed=0, epoch=0, index=0)
    return (
        _seconds(
            lambda: [augment(image_HWC, target_HW, seed=0, epoch=0, index=index) for index in range(patches)],
            "cpu",
        )
        / patches
    )


def _seconds(work: Callable[[], object], device: str) -> float:
    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started
