"""What is picked to be shown, and that it is what training sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.config.labels import LabelMap
from harness.config.spec import Cut, TrainSpec
from harness.data.augment import build_augment
from harness.data.batches import training_batches
from harness.data.cohort import read_cohort
from harness.data.patches import open_store
from harness.data.stats import count_cohort
from harness.data.targets import target_table
from harness.explore.samples import (
    augmented_patches,
    chosen_rois,
    class_table_of,
    labelled_rois,
    overlay,
    patch,
)
from tests.toy import LABELS, write_cohort, write_roi

CUT = Cut(patch_px=32, input_px=32, stride=32)


def test_shown_rois_hold_every_class_and_then_other_patients(tmp_path: Path) -> None:
    """The one ROI with class 3 is among two; a second ROI of a patient comes after those of others."""
    plain, rare = np.ones((32, 64), np.uint8), np.ones((32, 64), np.uint8)
    plain[:, :20], rare[:, :6] = 2, 3
    speck = plain.copy()
    speck[0, 0] = 6
    for patient, mask in (("TCGA-A2-A0A1", plain), ("TCGA-A2-A0B1", speck), ("TCGA-A2-A0C1", rare)):
        write_roi(tmp_path, patient, mask)
    write_roi(tmp_path, "TCGA-A2-A0C1", plain[:, :60], folder="tissue-cells")
    counts = count_cohort(read_cohort(tmp_path), CUT)
    labels = LabelMap(name="three", classes={"a": (1,), "b": (2,), "c": (3,)})
    patients = [[counts.rois[place].patient for place in chosen_rois(counts, labels, number=n)] for n in (2, 3, 9)]
    assert patients[0] == ["TCGA-A2-A0A1", "TCGA-A2-A0C1"]
    assert patients[1] == ["TCGA-A2-A0A1", "TCGA-A2-A0B1", "TCGA-A2-A0C1"]
    assert len(patients[2]) == 4
    (place,) = chosen_rois(counts, LabelMap(name="two", classes={"a": (1, 2, 3), "speck": (6,)}), number=1)
    assert counts.rois[place].patient == "TCGA-A2-A0B1"  # however little of a class there is, it is where it is


def test_an_augmented_patch_is_what_training_sees_in_that_epoch(tmp_path: Path) -> None:
    """Image by image and mask by mask, from a store of the same ROIs, keyed by (seed, epoch, index)."""
    rois = read_cohort(write_cohort(tmp_path / "data"))
    counts = count_cohort(rois, CUT)
    store = open_store(tmp_path / "stores", rois, CUT, data_hash="x")
    shown = augmented_patches(counts, LABELS, "histology", seed=5, number=3)
    assert len({sample.roi.name for sample in shown}) == 3
    augment = build_augment("histology", undefined_target=255)
    for sample in shown:
        assert np.array_equal(sample.versions[0][0], store.images_NHWC[sample.index])
        for epoch in (1, 4):
            image, target = augment(
                store.images_NHWC[sample.index], target_table(LABELS, "ignore")[store.masks_NHW[sample.index]],
                seed=5, epoch=epoch, index=sample.index,
            )  # fmt: skip
            assert np.array_equal(sample.versions[epoch][0], image)
            assert np.array_equal(sample.versions[epoch][1], np.where(target == 255, 0, target + 1))
    batches = training_batches(
        store, np.array([shown[0].index, shown[1].index]), spec=TrainSpec(augment="histology", batch_size=1),
        table=target_table(LABELS, "ignore"), labels=LABELS, seed=5, epoch=1,
    )  # fmt: skip
    trained = {images_NCHW.tobytes() for images_NCHW, _ in batches}
    first = shown[0].versions[1][0].transpose(2, 0, 1)[None].astype(np.float32) * np.float32(1 / 255)
    assert first.tobytes() in trained


def test_patches_of_other_patients_are_not_shown(tmp_path: Path) -> None:
    """Only the training role's, when it is given."""
    counts = count_cohort(read_cohort(write_cohort(tmp_path)), CUT)
    chosen = frozenset(list(counts.presence)[:2])
    shown = augmented_patches(counts, LABELS, "none", seed=1, patients=chosen)
    assert {sample.roi.patient for sample in shown} == chosen
    image, mask = patch(counts, shown[0].index)
    assert all(np.array_equal(image, version) for version, _ in shown[0].versions)
    assert np.array_equal(shown[0].versions[0][1], class_table_of(LABELS)[mask])


def test_an_overlay_tints_classes_and_leaves_undefined_pixels(tmp_path: Path) -> None:
    """55 % image and 45 % class colour (213, 94, 0 for tumor); a large ROI is shrunk, its mask by nearest pixel."""
    image, classes = np.full((1, 2, 3), 100, np.uint8), np.array([[0, 1]], np.uint8)
    assert overlay(image, classes, ["tumor"]).tolist() == [[[100, 100, 100], [151, 97, 55]]]
    write_roi(tmp_path, "TCGA-A2-A0A1", np.kron(np.array([[1, 2], [0, 4]], np.uint8), np.ones((360, 360), np.uint8)))
    (small,) = labelled_rois(read_cohort(tmp_path), LABELS)
    assert (small.width_px, small.image_HWC.shape, small.classes_HW.shape) == (720, (360, 360, 3), (360, 360))
    assert np.array_equal(small.classes_HW[::180, ::180], [[1, 2], [0, 0]])
