"""The first batch whose loss, gradient or weight is not finite: where in the network, and on which patches."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.config.spec import TrialSpec
from harness.data.batches import batch_slices, epoch_order
from harness.epoch import NotFinite, Step
from harness.files import write_bytes, write_json, written_aside
from harness.train import TrialData
from harness.trial.outputs import png


class NotFiniteFound(Exception):
    """Raised from inside a step, to end the training there."""

    def __init__(self, where: str, step: Step) -> None:
        super().__init__(where)
        self.where, self.step = where, step


@dataclass(frozen=True, slots=True)
class Patch:
    """A training patch of the batch: its region and its upper left corner, in pixels of the region's grid."""

    roi: str
    y: int
    x: int


class Hunt:
    """Watches every step; NotFiniteFound at the earliest place, in the order of computing, that is not finite."""

    def __init__(self) -> None:
        self._last: Step | None = None

    def __call__(self, step: Step) -> None:
        where = _forward(step, self._last) if step.stage == "forward" else _gradient(step)
        if where is not None:
            raise NotFiniteFound(where, step)
        self._last = step

    def after(self, error: NotFinite) -> NotFiniteFound:
        """Where it was, when no batch of training was the first to be not finite, but what came after them."""
        if self._last is None:
            raise error
        return NotFiniteFound(_bad_state(self._last) or f"validation ({error}), with finite weights", self._last)


def patches_of_batch(spec: TrialSpec, data: TrialData, step: Step) -> list[Patch]:
    """Which patches a batch was made of, in order (of the whole batch, where it was trained in parts)."""
    order = epoch_order(
        data.training, data.training_indices, sampling=spec.train.sampling, labels=spec.dataset.labels,
        seed=spec.seed, epoch=step.epoch,
    )  # fmt: skip
    rows = data.training.index[order[batch_slices(len(order), spec.train.batch_size)[step.number - 1]]]
    return [Patch(data.training.rois[row["roi"]].name, int(row["y"]), int(row["x"])) for row in rows]


def write_batch(folder: Path, spec: TrialSpec, data: TrialData, found: NotFiniteFound) -> list[Patch]:
    """Write the batch for a closer look: `batch.pt` (tensors, for `weights_only=True`), the patches, their pictures."""
    step, patches = found.step, patches_of_batch(spec, data, found.step)
    tensors = {"images_NCHW": step.images_NCHW, "targets_NHW": step.targets_NHW, "logits_NKHW": step.logits_NKHW}
    with written_aside(folder / "batch.pt") as aside:
        torch.save({name: tensor.detach().cpu() for name, tensor in tensors.items()}, aside)
    write_json(
        folder / "batch.json",
        {"epoch": step.epoch, "batch": step.number, "where": found.where, "patches": [asdict(p) for p in patches]},
    )
    for number, image_CHW in enumerate(step.images_NCHW.detach().cpu()):
        write_bytes(folder / f"patch-{number:02d}.png", png(_picture(image_CHW)))
    return patches


def _picture(image_CHW: Tensor) -> NDArray[np.uint8]:
    """As the network saw it, augmented and normalised, stretched to 0..255; BGR for OpenCV."""
    low, high = image_CHW.nan_to_num().aminmax()
    scaled = (image_CHW.nan_to_num() - low) / max(float(high - low), 1e-9) * 255
    return np.asarray(scaled.round().permute(1, 2, 0).flip(2).numpy(), dtype=np.uint8)


def range_text(logits_NKHW: Tensor) -> str:
    """`-12.3 to 4e+05, 32 of 4096 not finite`."""
    values = logits_NKHW.detach().float()
    finite = values[values.isfinite()]
    bad = values.numel() - finite.numel()
    extent = f"{float(finite.min()):.4g} to {float(finite.max()):.4g}" if finite.numel() else "none is finite"
    return f"{extent}, {bad} of {values.numel()} not finite"


def _forward(step: Step, last: Step | None) -> str | None:
    if last is not None and (where := _bad_state(last)) is not None:
        return where
    if not step.logits_NKHW.isfinite().all():
        return _first_layer(step.model, step.images_NCHW)
    return None if step.loss.isfinite() else "the loss, from finite logits"


def _bad_state(last: Step) -> str | None:
    """A weight, or an average of batch normalisation, that the step of this batch left not finite."""
    name = _first_bad(chain(last.model.named_parameters(), last.model.named_buffers()))
    return None if name is None else f"{name}, since the step of batch {last.number} in epoch {last.epoch}"


def _gradient(step: Step) -> str | None:
    gradients = [(name, weight.grad) for name, weight in step.model.named_parameters() if weight.grad is not None]
    # Gradients are computed from the last layer to the first.
    name = _first_bad(reversed(gradients))
    return None if name is None else f"the gradient of {name}, of a finite loss"


def _first_bad(named: Iterable[tuple[str, Tensor]]) -> str | None:
    return next((name for name, tensor in named if not tensor.isfinite().all()), None)


def _first_layer(model: nn.Module, images_NCHW: Tensor) -> str:
    """The first layer with an output that is not finite, found on a copy: a pass moves batch normalisation."""
    found: list[str] = []
    copied = copy.deepcopy(model)
    for name, module in copied.named_modules():
        if not list(module.children()):

            def look(_: nn.Module, __: object, output: object, name: str = name) -> None:
                if isinstance(output, Tensor) and not output.isfinite().all():
                    found.append(name)

            module.register_forward_hook(look)
    with torch.no_grad():
        copied(images_NCHW)
    return f"the output of the layer {found[0]}" if found else "the logits"
