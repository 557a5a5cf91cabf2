"""ROIs cut into patches: decoded once, kept in one memory-mapped uint8 store that all trials and processes
share.

A store is a folder named by a hash of its content's origin (data hash, cutting rule, format), so a different
cut is a different folder and nothing is ever changed in place. It is built aside under a lock and renamed
when it is whole.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from io import BufferedWriter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from harness.config.labels import UNDEFINED, LabelMap
from harness.config.spec import Cut
from harness.data.cutting import Grid, cut_pixels, grid_of, positions
from harness.data.png import checked_header, read_image, read_mask
from harness.data.tiger import Roi
from harness.errors import BadInput, NoSpace, Refused
from harness.files import fingerprint, fsync_folder, read_json, size_text, write_json

# Part of every key: raise it when the same inputs would give other bytes.
STORE_VERSION = 1
INDEX = np.dtype([("roi", "<i4"), ("y", "<i4"), ("x", "<i4"), ("size_y", "<i4"), ("size_x", "<i4")])

# Fixed physical cells, so that "non-homogeneous" means the same pixels for every model: 256 px at .5 um/px.
CELL_UM = 128.0
CELL_MIN_SHARE = 0.05

Indices = NDArray[np.int64]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class StoredRoi:
    """One ROI of a store. `grid_*` is its size when it was cut: after resampling to `mpp` and enlarging."""

    name: str
    patient: str
    centre: str
    mpp: float
    height_px: int
    width_px: int
    resized: bool  # shorter than a patch, so it was enlarged to one
    grid_height_px: int
    grid_width_px: int


@dataclass(frozen=True, slots=True, eq=False)
class PatchStore:
    """Patches of a cohort, read-only and shared. Arrays are memory maps; `N` is the number of patches."""

    key: str
    cut: Cut
    rois: tuple[StoredRoi, ...]
    images_NHWC: NDArray[np.uint8]  # (N, input_px, input_px, 3) RGB
    masks_NHW: NDArray[np.uint8]  # (N, input_px, input_px) source ids
    index: NDArray[Any]  # (N,) of INDEX: roi, and y, x, size_y, size_x in pixels of the ROI's grid
    id_counts_NI: NDArray[np.uint32]  # (N, 256) pixels of each source id in each mask
    roi_masks: NDArray[np.uint8]  # every ROI's own mask, one after the other; see `roi_mask`
    roi_offsets: NDArray[np.int64]  # (len(rois) + 1,)

    def __len__(self) -> int:
        return len(self.index)

    def roi_mask(self, roi: int) -> NDArray[np.uint8]:
        """(H, W) source ids of one ROI at its own resolution."""
        facts = self.rois[roi]
        flat = self.roi_masks[self.roi_offsets[roi] : self.roi_offsets[roi + 1]]
        return flat.reshape(facts.height_px, facts.width_px)


def validation_cut(cut: Cut) -> Cut:
    """The same patches side by side, the last one moved back to the edge: every pixel is covered."""
    return cut.model_copy(update={"stride": cut.patch_px, "remainder": "shift"})


def store_key(rois: Sequence[Roi], cut: Cut, *, data_hash: str) -> str:
    """The name of the store's folder."""
    return _key([roi.name for roi in rois], cut, data_hash)


