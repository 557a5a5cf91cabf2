"""Segmentation losses that undefined pixels cannot touch.

Masks hold class indices. Under `undefined: ignore` there are K logits, masks are 0..K-1, and a pixel marked
IGNORE enters neither a loss nor its gradient. Under `as_paper` there are K + 1 logits, 0 is the class
`undefined`; Jaccard and Dice score the classes 1..K, as smp's `JaccardLoss(classes=[1..K])` does, and the
others train 0 like any class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from harness.config.imported import ImportedPart, call_part
from harness.config.labels import IGNORE
from harness.errors import BadInput

FOCAL_GAMMA = 2.0  # Lin et al. 2017
EPSILON = 1e-7  # smp's, so that values agree

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(logits_NKHW, masks_NHW) -> scalar"""


@dataclass(frozen=True)
class _Pixels:
    """What every loss needs of a batch, NKHW; at undefined pixels all are 0, and so is their gradient."""

    log_probabilities: Tensor
    probabilities: Tensor
    targets: Tensor  # one-hot


# Pixels, weight per logit, first class that Jaccard and Dice score.
_Term = Callable[[_Pixels, Tensor, int], Tensor]


def build_loss(
    loss: Mapping[str, float] | ImportedPart,
    *,
    classes: int,
    class_weights: tuple[float, ...] | None,
    undefined: Literal["ignore", "as_paper"],
) -> LossFunction:
    """A weighted sum of named losses, e.g. `{"cross_entropy": 1, "dice": 1}`.

    `classes` is the number of logits. `class_weights` has one entry per class of the label map (under
    `as_paper` class `undefined` weighs 1): they weigh pixels by their true class in cross-entropy and focal,
    and the terms of the mean over classes in Jaccard and Dice. The loss of a batch without a defined pixel is
    0, its gradient too. An imported part is called as `function(classes=..., ignore_index=IGNORE)` and returns the
    loss function.
    """
    if isinstance(loss, ImportedPart):
        return _defined_only(cast(LossFunction, call_part(loss, classes=classes, ignore_index=IGNORE)))
    unknown = [name for name in loss if name not in _TERMS]
    if unknown or not loss:
        raise BadInput(f"loss {', '.join(map(repr, unknown)) or '{}'} is unknown; choose from {', '.join(_TERMS)}")
    first_class = 1 if undefined == "as_paper" else 0
    named_classes = classes - first_class
    if class_weights is not None and len(class_weights) != named_classes:
        raise BadInput(f"class_weights has {len(class_weights)} entries; the label map has {named_classes} classes")
    weights_K = torch.tensor((1.0,) * first_class + (class_weights or (1.0,) * named_classes))
    placed: dict[torch.device, Tensor] = {}

    def weighted_sum(logits_NKHW: Tensor, masks_NHW: Tensor) -> Tensor:
        pixels = _pixels(logits_NKHW, masks_NHW)
        weights = placed.get(logits_NKHW.device)
        if weights is None:  # placed once: a copy at every step would make the host wait for the device
            weights = placed.setdefault(logits_NKHW.device, weights_K.to(logits_NKHW.device))
        terms = [factor * _TERMS[name](pixels, weights, first_class) for name, factor in loss.items()]
        return torch.stack(terms).sum()

    return weighted_sum


def _defined_only(loss: LossFunction) -> LossFunction:
    """An imported loss, spared batches without a defined pixel: torch's own cross-entropy gives NaN for them."""

    def spared(logits_NKHW: Tensor, masks_NHW: Tensor) -> Tensor:
        if bool((masks_NHW != IGNORE).any()):
            return loss(logits_NKHW, masks_NHW)
        return (logits_NKHW * 0).sum()

    return spared


def _pixels(logits_NKHW: Tensor, masks_NHW: Tensor) -> _Pixels:
    defined_N1HW = (masks_NHW != IGNORE).unsqueeze(1)
    # Replaced before the softmax: `where` passes no gradient to what it drops, a product with 0 passes NaN.
    # In float32, because sums over a batch lose digits in bfloat16.
    logits = torch.where(defined_N1HW, logits_NKHW.float(), 0.0)
    log_probabilities = logits.log_softmax(dim=1)
    class_index_K11 = torch.arange(logits.shape[1], device=logits.device).view(-1, 1, 1)
    return _Pixels(
        log_probabilities=log_probabilities * defined_N1HW,
        probabilities=log_probabilities.exp() * defined_N1HW,
        targets=(masks_NHW.unsqueeze(1) == class_index_K11).float(),
    )


def _jaccard(pixels: _Pixels, weights_K: Tensor, first_class: int) -> Tensor:
    """1 - intersection over union, per class over the whole batch; mean over classes."""
    both_K, total_K, true_K = _overlap(pixels)
    return _class_mean(1 - both_K / (total_K - both_K).clamp_min(EPSILON), true_K, weights_K, first_class)


def _dice(pixels: _Pixels, weights_K: Tensor, first_class: int) -> Tensor:
    """1 - Dice, per class over the whole batch; mean over classes."""
    both_K, total_K, true_K = _overlap(pixels)
    return _class_mean(1 - both_K / (total_K / 2).clamp_min(EPSILON), true_K, weights_K, first_class)


def _overlap(pixels: _Pixels) -> tuple[Tensor, Tensor, Tensor]:
    """Per class: probability mass on true pixels, predicted plus true mass, true pixels."""
    over_pixels = (0, 2, 3)
    true_K = pixels.targets.sum(over_pixels)
    both_K = (pixels.probabilities * pixels.targets).sum(over_pixels)
    return both_K, pixels.probabilities.sum(over_pixels) + true_K, true_K


def _class_mean(losses_K: Tensor, true_K: Tensor, weights_K: Tensor, first_class: int) -> Tensor:
    """Weighted mean over the scored classes; one without a true pixel adds 0 and still counts, as in smp."""
    present_K = (true_K > 0).float()
    scored = slice(first_class, None)
    return (losses_K * present_K * weights_K)[scored].sum() / weights_K[scored].sum()


def _cross_entropy(pixels: _Pixels, weights_K: Tensor, first_class: int) -> Tensor:
    """-log p(true class), mean over defined pixels."""
    return _pixel_mean(-pixels.log_probabilities, pixels, weights_K)


def _focal(pixels: _Pixels, weights_K: Tensor, first_class: int) -> Tensor:
    """Cross-entropy times (1 - p(true class))^2, over the softmax; smp has one sigmoid a class."""
    hardness = (1 - pixels.probabilities).pow(FOCAL_GAMMA)
    return _pixel_mean(-hardness * pixels.log_probabilities, pixels, weights_K)


def _pixel_mean(losses_NKHW: Tensor, pixels: _Pixels, weights_K: Tensor) -> Tensor:
    """Mean of the true class's losses over defined pixels, weighted by that class."""
    weights_NKHW = pixels.targets * weights_K.view(-1, 1, 1)
    return (losses_NKHW * weights_NKHW).sum() / weights_NKHW.sum().clamp_min(EPSILON)


_TERMS: Mapping[str, _Term] = {
    "jaccard": _jaccard,
    "dice": _dice,
    "cross_entropy": _cross_entropy,
    "focal": _focal,
}
