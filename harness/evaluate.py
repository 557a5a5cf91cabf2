"""Exact evaluation: patches stitched per ROI at the ROI's own pixels, then counted into integer matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harness.config.spec import TrainSpec
from harness.data.batches import validation_batches
from harness.data.patches import PatchStore, StoredRoi, non_homogeneous_cells
from harness.data.targets import target_table
from harness.metrics import PaperCounts, PaperMetrics
from harness.scores import RoiMatrices, Scheme, source_matrix

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One pass over the validation patches. Predictions are there only when kept."""

    rois: tuple[RoiMatrices, ...]
    loss: float
    paper: Mapping[str, float | None]  # from counts; `torchmetrics_scores` has torchmetrics' own
    predictions: Mapping[str, NDArray[np.uint8]]  # ROI name -> (H, W), as the matrices count them
    patch_classes_NHW: NDArray[np.uint8] | None  # classes from 0, in the order of `by_roi`


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch's outputs and where they belong."""

    probabilities_NKHW: Tensor
    classes_NHW: Tensor  # uint8, counted from 0
    patches: NDArray[np.void]  # rows of the store's index


def evaluate(
    model: nn.Module,
    store: PatchStore,
    validation_indices: NDArray[np.int64],
    scheme: Scheme,
    *,
    train: TrainSpec,
    loss: LossFunction,
    device: torch.device,
    keep_predictions: bool = False,
    poll: Callable[[], None] = lambda: None,
) -> Evaluation:
    """Predict all validation patches and count (source id, predicted class) pairs per ROI.

    Softmax is resized bilinearly to the patch's extent at the ROI's own pixels (rounded to whole), averaged
    where patches overlap, then argmax. Memory is bounded by one ROI and one batch, plus
    predictions if kept; elsewhere than on the CPU, by a byte a pixel of all ROIs on the device.
    The loss is the mean over patches of the batch losses in fixed order: it depends on the batch size, the
    matrices do not. `poll` runs once per batch and may raise. The model is left in evaluation mode.
    """
    order = by_roi(store, validation_indices)
    totals = Totals(PaperCounts(classes=len(scheme.columns), undefined=train.undefined), keep=keep_predictions)
    first_column = 0 if scheme.undefined_column else 1  # what a prediction of the first logit is called
    rois: list[RoiMatrices] = []
    predictions: dict[str, NDArray[np.uint8]] = {}
    placed_model(model, device).eval()
    with torch.inference_mode():
        outputs = _outputs(model, store, order, scheme, train=train, loss=loss, device=device, totals=totals, poll=poll)
        stitched = _stitched(outputs, store, order, device)
        # Elsewhere than on the CPU all are read back after the pass: one at a time would hold up the device.
        for roi_index, classes_HW in stitched if device.type == "cpu" else list(stitched):
            predicted_HW = classes_HW.cpu().numpy() + np.uint8(first_column)
            rois.append(_counted(store, roi_index, predicted_HW, scheme))
            if keep_predictions:
                predictions[store.rois[roi_index].name] = predicted_HW
    return Evaluation(
        rois=tuple(rois),
        loss=totals.mean_loss(),
        paper=totals.counts.compute(),
        predictions=predictions,
        patch_classes_NHW=totals.kept_classes(),
    )


