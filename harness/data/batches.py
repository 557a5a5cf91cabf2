"""Patches of a store as batches for the network: numpy arrays, decided by (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.labels import UNDEFINED, LabelMap
from harness.config.spec import TrainSpec
from harness.data.augment import build_augment
from harness.data.patches import Indices, PatchStore, class_counts

Images = NDArray[np.float32]
Normalize = Literal["unit", "imagenet"]

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
_UNIT = np.full((3, 1, 1), 1 / 255, np.float32)
_IMAGENET_SCALE = _UNIT / IMAGENET_STD[:, None, None]
_IMAGENET_SHIFT = (-IMAGENET_MEAN / IMAGENET_STD)[:, None, None]


def training_batches(
    store: PatchStore,
    indices: Indices,
    *,
    spec: TrainSpec,
    table: NDArray[np.uint8],
    labels: LabelMap,
    seed: int,
    epoch: int,
) -> Iterator[tuple[Images, NDArray[np.int64]]]:
    """One epoch of (images_NCHW float32, targets_NHW int64), `len(indices)` patches in all.

    `table` maps source ids to targets (`targets.target_table`). Order, draws and augmentation depend on seed
    and epoch only. A last batch of one patch joins the batch before it: BatchNorm cannot train on a single
    value.
    """
    augment = build_augment(spec.augment, undefined_target=int(table[UNDEFINED]))
    side_px = store.masks_NHW.shape[1:]
    for patches, keys in drawn_batches(store, indices, spec=spec, labels=labels, seed=seed, epoch=epoch):
        images_NCHW = np.empty((len(patches), 3, *side_px), np.float32)
        targets_NHW = np.empty((len(patches), *side_px), np.int64)
        for place, (patch, key) in enumerate(zip(patches.tolist(), keys.tolist(), strict=True)):
            image_HWC, targets_NHW[place] = augment(
                store.images_NHWC[patch],
                np.asarray(cv2.LUT(store.masks_NHW[patch], table), np.uint8),  # a quarter of the time of `table[...]`
                seed=seed,
                epoch=epoch,
                index=key,
            )
            _normalize(image_HWC, spec.normalize, images_NCHW[place])
        yield images_NCHW, targets_NHW


def drawn_batches(
    store: PatchStore, indices: Indices, *, spec: TrainSpec, labels: LabelMap, seed: int, epoch: int
) -> Iterator[tuple[Indices, Indices]]:
    """(patches, keys of their augmentation) of each batch of an epoch, wherever the batch is made."""
    order = epoch_order(store, indices, sampling=spec.sampling, labels=labels, seed=seed, epoch=epoch)
    keys = _augment_keys(order, len(store))
    for batch in batch_slices(len(order), spec.batch_size):
        yield order[batch], keys[batch]


def scale_and_shift(normalize: Normalize) -> tuple[Images, Images]:
    """(3, 1, 1) each: a normalised value is grey * scale + shift, the product rounded first."""
    return (_UNIT, np.zeros_like(_UNIT)) if normalize == "unit" else (_IMAGENET_SCALE, _IMAGENET_SHIFT)


def validation_batches(
    store: PatchStore, indices: Indices, *, batch_size: int, normalize: Normalize
) -> Iterator[tuple[Images, Indices]]:
    """(images_NCHW, their indices) in the order given, nothing augmented."""
    for start in range(0, len(indices), batch_size):
        batch = indices[start : start + batch_size]
        yield normalized(store.images_NHWC[batch], normalize), batch


def epoch_order(
    store: PatchStore,
    indices: Indices,
    *,
    sampling: Literal["uniform", "balanced"],
    labels: LabelMap,
    seed: int,
    epoch: int,
) -> Indices:
    """The patches of one epoch: `uniform` shuffles all of them, `balanced` draws as many with replacement."""
    rng = np.random.default_rng([seed, epoch])
    if sampling == "uniform":
        return rng.permutation(indices)
    weights = balanced_weights(class_counts(store, indices, labels))
    return rng.choice(indices, size=len(indices), replace=True, p=weights)


def balanced_weights(counts_NK: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) probabilities that even out the classes: draw a class, then a patch by its share of that class.

    With f[p, k] = class k's share of patch p's defined pixels and F[k] = sum of f over patches,
        w[p] = 1 / K * sum over k of f[p, k] / F[k]
    over the K classes that occur. Where patches hold one class each, every class is drawn 1/K of the time.
    Otherwise this is one EM step from uniform draws towards the weights that maximise the sum of log(share
    of class k), so never less even than uniform draws. A patch without defined pixels is not drawn.
    """
    shares = counts_NK / np.maximum(counts_NK.sum(axis=1, keepdims=True), 1)
    totals = shares.sum(axis=0)
    present = totals > 0
    if not present.any():
        return np.full(len(counts_NK), 1 / len(counts_NK))
    weights = (shares[:, present] / totals[present]).mean(axis=1)
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def batch_slices(patches: int, batch_size: int) -> list[slice]:
    """Consecutive slices of `batch_size`; a last one of a single patch joins the one before."""
    stops = [*range(batch_size, patches, batch_size), patches] if patches else []
    if len(stops) > 1 and batch_size > 1 and stops[-1] - stops[-2] == 1:
        del stops[-2]
    return [slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]


def normalized(images_NHWC: NDArray[np.uint8], normalize: Normalize) -> Images:
    """(N, 3, H, W) float32: `unit` divides by 255, `imagenet` then standardises as ImageNet models expect."""
    patches, height, width, channels = images_NHWC.shape
    images_NCHW = np.empty((patches, channels, height, width), np.float32)
    for image_HWC, image_CHW in zip(images_NHWC, images_NCHW, strict=True):
        _normalize(image_HWC, normalize, image_CHW)
    return images_NCHW


def _normalize(image_HWC: NDArray[np.uint8], normalize: Normalize, into_CHW: Images) -> None:
    """One image into its place: 40 us at 256 px, within the core's cache, where a batch at once takes 280 an image."""
    planes_CHW = np.empty(into_CHW.shape, np.uint8)
    cv2.split(image_HWC, list(planes_CHW))
    into_CHW[...] = planes_CHW
    if normalize == "unit":
        into_CHW *= _UNIT
    else:
        into_CHW *= _IMAGENET_SCALE
        into_CHW += _IMAGENET_SHIFT


def _augment_keys(order: Indices, patches: int) -> Indices:
    """One key per draw: the patch's index, and a fresh one each time it is drawn again in the epoch."""
    seen: dict[int, int] = {}
    keys = np.empty_like(order)
    for position, patch in enumerate(order.tolist()):
        keys[position] = patch + seen.get(patch, 0) * patches
        seen[patch] = seen.get(patch, 0) + 1
    return keys
