"""The pictures of a row: those of a trial that need no network."""

from __future__ import annotations

from collections.abc import Sequence

from harness import scores
from harness.data.png import read_image, read_mask
from harness.drawing import drawn
from harness.files import write_bytes, write_json
from harness.regions import Chosen, Judged, chosen_rois, classes_of, fixed_rois
from harness.scoring.regions import Regions
from harness.trial.figures import confusion, confusion_figure
from harness.trial.folder import TrialFolder
from harness.trial.gallery import GalleryRow, gallery_figure, gallery_row


def write_pictures(
    row: TrialFolder, rois: Sequence[scores.RoiMatrices], scheme: scores.Scheme, regions: Regions
) -> None:
    """Confusion matrices and galleries of a row whose predictions are written, into its `figures/`."""
    everywhere = confusion([roi.matrix for roi in rois], scheme)
    mixed = confusion([roi.matrix_non_homogeneous for roi in rois], scheme)
    write_json(row.figures / "confusion.json", {"all": everywhere.document(), "non_homogeneous": mixed.document()})
    own, fixed = chosen_rois(rois, scheme), fixed_rois(rois, scheme)
    figures = {
        "confusion": confusion_figure(everywhere, "All validation pixels"),
        "confusion_non_homogeneous": confusion_figure(mixed, "Validation pixels in non-homogeneous cells"),
        "gallery": gallery_figure(_gallery(own, row, scheme, regions), scheme.columns),
        "gallery_fixed": gallery_figure(_gallery(fixed, row, scheme, regions), scheme.columns),
    }
    for name, figure in figures.items():
        write_bytes(row.figures / f"{name}.png", drawn(figure))


def _gallery(chosen: Sequence[Chosen], row: TrialFolder, scheme: scores.Scheme, regions: Regions) -> list[GalleryRow]:
    by_name = {roi.name: roi for roi in regions.of_role("validation")}
    rows = []
    for rank, scored, iou in chosen:
        roi = by_name[scored.name]
        predicted_HW = read_mask(row.predictions / f"{roi.name}.png")[0]
        judged = Judged(classes_of(read_mask(roi.mask)[0], scheme), (predicted_HW,))
        rows.append(gallery_row(rank, roi.name, iou, read_image(roi.image)[0], judged, um_per_px=roi.mpp))
    return rows