def by_roi(store: PatchStore, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """These patches ROI by ROI, so that one ROI at a time is in memory; otherwise in their own order."""
    return indices[np.argsort(store.index["roi"][indices], kind="stable")]


def torchmetrics_scores(
    evaluation: Evaluation,
    store: PatchStore,
    validation_indices: NDArray[np.int64],
    scheme: Scheme,
    *,
    train: TrainSpec,
    device: torch.device,
) -> dict[str, float | None]:
    """The paper's scores of kept predictions by torchmetrics' own calls, on the patches that the pass saw."""
    if evaluation.patch_classes_NHW is None:
        raise ValueError("this evaluation did not keep its predictions")
    metrics = PaperMetrics(classes=len(scheme.columns), undefined=train.undefined, device=device)
    table, order = target_table(scheme.labels, train.undefined), by_roi(store, validation_indices)
    for start in range(0, len(order), train.batch_size):
        batch = slice(start, start + train.batch_size)
        both = (evaluation.patch_classes_NHW[batch], table[store.masks_NHW[order[batch]]])
        metrics.update(*(placed(indices_NHW.astype(np.int64), device) for indices_NHW in both))
    return metrics.compute()


class Totals:
    """Sums over the patches of a pass; nothing is read back from the device before the end."""

    def __init__(self, counts: PaperCounts, *, keep: bool = False) -> None:
        self.counts = counts
        self._losses: list[Tensor] = []
        self._patches: list[int] = []
        self._kept_NHW: list[Tensor] | None = [] if keep else None

    def add(self, loss: Tensor, classes_NHW: Tensor, targets_NHW: Tensor) -> None:
        """A batch; `classes_NHW` is kept as it is."""
        self._losses.append(loss.detach())
        self._patches.append(len(classes_NHW))
        self.counts.update(classes_NHW, targets_NHW)
        if self._kept_NHW is not None:
            self._kept_NHW.append(classes_NHW)

    def kept_classes(self) -> NDArray[np.uint8] | None:
        """The classes of all batches, uint8, if kept."""
        return None if self._kept_NHW is None else torch.cat(self._kept_NHW).to(torch.uint8).cpu().numpy()

    def mean_loss(self) -> float:
        losses = torch.stack(self._losses).cpu().double()
        weights = torch.tensor(self._patches, dtype=torch.float64)
        return float((losses * weights).sum() / weights.sum())


def autocast(precision: Literal["auto", "fp32", "bf16"], device: torch.device) -> AbstractContextManager[None]:
    """bf16 where asked for, and by `auto` on CUDA alone: on CPUs it is slower than fp32."""
    wanted = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=wanted)


def likeliest(scores_NKHW: Tensor) -> Tensor:
    """(N, H, W) index of the largest score. `max` has it five times faster than `argmax` does on CPUs."""
    return scores_NKHW.max(dim=1).indices


def placed_images(images_NCHW: NDArray[np.float32] | Tensor, device: torch.device) -> Tensor:
    """A batch on the device, in the memory layout that its convolutions like; a tensor is there already."""
    return placed(images_NCHW, device).contiguous(memory_format=memory_layout(device))


def placed_model(model: nn.Module, device: torch.device) -> nn.Module:
    """The same model, moved to the device, its convolutions in the layout that they like there."""
    return model.to(device, memory_format=memory_layout(device))  # type: ignore[call-overload,no-any-return]


def memory_layout(device: torch.device) -> torch.memory_format:
    """Channels last: on one CPU thread a training step of a U-Net at 64 px takes 1.4 times less (at 256 px 1.15)."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def placed(array: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """A copy on the device; a tensor, which is there already, as it is.

    For CUDA by way of pinned memory: from any other the host waits for the device first.
    """
    if isinstance(array, Tensor):
        return array
    # A copy into torch's own memory, which is aligned to 64 bytes: with numpy's 16 the vectorised sums could
    # group differently from run to run, and the weights would differ in the last bit.
    tensor = torch.tensor(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _outputs(
    model: nn.Module,
    store: PatchStore,
    order: NDArray[np.int64],
    scheme: Scheme,
    *,
    train: TrainSpec,
    loss: LossFunction,
    device: torch.device,
    totals: Totals,
    poll: Callable[[], None],
) -> Iterator[_Batch]:
    """Run the model batch by batch, adding loss and the paper's metrics to `totals`."""
    table = target_table(scheme.labels, train.undefined)
    for images_NCHW, indices in validation_batches(
        store, order, batch_size=math.ceil(train.batch_size / train.accumulate), normalize=train.normalize
    ):
        poll()
        with autocast(train.precision, device):
            logits_NKHW = model(placed_images(images_NCHW, device))
        logits_NKHW = logits_NKHW.float()
        targets_NHW = placed(table[store.masks_NHW[indices]].astype(np.int64), device)
        probabilities_NKHW = logits_NKHW.softmax(dim=1)
        classes_NHW = likeliest(probabilities_NKHW).to(torch.uint8)
        totals.add(loss(logits_NKHW, targets_NHW), classes_NHW, targets_NHW)
        yield _Batch(probabilities_NKHW, classes_NHW, store.index[indices])


