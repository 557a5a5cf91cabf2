"""One store, built once, read by all."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.labels import BUILTIN, LabelMap
from harness.config.spec import Cut
from harness.data.cohort import read_cohort
from harness.data.cutting import resized_mask
from harness.data.patches import (
    PatchStore,
    class_counts,
    non_homogeneous,
    non_homogeneous_cells,
    open_store,
    patches_of,
    store_bytes,
)
from harness.data.png import read_image, read_mask
from harness.data.tiger import Roi
from harness.errors import BadInput, Refused

CUT = Cut(patch_px=32, input_px=32, stride=32)
LABELS = BUILTIN["tiger7"]


def striped(height: int, width: int, *ids: int) -> np.ndarray:
    """Vertical stripes of equal width."""
    return np.array(ids, np.uint8)[np.arange(width) * len(ids) // width][None].repeat(height, 0)


@pytest.fixture
def rois(cohort) -> Sequence[Roi]:
    """Two patients in both folders; the second region is shorter than a patch."""
    cohort.add("TCGA-A2-A0D2-DX1_[0, 0, 70, 64]", striped(64, 70, 1, 2), seed=1)
    cohort.add("TCGA-A2-A0D2-DX1_[9, 9, 20, 24]", striped(24, 20, 0, 3), folder="tissue-cells", seed=2)
    cohort.add("100B_[0, 0, 32, 64]", striped(64, 32, 7), folder="tissue-cells", seed=3)
    return read_cohort(cohort.root)


@pytest.fixture
def store(rois: Sequence[Roi], tmp_path: Path) -> PatchStore:
    """All regions in patches of 32 px."""
    return open_store(tmp_path / "stores", rois, CUT, data_hash="abc")


def test_patches_hold_the_pixels_of_their_place_in_their_roi(store: PatchStore, rois: Sequence[Roi]) -> None:
    """Index, image and mask agree, for every patch of a region that needed no resizing."""
    sizes = np.bincount(store.index["roi"], minlength=3)
    assert sizes.tolist() == [6, 2, 1]  # 64 x 70 -> 2 x 3 (the last shifted), 64 x 32 -> 2, 24 x 20 -> 1
    for number, row in enumerate(store.index):
        roi = int(row["roi"])
        if not store.rois[roi].resized:
            window = np.s_[row["y"] : row["y"] + row["size_y"], row["x"] : row["x"] + row["size_x"]]
            assert np.array_equal(store.images_NHWC[number], read_image(rois[roi].image)[0][window])
            assert np.array_equal(store.masks_NHW[number], read_mask(rois[roi].mask)[0][window])


def test_a_roi_shorter_than_a_patch_is_enlarged_and_marked(store: PatchStore) -> None:
    """24 x 20 becomes 32 x 32; its own mask is kept at its own size."""
    tiny = store.rois[2]
    assert (tiny.resized, tiny.height_px, tiny.width_px) == (True, 24, 20)
    assert (tiny.grid_height_px, tiny.grid_width_px) == (32, 32)
    assert np.array_equal(store.masks_NHW[8], resized_mask(striped(24, 20, 0, 3), 32, 32))
    assert [roi.resized for roi in store.rois] == [False, False, True]


def test_every_roi_mask_is_kept_at_its_own_resolution(store: PatchStore, rois: Sequence[Roi]) -> None:
    """Scores are counted there, whatever the patch size."""
    for number, roi in enumerate(rois):
        assert np.array_equal(store.roi_mask(number), read_mask(roi.mask)[0])


def test_input_px_resizes_patches_and_not_the_index(rois: Sequence[Roi], tmp_path: Path) -> None:
    """The index speaks of the region's grid, the arrays of what the network sees."""
    store = open_store(tmp_path, rois, CUT.model_copy(update={"input_px": 16}), data_hash="abc")
    assert store.images_NHWC.shape == (9, 16, 16, 3)
    assert store.masks_NHW.shape == (9, 16, 16)
    assert set(store.index["size_y"]) == {32}
    assert store.index["x"].max() == 70 - 32


def test_the_store_is_read_only(store: PatchStore) -> None:
    """A trial cannot change what the next one sees."""
    with pytest.raises(ValueError, match="read-only"):
        store.masks_NHW[0, 0, 0] = 1


