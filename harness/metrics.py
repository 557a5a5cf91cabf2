"""The paper's scores, by the very calls it names: torchmetrics' MeanIoU and DiceScore.

They are means over patches, kept to compare with the paper; `harness.scores` has the exact, pooled ones.
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
