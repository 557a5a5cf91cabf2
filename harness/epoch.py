"""One pass over the training patches: batch by batch, forward, backward, step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.config.spec import TrialSpec
from harness.data.batches import Images, training_batches
from harness.data.patches import Indices, PatchStore
from harness.data.prefetch import prefetched
from harness.data.targets import target_table
from harness.device_patches import DevicePatches
from harness.evaluate import LossFunction, Totals, autocast, likeliest, placed, placed_images
from harness.metrics import PaperCounts
from harness.optimization import parts_of

Item = TypeVar("Item")
# (images_NCHW, targets_NHW) of arrays on the host, or of tensors on the device.
AnyBatch = tuple[Images, NDArray[np.int64]] | tuple[Tensor, Tensor]


class NotFinite(ArithmeticError):
    """A loss became NaN or infinite; the message says where."""


@dataclass(frozen=True, slots=True)
class Step:
    """A look into training, for whoever watches it batch by batch. Tensors are on the device, as they are in use.

    `forward`: the loss is there and was not looked at yet. `backward`: so are the gradients; the weights are still
    those that gave the loss.
    """

    stage: Literal["forward", "backward"]
    epoch: int
    number: int  # of the batch in its epoch: 1, 2, ...
    images_NCHW: Tensor
    targets_NHW: Tensor
    logits_NKHW: Tensor
    loss: Tensor
    model: nn.Module
    optimizer: torch.optim.Optimizer


OnStep = Callable[[Step], None]


@dataclass(slots=True)
class Waits:
    """How long a loop waited for its items."""

    seconds: float = 0.0

    def timed(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items; the time until each is there is added up."""
        began = time.perf_counter()
        for item in items:
            self.seconds += time.perf_counter() - began
            yield item
            began = time.perf_counter()


@dataclass(frozen=True, slots=True)
class Trained:
    """A pass in numbers; the scores are of the training predictions, as in the paper, from counts."""

    loss: float
    paper: Mapping[str, float | None]
    data_seconds: float  # that the pass waited for its batches


def train_epoch(
    spec: TrialSpec,
    store: PatchStore,
    indices: Indices,
    model: nn.Module,
    loss: LossFunction,
    optimizer: torch.optim.Optimizer,
    *,
    epoch: int,
    device: torch.device,
    poll: Callable[[], None],
    on_step: OnStep | None = None,
    on_device: DevicePatches | None = None,
) -> Trained:
    """Train on these patches once, made into batches on the host, or `on_device` where they are there already.

    `poll` runs once per batch and may raise, as may `on_step`; NotFinite for a loss.
    """
    totals = Totals(PaperCounts(classes=spec.classes, undefined=spec.train.undefined))
    table = target_table(spec.dataset.labels, spec.train.undefined)
    made = training_batches if on_device is None else on_device.batches
    batches: Iterator[AnyBatch] = made(
        store, indices, spec=spec.train, table=table, labels=spec.dataset.labels, seed=spec.seed, epoch=epoch
    )
    if on_device is None and device.type != "cpu":
        # In a thread while the device computes. A CPU trial has one core, and fetching is 1 % of its time.
        batches = prefetched(batches)
    model.train()
    waits = Waits()
    for number, (images_NCHW, all_targets_NHW) in enumerate(waits.timed(batches), start=1):
        poll()
        optimizer.zero_grad(set_to_none=True)
        for part in parts_of(len(images_NCHW), spec.train.accumulate):
            targets_NHW = placed(all_targets_NHW[part], device)
            placed_NCHW = placed_images(images_NCHW[part], device)
            with autocast(spec.train.precision, device):
                logits_NKHW = model(placed_NCHW)
            part_loss = loss(logits_NKHW.float(), targets_NHW)
            seen = (epoch, number, placed_NCHW, targets_NHW, logits_NKHW, part_loss, model, optimizer)
            if on_step is not None:
                on_step(Step("forward", *seen))
            # Free on the CPU; elsewhere reading it would hold up the device at every step: there the sum is read.
            if device.type == "cpu" and not math.isfinite(part_loss.item()):
                raise NotFinite(f"training loss is {part_loss.item()} in epoch {epoch}, batch {number}")
            share = len(targets_NHW) / len(images_NCHW)
            (part_loss * share).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            if on_step is not None:
                on_step(Step("backward", *seen))
            totals.add(part_loss, likeliest(logits_NKHW.detach()), targets_NHW)
        optimizer.step()
    mean_loss = totals.mean_loss()
    if not math.isfinite(mean_loss):
        raise NotFinite(f"training loss is {mean_loss} in epoch {epoch}")
    return Trained(mean_loss, totals.counts.compute(), waits.seconds)