def test_opening_again_decodes_nothing(rois: Sequence[Roi], tmp_path: Path, store: PatchStore) -> None:
    """Even without the images on disk, equal bytes come back."""
    for roi in rois:
        roi.image.unlink()
    again = open_store(tmp_path / "stores", rois, CUT, data_hash="abc")
    assert again.key == store.key
    assert np.array_equal(again.images_NHWC, store.images_NHWC)


def test_other_data_or_another_cut_is_another_store(rois: Sequence[Roi], tmp_path: Path, store: PatchStore) -> None:
    """Nothing is ever changed in place."""
    stores = tmp_path / "stores"
    keys = {
        store.key,
        open_store(stores, rois, CUT, data_hash="other").key,
        open_store(stores, rois, CUT.model_copy(update={"stride": 16}), data_hash="abc").key,
        open_store(stores, rois[:2], CUT, data_hash="abc").key,
    }
    assert len(keys) == 4


def test_a_store_that_lost_a_file_is_built_again(rois: Sequence[Roi], tmp_path: Path, store: PatchStore) -> None:
    """Someone made room by hand."""
    expected = np.array(store.images_NHWC)
    (tmp_path / "stores" / store.key / "images_NHWC.npy").unlink()
    again = open_store(tmp_path / "stores", rois, CUT, data_hash="abc")
    assert np.array_equal(again.images_NHWC, expected)


def test_leftovers_of_a_killed_build_are_removed(rois: Sequence[Roi], tmp_path: Path, store: PatchStore) -> None:
    """They may be many GB, and their process number may come again."""
    stores = tmp_path / "fresh"
    leftover = stores / f".{store.key}.12345"
    leftover.mkdir(parents=True)
    (leftover / "images_NHWC.npy").write_bytes(b"half")
    open_store(stores, rois, CUT, data_hash="abc")
    assert sorted(path.name for path in stores.iterdir()) == sorted([store.key, f"{store.key}.lock"])


def test_a_damaged_region_stops_the_build_and_leaves_nothing(rois: Sequence[Roi], tmp_path: Path) -> None:
    """The file is named; no half store is ever opened."""
    rois[1].image.write_bytes(rois[1].image.read_bytes()[:-20])
    with pytest.raises(BadInput, match="truncated") as caught:
        open_store(tmp_path / "stores", rois, CUT, data_hash="abc")
    assert str(rois[1].image) in str(caught.value)
    assert [path.suffix for path in (tmp_path / "stores").iterdir()] == [".lock"]


def test_a_store_larger_than_the_disk_is_refused_before_it_is_begun(rois: Sequence[Roi], tmp_path: Path) -> None:
    """8192 px patches at a resolution that makes 20 million of them."""
    cut = Cut(patch_px=16, input_px=8192, stride=8)
    with pytest.raises(Refused, match="GB are free"):
        open_store(tmp_path / "stores", rois, cut.model_copy(update={"mpp": 0.06}), data_hash="abc")


def test_no_region_at_all_is_bad_input(tmp_path: Path) -> None:
    """After a quarantine, say."""
    with pytest.raises(BadInput, match="no usable region"):
        open_store(tmp_path, [], CUT, data_hash="abc")


def test_the_size_of_a_store_is_known_before_it_is_built(store: PatchStore, tmp_path: Path) -> None:
    """Within the few hundred bytes of headers and the JSON beside."""
    patches, size = store_bytes([(64, 70, 0.5), (64, 32, 0.5), (24, 20, 0.5)], CUT)
    arrays = sum(path.stat().st_size for path in (tmp_path / "stores" / store.key).glob("*.npy"))
    assert patches == len(store) == 9
    assert 0 < arrays - size < 5 * 200


def _open_in_process(stores: Path, rois: Sequence[Roi], built: Any) -> None:
    store = open_store(stores, rois, CUT, data_hash="abc", on_progress=lambda done, _: built.put(done))
    assert len(store) == 9