def is_store_of(folder: Path, data_hash: str, cut: Cut) -> bool:
    """Whether a store's folder holds ROIs of these data, cut this way; not so when it cannot be read."""
    try:
        names = [roi["name"] for roi in read_json(folder / "store.json")["rois"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return _key(names, cut, data_hash) == folder.name


def _key(names: Sequence[str], cut: Cut, data_hash: str) -> str:
    origin = {"data": data_hash, "rois": names, "cut": cut.model_dump(mode="json"), "version": STORE_VERSION}
    return fingerprint(origin)[:24]


def open_store(
    stores: Path, rois: Sequence[Roi], cut: Cut, *, data_hash: str, on_progress: OnProgress | None = None
) -> PatchStore:
    """The store of these ROIs and this cut, built first if no process has yet; read-only.

    Memory is bounded by one decoded ROI. `on_progress(done, total)` counts ROIs while building.
    Raises BadInput without ROIs or for a file that cannot be read, Refused when the disk is too small.
    """
    if not rois:
        raise BadInput("data: no usable region is left to cut into patches")
    key = store_key(rois, cut, data_hash=data_hash)
    folder = stores / key
    store = _opened(folder, key, cut)
    if store is not None:
        return store
    stores.mkdir(parents=True, exist_ok=True)
    with FileLock(stores / f"{key}.lock"):
        store = _opened(folder, key, cut)  # another process may have built it while this one waited
        if store is None:
            _build_aside(folder, rois, cut, on_progress)
            store = _opened(folder, key, cut)
    if store is None:
        raise Refused(f"{folder}: was just written and cannot be read back; is its disk failing?")
    return store


def store_bytes(sizes: Sequence[tuple[int, int, float]], cut: Cut) -> tuple[int, int]:
    """(patches, bytes) of a store of ROIs of these (height_px, width_px, mpp), without reading a pixel."""
    grids = [grid_of(height, width, mpp, cut) for height, width, mpp in sizes]
    patches = sum(len(positions(grid, cut)) for grid in grids)
    per_patch = 4 * cut.input_px**2 + INDEX.itemsize + 4 * 256
    return patches, patches * per_patch + sum(height * width for height, width, _ in sizes)


def patches_of(store: PatchStore, patients: Collection[str]) -> Indices:
    """Indices of the patches of these patients, in store order."""
    wanted = set(patients)
    of_roi = np.array([roi.patient in wanted for roi in store.rois], dtype=bool)
    return np.flatnonzero(of_roi[store.index["roi"]])


def class_counts(store: PatchStore, indices: Indices, labels: LabelMap) -> NDArray[np.int64]:
    """(n, K) defined pixels per patch and class 1..K, at the size the network sees."""
    return counts_by_class(store.id_counts_NI, labels)[indices]


def counts_by_class(id_counts_NI: NDArray[np.uint32], labels: LabelMap) -> NDArray[np.int64]:
    """(N, 256) pixels per source id -> (N, K) pixels per class 1..K."""
    # Columns first: all 256 of a large store would be hundreds of MB.
    of_class = (id_counts_NI[:, list(ids)].sum(axis=1, dtype=np.int64) for ids in labels.classes.values())
    return np.stack(list(of_class), axis=1)


def non_homogeneous(store: PatchStore, indices: Indices, labels: LabelMap, min_share: float) -> Indices:
    """Those with at least two classes, the second with at least `min_share` of the defined pixels."""
    keep = are_mixed(class_counts(store, indices, labels), min_share)
    return np.asarray(indices[keep], dtype=np.int64)


def are_mixed(counts_NK: NDArray[np.int64], min_share: float) -> NDArray[np.bool_]:
    """(N,) whether a patch of these defined pixels per class is non-homogeneous."""
    if counts_NK.shape[1] < 2:
        return np.zeros(len(counts_NK), dtype=bool)
    second = np.sort(counts_NK, axis=1)[:, -2]
    return np.asarray((second > 0) & (second >= min_share * counts_NK.sum(axis=1)))


def non_homogeneous_cells(mask_HW: NDArray[np.uint8], mpp: float) -> NDArray[np.bool_]:
    """(H, W) pixels that lie in non-homogeneous cells of a fixed grid: 256 px at .5 um/px, from the top left.

    Edge cells are judged as they are cut. Judged on source ids, 0 left out: a second id has at least 5 % of
    the defined pixels. So it depends on no label map and no patch size.
    """
    height, width = mask_HW.shape
    inside = np.zeros((height, width), dtype=bool)
    rows, columns = _cell_edges(height, mpp), _cell_edges(width, mpp)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            counts = np.bincount(mask_HW[top:bottom, left:right].ravel(), minlength=256)
            counts[UNDEFINED] = 0
            second = int(np.partition(counts, -2)[-2])
            inside[top:bottom, left:right] = second > 0 and second >= CELL_MIN_SHARE * counts.sum()
    return inside


def _cell_edges(length_px: int, mpp: float) -> list[int]:
    side_px = max(CELL_UM / mpp, 1.0)
    inner = [round(k * side_px) for k in range(int(length_px / side_px) + 1)]
    return [*(edge for edge in inner if edge < length_px), length_px]


def _opened(folder: Path, key: str, cut: Cut) -> PatchStore | None:
    """The store, or None when it is absent or not whole (a file lost later: it is built again)."""
    try:
        facts = read_json(folder / "store.json")
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        rois = tuple(StoredRoi(**roi) for roi in facts["rois"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    offsets = np.cumsum([0, *(roi.height_px * roi.width_px for roi in rois)], dtype=np.int64)
    return PatchStore(key=key, cut=cut, rois=rois, roi_offsets=offsets, **arrays)


_ARRAYS = ("images_NHWC", "masks_NHW", "index", "id_counts_NI", "roi_masks")


def _build_aside(folder: Path, rois: Sequence[Roi], cut: Cut, on_progress: OnProgress | None) -> None:
    """Write the store aside and rename it. The caller holds the lock, so older leftovers are dead."""
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # a key is hexadecimal: safe in a pattern
        shutil.rmtree(leftover, ignore_errors=True)
    headers = [checked_header(roi.mask, mask=True) for roi in rois]
    sizes = [(header.height_px, header.width_px) for header in headers]
    patches, size_bytes = store_bytes([(*size, roi.mpp) for size, roi in zip(sizes, rois, strict=True)], cut)
    free_bytes = shutil.disk_usage(folder.parent).free
    if size_bytes > free_bytes:
        need = f"the patches need {size_text(size_bytes)} and {size_text(free_bytes)} are free"
        raise NoSpace(f"{folder.parent}: {need}; free some, or choose another --home")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    aside.mkdir()
    try:
        _write_store(aside, rois, sizes, patches, cut, on_progress)
        shutil.rmtree(folder, ignore_errors=True)  # not whole, or it would have been opened
        aside.rename(folder)
        fsync_folder(folder.parent)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise NoSpace(f"{folder.parent}: the disk is full ({size_text(size_bytes)} are needed)") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_store(
    aside: Path, rois: Sequence[Roi], sizes: Sequence[tuple[int, int]], patches: int, cut: Cut,
    on_progress: OnProgress | None,
) -> None:  # fmt: skip
    """Append ROI by ROI. Plain writes, no writable map: there a full disk kills the process (SIGBUS)."""
    side = cut.input_px
    shapes = {
        "images_NHWC": ((patches, side, side, 3), np.dtype(np.uint8)),
        "masks_NHW": ((patches, side, side), np.dtype(np.uint8)),
        "index": ((patches,), INDEX),
        "id_counts_NI": ((patches, 256), np.dtype(np.uint32)),
        "roi_masks": ((sum(height * width for height, width in sizes),), np.dtype(np.uint8)),
    }
    stored: list[StoredRoi] = []
    streams = {name: (aside / f"{name}.npy").open("wb") for name in _ARRAYS}
    try:
        for name, (shape, dtype) in shapes.items():
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(streams[name], header)
        for number, roi in enumerate(rois):
            stored.append(_append_roi(streams, number, roi, cut))
            if on_progress:
                on_progress(number + 1, len(rois))
        for stream in streams.values():
            stream.flush()
            os.fsync(stream.fileno())
    finally:
        for stream in streams.values():
            stream.close()
    write_json(aside / "store.json", {"version": STORE_VERSION, "cut": cut.model_dump(mode="json"),
                                      "rois": [asdict(roi) for roi in stored]})  # fmt: skip


def _append_roi(streams: dict[str, BufferedWriter], number: int, roi: Roi, cut: Cut) -> StoredRoi:
    mask_HW, _ = read_mask(roi.mask)
    image_HWC, _ = read_image(roi.image)
    if image_HWC.shape[:2] != mask_HW.shape:
        raise BadInput(f"{roi.mask}: its size is not its image's; run `harness data check`")
    height, width = mask_HW.shape
    grid = grid_of(height, width, roi.mpp, cut)
    streams["roi_masks"].write(mask_HW.tobytes())
    for y, x, image, mask in cut_pixels(image_HWC, mask_HW, grid, cut):
        streams["images_NHWC"].write(image.tobytes())
        streams["masks_NHW"].write(mask.tobytes())
        streams["index"].write(np.array([(number, y, x, cut.patch_px, cut.patch_px)], INDEX).tobytes())
        streams["id_counts_NI"].write(np.bincount(mask.ravel(), minlength=256).astype(np.uint32).tobytes())
    return _stored(roi, height, width, grid)


def _stored(roi: Roi, height_px: int, width_px: int, grid: Grid) -> StoredRoi:
    return StoredRoi(
        name=roi.name, patient=roi.patient, centre=roi.centre, mpp=roi.mpp,
        height_px=height_px, width_px=width_px,
        resized=grid.resized, grid_height_px=grid.height_px, grid_width_px=grid.width_px,
    )  # fmt: skip
