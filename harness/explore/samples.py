"""ROIs with their labels, and patches as training will see them: picked and drawn the same way every time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.imported import ImportedPart
from harness.config.knobs import label_of
from harness.config.labels import UNDEFINED, LabelMap
from harness.data.augment import build_augment
from harness.data.cutting import cut_pixels, grid_of, resized_image, resized_mask
from harness.data.patches import counts_by_class
from harness.data.png import read_image, read_mask
from harness.data.stats import CohortCounts
from harness.data.tiger import Roi
from harness.drawing import INK, Classes, Rgb, as_picture, canvas, class_marks, coloured, drawn, scale_bar, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROIS = 6
SIDE_PX = 360  # longer sides of a ROI are shrunk to this before they are drawn
SHOWN_SHARE = 0.08  # a class with less of a ROI's defined pixels is hardly to be seen in it
VERSIONS = 5
THIRD_IN = 2.1  # width of one picture of a labelled ROI
OVERLAY = 0.45  # weight of the class colour over the image


@dataclass(frozen=True, slots=True, eq=False)
class LabelledRoi:
    """One ROI, small enough to draw."""

    roi: Roi
    width_px: int  # before it was shrunk
    image_HWC: Rgb
    classes_HW: Classes  # 0 undefined, 1..K


@dataclass(frozen=True, slots=True, eq=False)
class AugmentedPatch:
    """One patch and what a policy makes of it in the first epochs; the first version is the patch as it is."""

    index: int  # in the patch store of these ROIs: the key of its augmentation
    roi: Roi
    um_per_px: float
    versions: tuple[tuple[Rgb, Classes], ...]


def labelled_png(counts: CohortCounts, labels: LabelMap, *, number: int = ROIS) -> bytes:
    """ROIs that show every class."""
    chosen = [counts.rois[place] for place in chosen_rois(counts, labels, number=number)]
    return drawn(labelled_samples_figure(labelled_rois(chosen, labels), labels))


def augmented_png(
    counts: CohortCounts, labels: LabelMap, policy: str | ImportedPart, *, seed: int, patients: frozenset[str] | None
) -> bytes:
    """Mixed patches of these patients (None: of all) and what the policy makes of them."""
    samples = augmented_patches(counts, labels, policy, seed=seed, patients=patients)
    return drawn(augmented_samples_figure(samples, labels, policy, seed=seed))


def chosen_rois(counts: CohortCounts, labels: LabelMap, *, number: int) -> list[int]:
    """Places of up to `number` ROIs that show every class: rarest class first, a mixed ROI for it; then others.

    Patients are not repeated while others are left. The same cohort gives the same choice.
    """
    pixels_RK = counts_by_class(counts.id_counts_RI, labels).astype(np.float64)
    share_RK = pixels_RK / np.maximum(pixels_RK.sum(axis=1, keepdims=True), 1)
    entropy_R = _entropy(share_RK)
    number = min(number, len(counts.rois))
    chosen: list[int] = []

    def pick(candidates: Iterable[int]) -> int:
        """The most mixed of them, of a new patient if there is one; of equal ones the first."""
        shown = {counts.rois[place].patient for place in chosen}
        return max(candidates, key=lambda place: (counts.rois[place].patient not in shown, entropy_R[place]))

    for k in np.argsort(pixels_RK.sum(axis=0), kind="stable"):
        # However little there is of a class anywhere, it is shown where most of it is.
        enough = min(SHOWN_SHARE, share_RK[:, k].max(initial=0.0))
        is_seen = enough == 0 or share_RK[chosen, k].max(initial=0.0) >= enough
        if not is_seen and len(chosen) < number:
            chosen.append(pick(np.flatnonzero(share_RK[:, k] >= enough).tolist()))
    while len(chosen) < number:
        chosen.append(pick(place for place in range(len(counts.rois)) if place not in chosen))
    return sorted(chosen)


def labelled_rois(rois: Sequence[Roi], labels: LabelMap) -> list[LabelledRoi]:
    """Those ROIs, read and shrunk one by one."""
    table = class_table_of(labels)
    found = []
    for roi in rois:
        image_HWC, _ = read_image(roi.image)
        mask_HW, _ = read_mask(roi.mask)
        height, width = mask_HW.shape
        shrink = min(1.0, SIDE_PX / max(height, width))
        size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        classes_HW = table[resized_mask(mask_HW, *size)]
        found.append(LabelledRoi(roi, width, resized_image(image_HWC, *size), classes_HW))
    return found


def augmented_patches(
    counts: CohortCounts,
    labels: LabelMap,
    policy: str | ImportedPart,
    *,
    seed: int,
    patients: frozenset[str] | None = None,
    number: int = 4,
) -> list[AugmentedPatch]:
    """The `number` most mixed patches (of these patients), each of another ROI, and their first VERSIONS epochs.

    Version e is what epoch e of a trial with this seed trains on, for its key is (seed, epoch, index).
    """
    augment, table = build_augment(policy, undefined_target=UNDEFINED), class_table_of(labels)
    found = []
    for index in mixed_patches(counts, labels, patients=patients, number=number):
        roi = counts.rois[counts.roi_N[index]]
        image_HWC, mask_HW = patch(counts, index)
        target_HW = table[mask_HW]
        versions = [(image_HWC, target_HW)]
        for epoch in range(1, VERSIONS + 1):
            versions.append(augment(image_HWC, target_HW, seed=seed, epoch=epoch, index=index))
        um_per_px = (counts.cut.mpp or roi.mpp) * counts.cut.patch_px / counts.cut.input_px
        found.append(AugmentedPatch(index, roi, um_per_px, tuple(versions)))
    return found


def mixed_patches(counts: CohortCounts, labels: LabelMap, *, patients: frozenset[str] | None, number: int) -> list[int]:
    """Indices of the patches whose classes are most even, the best of each ROI; ties go to the first."""
    pixels_NK = counts_by_class(counts.id_counts_NI, labels).astype(np.float64)
    entropy_N = _entropy(pixels_NK / counts.cut.input_px**2)  # of all pixels: undefined ones show nothing
    best: dict[int, int] = {}
    for index in np.argsort(-entropy_N, kind="stable").tolist():
        place = int(counts.roi_N[index])
        if place not in best and (patients is None or counts.rois[place].patient in patients):
            best[place] = index
    return list(best.values())[:number]


def patch(counts: CohortCounts, index: int) -> tuple[Rgb, NDArray[np.uint8]]:
    """Image and mask of source ids of one patch, cut from its ROI as a patch store would hold them."""
    place = int(counts.roi_N[index])
    roi = counts.rois[place]
    image_HWC, _ = read_image(roi.image)
    mask_HW, _ = read_mask(roi.mask)
    first = int(np.searchsorted(counts.roi_N, place))
    grid = grid_of(mask_HW.shape[0], mask_HW.shape[1], roi.mpp, counts.cut)
    cuts = cut_pixels(image_HWC, mask_HW, grid, counts.cut)
    _, _, image, mask = next(found for number, found in enumerate(cuts, start=first) if number == index)
    return image, mask


def class_table_of(labels: LabelMap) -> NDArray[np.uint8]:
    """(256,) `table[mask]` are classes 1..K; undefined, ignored and unknown ids are 0."""
    return np.array([labels.class_of(source_id) or 0 for source_id in range(256)], np.uint8)


def overlay(image_HWC: Rgb, classes_HW: Classes, names: Sequence[str]) -> Rgb:
    """The image tinted by class, with the borders of the classes; undefined pixels stay as they are."""
    tinted = cv2.addWeighted(coloured(classes_HW, names), OVERLAY, image_HWC, 1 - OVERLAY, 0)
    return np.where((classes_HW == 0)[..., None], image_HWC, np.asarray(tinted, np.uint8))


def _entropy(share_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) how evenly the classes share."""
    return np.asarray(-(share_NK * np.log(np.maximum(share_NK, 1e-12))).sum(axis=1))


