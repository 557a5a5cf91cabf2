"""The paper's scores: torchmetrics' MeanIoU and DiceScore, by the very calls, and the same means from counts.

They are means over patches, kept to compare with the paper; `harness.scores` has the exact, pooled ones.
`PaperMetrics` makes the calls, 700 ms for 32 patches of 256 px on a CPU; `PaperCounts` counts pixels per patch and
class, in 5 ms, and equals it to 1e-6. Every epoch is counted; torchmetrics has the last word on the best one.
Every argument that torchmetrics offers is spelled out, because defaults and meanings moved (1.4.2, 1.6.2,
1.7.1, 1.8.0, 1.9.0); under 1.9:

- `input_format="index"`: class indices, not one-hot; the default would read (N, H, W) as (N, classes, W).
- `per_class=False`: MeanIoU is the mean over every (patch, class) pair with a pixel in truth or prediction.
- `average="macro"`, `aggregation_level="samplewise"`: DiceScore is the mean over patches of the mean over the
  classes in the patch's truth or prediction. A patch without any is left out.
- neither has `ignore_index`, and label 255 raises: undefined pixels become class 0 in truth and prediction,
  which `include_background=False` then leaves out.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torchmetrics.segmentation import DiceScore, MeanIoU

from harness.config.labels import IGNORE


class PaperMetrics:
    """Collects patches batch by batch; `classes` is the number of logits.

    `ignore`: predictions 0..K-1, masks 0..K-1 or IGNORE; undefined pixels do not count. On fully defined
    patches this equals the paper's call with K classes, background included. `as_paper`: predictions and
    masks 0..K, of which 0 (undefined) counts as a class.
    """

    def __init__(
        self, *, classes: int, undefined: Literal["ignore", "as_paper"], device: torch.device | str = "cpu"
    ) -> None:
        self._shift = 1 if undefined == "ignore" else 0
        num_classes, include_background = classes + self._shift, undefined == "as_paper"
        self._iou = MeanIoU(
            num_classes=num_classes,
            include_background=include_background,
            per_class=False,
            input_format="index",
        ).to(device)
        self._dice = DiceScore(
            num_classes=num_classes,
            include_background=include_background,
            average="macro",
            aggregation_level="samplewise",
            input_format="index",
        ).to(device)

    def update(self, predictions_NHW: Tensor, masks_NHW: Tensor) -> None:
        """Add a batch of class indices (int64)."""
        undefined_NHW = masks_NHW == IGNORE
        predictions = torch.where(undefined_NHW, 0, predictions_NHW + self._shift)
        masks = torch.where(undefined_NHW, 0, masks_NHW + self._shift)
        self._iou.update(predictions, masks)
        self._dice.update(predictions, masks)

    def compute(self) -> dict[str, float | None]:
        """`iou` and `dice` of all patches since the last reset; None when no patch has a defined pixel."""
        if self._iou.update_count == 0:
            return {"iou": None, "dice": None}
        scores = {"iou": float(self._iou.compute()), "dice": float(self._dice.compute())}
        return {name: None if math.isnan(value) else value for name, value in scores.items()}

    def reset(self) -> None:
        """Forget all patches."""
        self._iou.reset()
        self._dice.reset()


class PaperCounts:
    """The scores of `PaperMetrics` from counts of pixels per patch and class.

    The counts stay on the device where they are made, and nothing waits for them before `compute`. The sums are
    float64 over all patches; torchmetrics' are float32, batch by batch.
    """

    def __init__(self, *, classes: int, undefined: Literal["ignore", "as_paper"]) -> None:
        self._classes = classes
        self._undefined_is_0 = undefined == "as_paper"
        self._batches_3NK: list[Tensor] = []

    def update(self, predictions_NHW: Tensor, masks_NHW: Tensor) -> None:
        """Add a batch of class indices, integers of any kind: predictions 0..K-1, masks 0..K-1 or IGNORE."""
        count = _counted_by_code if predictions_NHW.device.type == "cpu" else _counted_by_comparison
        counts_3NK, undefined_N = count(predictions_NHW, masks_NHW, self._classes)
        if self._undefined_is_0:
            counts_3NK[:, :, 0] += undefined_N
        self._batches_3NK.append(counts_3NK)

    def compute(self) -> dict[str, float | None]:
        """`iou` and `dice` of all patches so far; None when no patch has a defined pixel."""
        if not self._batches_3NK:
            return {"iou": None, "dice": None}
        hits_NK, said_NK, true_NK = torch.cat(self._batches_3NK, dim=1).cpu().numpy().astype(np.float64)
        total_NK = said_NK + true_NK
        there_NK = total_NK > 0
        if not there_NK.any():
            return {"iou": None, "dice": None}
        counts_there = there_NK.any(axis=1)
        dice_NK = np.divide(2 * hits_NK, total_NK, out=np.zeros_like(total_NK), where=there_NK)
        dice_N = dice_NK[counts_there].sum(axis=1) / there_NK[counts_there].sum(axis=1)
        iou = (hits_NK[there_NK] / (total_NK - hits_NK)[there_NK]).mean()
        return {"iou": float(iou), "dice": float(dice_N.mean())}


Counts = tuple[Tensor, Tensor]
"""(3, N, K) pixels that are hit, predicted, true, where the truth is defined; (N,) undefined pixels. All int64."""


def _counted_by_code(predictions_NHW: Tensor, masks_NHW: Tensor, classes: int) -> Counts:
    """One histogram a patch, of codes that hold truth and prediction: the fastest on CPUs."""
    # A byte holds up to 15 classes; wider codes take twice as long.
    kind = torch.uint8 if (classes + 1) * classes <= 256 else torch.int32
    truth_NHW = masks_NHW.to(torch.uint8).clamp(max=classes).to(kind)  # IGNORE becomes one more row
    codes_NP = (truth_NHW * classes + predictions_NHW.to(kind)).flatten(1)
    length = (classes + 1) * classes
    pairs_NKK = torch.stack([torch.bincount(codes_P, minlength=length) for codes_P in codes_NP])
    pairs_NKK = pairs_NKK.view(-1, classes + 1, classes)
    defined_NKK = pairs_NKK[:, :classes]
    counts = (defined_NKK.diagonal(dim1=1, dim2=2), defined_NKK.sum(dim=1), defined_NKK.sum(dim=2))
    return torch.stack(counts), pairs_NKK[:, classes].sum(dim=1)


def _counted_by_comparison(predictions_NHW: Tensor, masks_NHW: Tensor, classes: int) -> Counts:
    """The same by comparing with every class: no kernel of it makes the host wait, as CUDA's bincount does."""
    class_K11 = torch.arange(classes, device=masks_NHW.device).view(-1, 1, 1)
    undefined_NHW = masks_NHW == IGNORE
    true_NKHW = masks_NHW.unsqueeze(1) == class_K11
    said_NKHW = (predictions_NHW.unsqueeze(1) == class_K11) & ~undefined_NHW.unsqueeze(1)
    counts = [mask_NKHW.sum((2, 3)) for mask_NKHW in (true_NKHW & said_NKHW, said_NKHW, true_NKHW)]
    return torch.stack(counts), undefined_NHW.sum((1, 2))
