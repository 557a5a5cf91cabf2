"""Imported parts tried before the first trial: what is wrong with them is said now, in one line."""

from __future__ import annotations

import numpy as np
import torch

from harness.config.imported import ImportedPart
from harness.config.labels import IGNORE
from harness.config.spec import TrialSpec
from harness.data.augment import build_augment
from harness.errors import BadInput
from harness.losses import build_loss
from harness.models.build import build_model

# A coin that is not `rng`'s falls the same way in all of them once in a million.
_CALLS = 20


def try_parts(spec: TrialSpec) -> None:
    """Build the spec's imported network, loss and augmentation and use each once, on random patches.

    BadInput says which does not keep to its contract (docs/own-parts.md) and how.
    """
    if isinstance(spec.model.architecture, ImportedPart):
        build_model(spec.model, classes=spec.classes, input_px=spec.dataset.cut.input_px)
    if isinstance(spec.train.loss, ImportedPart):
        _try_loss(spec, spec.train.loss)
    if isinstance(spec.train.augment, ImportedPart):
        _try_augment(spec, spec.train.augment)


def _try_loss(spec: TrialSpec, part: ImportedPart) -> None:
    side = 16
    generator = torch.Generator().manual_seed(0)
    logits_NKHW = torch.randn(2, spec.classes, side, side, generator=generator, requires_grad=True)
    targets_NHW = torch.randint(0, spec.classes, (2, side, side), generator=generator)
    if spec.train.undefined == "ignore":
        targets_NHW[:, :4] = IGNORE
    function = build_loss(part, classes=spec.classes, class_weights=None, undefined=spec.train.undefined)
    try:
        value = function(logits_NKHW, targets_NHW)
        gradient = torch.autograd.grad(value.sum(), logits_NKHW)[0]
    except Exception as error:  # it is somebody else's code: anything may come
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{part.target}: the loss it returns fails: {type(error).__name__}: {text}") from error
    if value.ndim or not bool(torch.isfinite(value)) or not bool(torch.isfinite(gradient).all()):
        given = f"shape {tuple(value.shape)}" if value.ndim else f"{float(value):g}"
        raise BadInput(
            f"{part.target}: the loss it returns gave {given} on random logits; expected one finite number whose "
            "gradient is finite"
        )
    if spec.train.undefined == "ignore" and bool(gradient[:, :, :4].any()):
        raise BadInput(
            f"{part.target}: its loss has a gradient on undefined pixels; targets equal to ignore_index ({IGNORE}) "
            "must not count"
        )


def _try_augment(spec: TrialSpec, part: ImportedPart) -> None:
    side = spec.dataset.cut.input_px
    rng = np.random.default_rng(0)
    image_HWC = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    target_HW = rng.integers(0, 2, (side, side), dtype=np.uint8)
    augment = build_augment(part, undefined_target=IGNORE)
    try:
        runs = [
            [augment(image_HWC, target_HW, seed=0, epoch=1, index=index) for index in range(_CALLS)] for _ in range(2)
        ]
    except BadInput:
        raise
    except Exception as error:  # the same
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{part.target}: fails on a patch: {type(error).__name__}: {text}") from error
    for first, again in zip(*runs, strict=True):
        if not all(np.array_equal(one, other) for one, other in zip(first, again, strict=True)):
            raise BadInput(f"{part.target}: two calls with the same rng differ; draw from `rng` alone")