def _aspect(sample: LabelledRoi) -> float:
    """Height over width, within what a row of pictures can bear."""
    height, width = sample.classes_HW.shape
    return float(np.clip(height / width, 0.3, 2.0))


def labelled_samples_figure(samples: Sequence[LabelledRoi], labels: LabelMap) -> Figure:
    """Image, labels and overlay of every ROI, two ROIs in a row."""
    names = labels.class_names
    # Flat ones side by side, tall ones side by side: little white between the rows.
    ordered = sorted(samples, key=lambda sample: (_aspect(sample), sample.roi.name))
    heights = [THIRD_IN * _aspect(ordered[min(place + 1, len(ordered) - 1)]) for place in range(0, len(ordered), 2)]
    figure = canvas(6 * THIRD_IN + 0.7, sum(heights) + 0.35 * len(heights) + 1.2)
    axes = figure.subplots(max(len(heights), 1), 6, squeeze=False, height_ratios=heights or None)
    for ax in axes.flat:
        ax.set_visible(False)
    for place, sample in enumerate(ordered):
        line = axes[place // 2][3 * (place % 2) : 3 * (place % 2) + 3]
        tinted = overlay(sample.image_HWC, sample.classes_HW, names)
        for ax, picture in zip(line, (sample.image_HWC, coloured(sample.classes_HW, names), tinted), strict=True):
            ax.set_visible(True)
            as_picture(ax)
            ax.imshow(picture)
            ax.set_anchor("N")
        scale_bar(line[0], width_px=sample.width_px, um_per_px=sample.roi.mpp)
        line[1].set_xlabel(shortened(sample.roi.slide), fontsize=7.5, color="#666666", labelpad=3)
    for ax, title in zip(axes[0], ("image", "labels", "overlay") * 2, strict=True):
        ax.set_title(title, fontsize=10, color=INK)
    figure.legend(handles=class_marks(names), loc="outside lower center", ncols=8, fontsize=8.5, frameon=False)
    figure.suptitle(f"Labelled ROIs, {labels.name}", fontsize=11, x=0.01, ha="left")
    return figure


def augmented_samples_figure(
    samples: Sequence[AugmentedPatch], labels: LabelMap, policy: str | ImportedPart, *, seed: int
) -> Figure:
    """Per patch a row of images over a row of their masks: as it is, then augmented."""
    names, columns = labels.class_names, VERSIONS + 1
    figure = canvas(1.5 * columns + 0.6, 3.0 * max(len(samples), 1) + 1.0)
    axes = figure.subplots(2 * max(len(samples), 1), columns, squeeze=False)
    for ax in axes.flat:
        as_picture(ax)
    for place, sample in enumerate(samples):
        for column, (image_HWC, target_HW) in enumerate(sample.versions):
            axes[2 * place][column].imshow(image_HWC)
            axes[2 * place + 1][column].imshow(coloured(target_HW, names))
        scale_bar(axes[2 * place][0], width_px=sample.versions[0][0].shape[1], um_per_px=sample.um_per_px)
        axes[2 * place][0].set_ylabel(f"patch {sample.index}", fontsize=8.5)
    for column, ax in enumerate(axes[0]):
        ax.set_title("as it is" if column == 0 else f"epoch {column}", fontsize=10)
    figure.legend(handles=class_marks(names), loc="outside lower center", ncols=4, fontsize=8.5, frameon=False)
    figure.suptitle(f"Augmentation: {label_of(policy)}, seed {seed}", fontsize=11, x=0.01, ha="left")
    return figure
