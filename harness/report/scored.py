"""A complete trial's validation matrices, and the scores derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness import scores
from harness.files import fingerprint, read_json
from harness.scores import RoiMatrices
from harness.trial.folder import TrialFolder

DOCUMENT_ERRORS = (OSError, ValueError, KeyError, TypeError, IndexError, AssertionError)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A complete trial's validation matrices, and the scores derived from them."""

    file: Path  # scores.json
    patients: tuple[str, ...]  # sorted
    counts_2PSC: scores.Matrix  # per patient: all pixels, and those in non-homogeneous cells
    regions: int
    resized: int  # of these: smaller than a patch, and so enlarged
    scheme: scores.Scheme
    matrix: scores.Matrix  # pooled over all ROIs: source ids by columns
    scores: Mapping[str, float | None]
    support: Mapping[str, int]
    pixels: str  # equal for trials judged on the same validation pixels by the same metrics
    group: str  # `pixels` and the label map's ids: the comparability group

    @property
    def label_map(self) -> str:
        """The label map's name, for people."""
        return self.scheme.labels.name

    @property
    def rois(self) -> tuple[RoiMatrices, ...]:
        """Every region's counts, read from the file: few trials are looked at as closely."""
        return _rois_in(self.file, self.file.stat().st_mtime_ns)


def scored_of(folder: TrialFolder, data: list[Any] | None, problems: list[str]) -> Scored | None:
    """The matrices in a trial's scores.json; None, and a line in `problems`, where they cannot be read."""
    try:
        document = read_json(folder.scores)
        rois, scheme = scores.read_scores(document)
        matrix = scores.pooled([roi.matrix for roi in rois])
        pixels = _pixels(rois, scheme, data, document.get("metric_version"))
        patients = tuple(sorted({roi.patient for roi in rois}))
        return Scored(
            file=folder.scores,
            patients=patients,
            counts_2PSC=_by_patient(rois, patients),
            regions=len(rois),
            resized=sum(roi.resized for roi in rois),
            scheme=scheme,
            matrix=matrix,
            scores=scores.score_rois(rois, scheme),
            support=scores.support(matrix, scheme),
            pixels=pixels,
            group=fingerprint([pixels, scheme.labels.key])[:12],
        )
    except DOCUMENT_ERRORS as error:
        problems.append(f"{folder.scores}: cannot be read, the trial does not rank ({error})")
        return None


def _by_patient(rois: list[RoiMatrices], patients: tuple[str, ...]) -> scores.Matrix:
    places = {patient: place for place, patient in enumerate(patients)}
    counts = np.zeros((2, len(patients), *rois[0].matrix.shape), dtype=np.int64)
    for roi in rois:
        counts[0, places[roi.patient]] += roi.matrix
        counts[1, places[roi.patient]] += roi.matrix_non_homogeneous
    return counts


def _pixels(rois: list[RoiMatrices], scheme: scores.Scheme, data: list[Any] | None, metric_version: object) -> str:
    """Names the validation pixels and how they are judged.

    The counts of true pixels are part of it: trials that claim the same ROIs and yet saw other masks must not
    meet on one board.
    """
    truth = sorted((roi.name, roi.patient, [int(n) for n in roi.matrix.sum(axis=1)]) for roi in rois)
    return fingerprint([metric_version, scheme.source, list(scheme.source_ids), truth, data])[:12]


@lru_cache(maxsize=64)
def _rois_in(file: Path, _: int) -> tuple[RoiMatrices, ...]:
    return tuple(scores.read_scores(read_json(file))[0])