def test_processes_that_start_together_build_it_once(rois: Sequence[Roi], tmp_path: Path) -> None:
    """Three open it at the same moment; three regions are decoded in all."""
    context = multiprocessing.get_context("spawn")
    built = context.Queue()
    arguments = (tmp_path / "stores", rois, built)
    processes = [context.Process(target=_open_in_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(built.get(timeout=5) for _ in range(3)) == [1, 2, 3]
    assert built.empty()


def test_patches_of_a_patient_come_from_both_folders(store: PatchStore) -> None:
    """Regions are sorted by name: tissue-bcss first."""
    assert patches_of(store, ["TCGA-A2-A0D2"]).tolist() == [0, 1, 2, 3, 4, 5, 8]
    assert patches_of(store, ["100"]).tolist() == [6, 7]
    assert patches_of(store, []).tolist() == []


def test_class_counts_are_pixels_of_each_class(store: PatchStore) -> None:
    """First row of the striped region: 32 px of 1; 3 of 1 and 29 of 2; 32 of 2 (columns 38 to 69)."""
    counts = class_counts(store, np.array([0, 1, 2]), LABELS)
    assert counts[:, :2].tolist() == [[32 * 32, 0], [3 * 32, 29 * 32], [0, 32 * 32]]
    merged = class_counts(store, np.array([1]), LabelMap(name="one", classes={"all": (1, 2)}))
    assert merged.tolist() == [[1024]]


def test_the_filter_keeps_patches_whose_second_class_has_its_share(store: PatchStore) -> None:
    """Patch 1 has 3 of 32 columns of class 1: 9.4 % of the defined pixels."""
    everything = np.arange(9)
    assert non_homogeneous(store, everything, LABELS, 0.05).tolist() == [1, 4]
    assert non_homogeneous(store, everything, LABELS, 0.10).tolist() == []


def test_undefined_is_not_a_second_class(store: PatchStore) -> None:
    """The tiny region is half 0, half 3: one defined class."""
    assert store.masks_NHW[8].min() == 0
    assert 8 not in non_homogeneous(store, np.arange(9), LABELS, 0.0)


def test_the_filter_judges_after_the_label_map(store: PatchStore) -> None:
    """Merging 1 and 2 leaves nothing to tell apart."""
    merged = LabelMap(name="x", classes={"tissue": (1, 2), "other": (3, 4, 5, 6, 7)})
    assert non_homogeneous(store, np.arange(9), merged, 0.05).tolist() == []


def test_cells_are_256_px_at_half_a_micrometer_and_cut_at_the_edge() -> None:
    """300 x 600: only the second cell of the first row holds two ids; the cut ones hold one."""
    mask = np.ones((300, 600), np.uint8)
    mask[:200, 300:350] = 2
    inside = non_homogeneous_cells(mask, 0.5)
    expected = np.zeros((300, 600), bool)
    expected[:256, 256:512] = True
    assert np.array_equal(inside, expected)


def test_cells_keep_their_physical_size_at_another_resolution() -> None:
    """At 1 um/px a cell is 128 px."""
    mask = np.ones((128, 256), np.uint8)
    mask[:, 64:96] = 2
    assert non_homogeneous_cells(mask, 1.0).sum() == 128 * 128
    assert non_homogeneous_cells(mask, 0.5).all()


@pytest.mark.parametrize(("pixels", "expected"), [(5, True), (4, False)])
def test_a_second_id_needs_five_percent_of_the_defined_pixels(pixels: int, expected: bool) -> None:
    """100 defined pixels in a sea of undefined: 0 is neither an id nor in the share."""
    mask = np.zeros((256, 256), np.uint8)
    mask[0, :100] = 3
    mask[0, :pixels] = 6
    assert non_homogeneous_cells(mask, 0.5).all() == expected


def test_cells_do_not_know_label_maps() -> None:
    """1 and 3 are one class for UNICORN and still two ids here, so that matrices fold."""
    assert non_homogeneous_cells(striped(64, 64, 1, 3), 0.5).all()


def test_real_regions_fill_a_store(real_data: Path, tmp_path: Path) -> None:
    """All 6 356 992 pixels of three regions, side lengths multiples of 256."""
    store = open_store(tmp_path, read_cohort(real_data), Cut(patch_px=256, input_px=256, stride=256), data_hash="r")
    assert len(store) == 6_356_992 // 256**2
    assert int(store.id_counts_NI.sum()) == 6_356_992
    assert np.flatnonzero(store.id_counts_NI.sum(axis=0)).tolist() == [1, 7]