def _stitched(
    outputs: Iterator[_Batch], store: PatchStore, order: NDArray[np.int64], device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """(ROI index, uint8 (H, W) classes from 0 on the device), each as soon as its last patch is there."""
    remaining = dict(zip(*np.unique(store.index["roi"][order], return_counts=True), strict=True))
    canvas: _Mosaic | _Average | None = None
    for batch in outputs:
        for i, patch in enumerate(batch.patches):
            roi_index = patch["roi"]
            if canvas is None:
                canvas = _canvas(store, roi_index, order, batch, device)
            canvas.add(batch, i, patch)
            remaining[roi_index] -= 1
            if not remaining[roi_index]:
                yield int(roi_index), canvas.classes()
                canvas = None


def _canvas(
    store: PatchStore, roi_index: int, order: NDArray[np.int64], batch: _Batch, device: torch.device
) -> _Mosaic | _Average:
    roi = store.rois[roi_index]
    patches = store.index[order]
    patches = patches[patches["roi"] == roi_index]
    input_px = store.cut.input_px
    same_pixels = (roi.grid_height_px, roi.grid_width_px) == (roi.height_px, roi.width_px)
    unscaled = bool(np.all((patches["size_y"] == input_px) & (patches["size_x"] == input_px)))
    # Validation patches cover the ROI, so equal areas mean that none overlaps another.
    disjoint = len(patches) * input_px**2 == roi.height_px * roi.width_px
    if same_pixels and unscaled and disjoint:
        return _Mosaic(roi, device)
    return _Average(roi, batch.probabilities_NKHW.shape[1], device)


class _Mosaic:
    """Disjoint patches at the ROI's own pixels: classes are put side by side; nothing is to be averaged."""

    def __init__(self, roi: StoredRoi, device: torch.device) -> None:
        self._classes_HW = torch.zeros(roi.height_px, roi.width_px, dtype=torch.uint8, device=device)

    def add(self, batch: _Batch, i: int, patch: np.void) -> None:
        y, x = int(patch["y"]), int(patch["x"])
        height, width = int(patch["size_y"]), int(patch["size_x"])
        self._classes_HW[y : y + height, x : x + width] = batch.classes_NHW[i]

    def classes(self) -> Tensor:
        return self._classes_HW


class _Average:
    """Sums of probabilities at the ROI's own pixels; the largest sum is the largest mean: no division."""

    def __init__(self, roi: StoredRoi, columns: int, device: torch.device) -> None:
        self._roi = roi
        self._sums_KHW = torch.zeros(columns, roi.height_px, roi.width_px, device=device)
        self._covered_HW = np.zeros((roi.height_px, roi.width_px), dtype=bool)  # here: the device is not asked

    def add(self, batch: _Batch, i: int, patch: np.void) -> None:
        top, bottom = _own_pixels(patch["y"], patch["size_y"], self._roi.height_px, self._roi.grid_height_px)
        left, right = _own_pixels(patch["x"], patch["size_x"], self._roi.width_px, self._roi.grid_width_px)
        probabilities_KHW = batch.probabilities_NKHW[i]
        extent = (bottom - top, right - left)
        if probabilities_KHW.shape[1:] != extent:
            probabilities_KHW = interpolate(probabilities_KHW[None], size=extent, mode="bilinear", align_corners=False)[
                0
            ]
        self._sums_KHW[:, top:bottom, left:right] += probabilities_KHW
        self._covered_HW[top:bottom, left:right] = True

    def classes(self) -> Tensor:
        if not self._covered_HW.all():
            raise ValueError(f"{self._roi.name}: the validation patches do not cover the ROI")
        return likeliest(self._sums_KHW[None])[0].to(torch.uint8)


def _own_pixels(start: int, size: int, own_px: int, grid_px: int) -> tuple[int, int]:
    """A patch's extent along one side, in the ROI's own pixels; neighbours keep their common edge."""
    scale = own_px / grid_px
    return round(int(start) * scale), round((int(start) + int(size)) * scale)


def _counted(store: PatchStore, roi_index: int, predicted_HW: NDArray[np.uint8], scheme: Scheme) -> RoiMatrices:
    roi = store.rois[roi_index]
    truth_HW = store.roi_mask(roi_index)
    cells_HW = non_homogeneous_cells(truth_HW, roi.mpp)
    return RoiMatrices(
        name=roi.name,
        patient=roi.patient,
        centre=roi.centre,
        resized=roi.resized,
        matrix=source_matrix(truth_HW, predicted_HW, scheme),
        matrix_non_homogeneous=source_matrix(truth_HW[cells_HW], predicted_HW[cells_HW], scheme),
    )
