"""A trial's training patches on its device, moved there once as bytes: there an epoch gathers, augments and normalises.

The host only says which patches come next and how they move (some 10 us each); it never waits for the device. Batches
are those of `training_batches`: the same order and draws, and the same pixels, but for one level of grey in less than
one value of 1,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.config.imported import ImportedPart
from harness.config.labels import LabelMap
from harness.config.spec import TrainSpec
from harness.data.affine import Draws
from harness.data.batches import drawn_batches, scale_and_shift
from harness.data.patches import Indices, PatchStore
from harness.device_warp import warped_batch
from harness.evaluate import memory_layout, placed

# Of a device's free memory. The rest is for the network with its activations, which are not there yet, and for whoever
# shares the device: a trial that runs out of memory is tried again with half the batch, which is another training.
SHARE = 0.25
PIECE_BYTES = 64_000_000  # moved at a time, so that the host never holds a second copy of all

Matrices = Callable[[int, int, Indices, int, int], NDArray[np.float64]]


def _drawn_matrices(seed: int, epoch: int, keys: Indices, height_px: int, width_px: int) -> NDArray[np.float64]:
    """(N, 2, 3), source to destination: the moves that `paper_one_warp` draws for these keys."""
    draws = Draws(seed, epoch)
    return np.stack([draws.moves(key, height_px, width_px).matrix(height_px, width_px) for key in keys.tolist()])


# The policies that are one matrix a sample; None: nothing moves. All others stay on the host.
MATRICES: Mapping[str, Matrices | None] = {"none": None, "paper_one_warp": _drawn_matrices}


def moves_on_device(policy: str | ImportedPart) -> bool:
    """Whether this augmentation can be done here."""
    return isinstance(policy, str) and policy in MATRICES


def free_bytes(device: torch.device) -> int | None:
    """Of the device's memory, with what torch holds and does not use. None for all but CUDA: on a CPU there is nothing
    to move, and Apple's devices share the host's memory and were not tried."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def size_bytes(store: PatchStore, indices: Indices) -> int:
    """Of these patches' images and masks."""
    return len(indices) * store.cut.input_px**2 * 4


class DevicePatches:
    """Images and masks of some patches of a store, uint8, on a device."""

    def __init__(self, store: PatchStore, indices: Indices, device: torch.device) -> None:
        """Copies them; torch.OutOfMemoryError when there is no room."""
        self._of = (store.key, device)
        self._indices = indices.copy()
        self._rows = np.full(len(store), -1, np.int64)  # of a patch, by its index in the store
        self._rows[indices] = np.arange(len(indices))
        self._images_NHWC = _moved(store.images_NHWC, indices, device)
        self._masks_NHW = _moved(store.masks_NHW, indices, device)

    def are_of(self, store: PatchStore, indices: Indices, device: torch.device) -> bool:
        """Whether they are these patches (a store's key names its content), there."""
        return self._of == (store.key, device) and np.array_equal(self._indices, indices)

    def batches(
        self,
        store: PatchStore,
        indices: Indices,
        *,
        spec: TrainSpec,
        table: NDArray[np.uint8],
        labels: LabelMap,
        seed: int,
        epoch: int,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch, as `training_batches` has it: (images_NCHW float32, targets_NHW int64), on the device.

        ValueError for other patches than these, or a policy that is not in MATRICES.
        """
        device = self._images_NHWC.device
        if not self.are_of(store, indices, device) or not moves_on_device(spec.augment):
            raise ValueError(f"these are not the patches of {store.key}, or {spec.augment} is done on the host")
        table_on_device = placed(table.astype(np.int64), device)
        scale, shift = (placed(factor, device) for factor in scale_and_shift(spec.normalize))
        for patches, keys in drawn_batches(store, indices, spec=spec, labels=labels, seed=seed, epoch=epoch):
            rows = placed(self._rows[patches], device)
            images_NCHW = self._images_NHWC[rows].permute(0, 3, 1, 2).float()
            masks_NHW = self._masks_NHW[rows]
            if (matrices := MATRICES[str(spec.augment)]) is not None:
                moves_N23 = matrices(seed, epoch, keys, *masks_NHW.shape[1:])
                images_NCHW, masks_NHW = warped_batch(images_NCHW, masks_NHW, moves_N23)
                images_NCHW.round_()  # to whole greys, as a warp of bytes on the host ends in
            images_NCHW.mul_(scale).add_(shift)
            yield images_NCHW.contiguous(memory_format=memory_layout(device)), table_on_device[masks_NHW.long()]


def fitting(
    store: PatchStore,
    indices: Indices,
    device: torch.device,
    *,
    free: Callable[[torch.device], int | None] = free_bytes,
) -> DevicePatches | None:
    """These patches on the device, or None where they would take more than SHARE of its free memory."""
    room_bytes = free(device)
    if room_bytes is None or size_bytes(store, indices) > SHARE * room_bytes:
        return None
    try:
        return DevicePatches(store, indices, device)
    except torch.OutOfMemoryError:  # somebody else took it meanwhile
        return None


def _moved(stored: NDArray[np.uint8], indices: Indices, device: torch.device) -> Tensor:
    """Rows of a memory map, piece by piece."""
    moved = torch.empty((len(indices), *stored.shape[1:]), dtype=torch.uint8, device=device)
    step = max(1, PIECE_BYTES // int(np.prod(stored.shape[1:])))
    for start in range(0, len(indices), step):
        moved[start : start + step] = placed(stored[indices[start : start + step]], device)
    return moved
