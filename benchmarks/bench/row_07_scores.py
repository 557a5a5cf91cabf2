"""Row 7: the paper's scores of a batch of 32 patches of 256 px with 7 classes, as an epoch adds them up."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from benchmarks.bench.row import Figures, Row, Side
from harness.config.labels import IGNORE
from harness.metrics import PaperCounts, PaperMetrics

PATCHES, PX, CLASSES = 32, 256, 7


def ours() -> Figures:
    """From counts."""
    return _timed(PaperCounts(classes=CLASSES, undefined="ignore"), batches=50)


def theirs() -> Figures:
    """torchmetrics' MeanIoU and DiceScore."""
    return _timed(PaperMetrics(classes=CLASSES, undefined="ignore"), batches=4)


def _timed(metrics: PaperCounts | PaperMetrics, *, batches: int) -> Figures:
    """Seconds a batch, the scores' own at the end of all batches included."""
    torch.set_num_threads(1)
    predictions_NHW, masks_NHW = batch()
    metrics.update(predictions_NHW, masks_NHW)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        metrics.update(predictions_NHW, masks_NHW)
    iou = metrics.compute()["iou"]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert iou is not None
    return {"seconds": wall / batches, "cpu_seconds": cpu / batches, "iou": iou}


def batch() -> tuple[Tensor, Tensor]:
    """Predictions and masks as training has them: int64, tissues of some 16 px, a tenth wrong, a tenth undefined."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.randint(0, CLASSES, (PATCHES, PX // 16, PX // 16), generator=generator)
    masks_NHW = coarse.repeat_interleave(16, dim=1).repeat_interleave(16, dim=2)
    wrong, undefined = torch.rand((2, *masks_NHW.shape), generator=generator) < 0.1
    guesses_NHW = torch.randint(0, CLASSES, masks_NHW.shape, generator=generator)
    return torch.where(wrong, guesses_NHW, masks_NHW), masks_NHW.masked_fill(undefined, IGNORE)


ROW = Row(
    number=7,
    work="scores of an epoch: a batch of 32 patches of 256 px, 7 classes, one thread",
    goal=50.0,
    sides=(Side("ours, counts", ours), Side("torchmetrics MeanIoU + DiceScore", theirs)),
)
