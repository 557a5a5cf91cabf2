"""An own loss: Tversky (Salehi et al. 2017), which weighs missed pixels more than invented ones."""

from collections.abc import Callable

import torch
from torch import Tensor


def tversky(classes: int, ignore_index: int, missed: float = 0.7) -> Callable[[Tensor, Tensor], Tensor]:
    """(logits (N, classes, H, W), targets (N, H, W) of class indices or ignore_index) -> scalar."""

    def loss(logits_NKHW: Tensor, targets_NHW: Tensor) -> Tensor:
        defined_N1HW = (targets_NHW != ignore_index).unsqueeze(1)
        truth = torch.arange(classes, device=targets_NHW.device).view(1, -1, 1, 1) == targets_NHW.unsqueeze(1)
        guess = logits_NKHW.softmax(dim=1) * defined_N1HW
        both_K = (guess * truth).sum((0, 2, 3))
        missed_K = (truth * (1 - guess)).sum((0, 2, 3))
        invented_K = (guess * ~truth).sum((0, 2, 3))
        return 1 - (both_K / (both_K + missed * missed_K + (1 - missed) * invented_K + 1e-6)).mean()

    return loss
