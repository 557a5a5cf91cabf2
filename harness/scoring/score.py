"""Masks of another tool -> rows on the boards of a sweep: the same pixels, the same matrices as its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from harness import scores
from harness.config.base import choose_from
from harness.config.labels import UNDEFINED, LabelMap
from harness.data.patches import non_homogeneous_cells
from harness.data.png import read_mask
from harness.data.targets import target_table
from harness.data.tiger import Roi
from harness.errors import BadInput
from harness.files import sha256_file, write_bytes, write_json
from harness.report.queries import read_sweep
from harness.report.wording import plural
from harness.scoring.masks import Matched, match_masks, read_values
from harness.scoring.pictures import write_pictures
from harness.scoring.regions import Regions
from harness.scoring.rows import Rows, write_manifest
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import now
from harness.sweep.prepare import Steps
from harness.trial.folder import TrialFolder

Values = Literal["classes", "source"]


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody hands in: a folder of masks, a name for it, and what its values mean."""

    folder: Path
    name: str
    values: Values
    label_maps: tuple[LabelMap, ...]  # one row each; one alone where the values are its classes


@dataclass(slots=True)
class _Row:
    """One row in the making."""

    labels: LabelMap
    folder: TrialFolder
    rois: list[scores.RoiMatrices]


def chosen_maps(regions: Regions, values: Values, name: str | None) -> tuple[LabelMap, ...]:
    """The label maps whose boards the masks go to. BadInput when they cannot be known."""
    maps = {labels.name: labels for labels in regions.label_maps}
    if name is not None and name not in maps:
        raise BadInput(f"--map: {regions.sweep} has no label map {name!r}; {choose_from(name, maps)}")
    if name is None and values == "classes" and len(maps) > 1:
        raise BadInput(
            f"--map: {regions.sweep} has the label maps {', '.join(maps)}; say whose classes the values are by "
            "--map NAME, or hand in masks of source ids by --labels source"
        )
    return (maps[name],) if name is not None else tuple(maps.values())


def allowed_values(label_maps: Sequence[LabelMap], values: Values) -> dict[int, str]:
    """What a mask may hold -> what it is called; 0 is no class."""
    if values == "classes":
        (labels,) = label_maps
        return {0: "no class", **dict(enumerate(labels.class_names, start=1))}
    known = frozenset.intersection(*(labels.known_ids for labels in label_maps))
    return {
        source_id: "no class" if source_id == UNDEFINED else f"source id {source_id}" for source_id in sorted(known)
    }


def score(
    handed_in: Submission, regions: Regions, generation: GenerationFolder, steps: Steps
) -> tuple[tuple[str, ...], Matched]:
    """Write a row for each label map, in place of rows of the same name; their uids, and which file was whose.

    BadInput lists everything that is wrong with the masks; nothing is written then.
    """
    rows = Rows(generation)
    several = len(regions.label_maps) > 1
    uids = [rows.uid(handed_in.name, labels.name if several else None) for labels in handed_in.label_maps]
    matched, problems = match_masks(handed_in.folder, regions.of_role("validation"), regions.every)
    enlarged = _enlarged_for_all(generation)
    with rows.written() as folder:
        pairs = zip(handed_in.label_maps, uids, strict=True)
        made = [_Row(labels, TrialFolder(folder / uid), []) for labels, uid in pairs]
        with steps.step(f"scoring {plural(len(matched.files), 'mask')}") as on_progress:
            for done, (roi, file) in enumerate(_in_order(matched, regions), start=1):
                try:
                    _count(roi, file, handed_in, regions, made, roi.name in enlarged)
                except BadInput as error:
                    problems += error.problems
                on_progress(done, len(matched.files))
        if problems:
            raise BadInput([*problems, *_hints(handed_in, regions, matched, problems)])
        for row in made:
            _finish(row, handed_in, regions, matched, generation)
    if handed_in.values == "classes" and _counts_from_zero(made[0]):
        steps.note(
            f"{len(made[0].labels.classes)} is in no mask, and 0 is: do the classes count from 0? "
            "They must count from 1; 0 is no class, and wrong"
        )
    return tuple(uids), matched


def _in_order(matched: Matched, regions: Regions) -> list[tuple[Roi, Path]]:
    """Each validation region that has a mask, with it, by name: the order of a trial's matrices."""
    return [(roi, matched.files[roi.name]) for roi in regions.of_role("validation") if roi.name in matched.files]


def _count(roi: Roi, file: Path, handed_in: Submission, regions: Regions, rows: Sequence[_Row], enlarged: bool) -> None:
    """Read one mask, count it for each row, and keep it as that row's prediction."""
    width_px, height_px = regions.size_px(roi)
    allowed = allowed_values(handed_in.label_maps, handed_in.values)
    values_HW = read_values(file, width_px=width_px, height_px=height_px, allowed=allowed)
    truth_HW, _ = read_mask(roi.mask)
    cells_HW = non_homogeneous_cells(truth_HW, roi.mpp)
    for row in rows:
        # target_table's `as_paper` is what is wanted of source ids: classes 1..K, the rest 0.
        predicted_HW = values_HW if handed_in.values == "classes" else target_table(row.labels, "as_paper")[values_HW]
        scheme = _scheme(row.labels, regions, undefined_column=True)
        matrices = scores.RoiMatrices(
            name=roi.name, patient=roi.patient, centre=roi.centre, resized=enlarged,
            matrix=scores.source_matrix(truth_HW, predicted_HW, scheme),
            matrix_non_homogeneous=scores.source_matrix(truth_HW[cells_HW], predicted_HW[cells_HW], scheme),
        )  # fmt: skip
        row.rois.append(matrices)
        write_bytes(row.folder.predictions / f"{roi.name}.png", _png(predicted_HW))


def _finish(row: _Row, handed_in: Submission, regions: Regions, matched: Matched, generation: GenerationFolder) -> None:
    """Everything beside the predictions, the manifest last."""
    rois, scheme = _without_empty_column(row.rois, _scheme(row.labels, regions, undefined_column=True))
    write_json(row.folder.scores, scores.scores_document(rois, scheme, epoch=0, epochs=[]))
    sources = {name: {"file": path.name, "sha256": sha256_file(path)} for name, path in sorted(matched.files.items())}
    result = {
        "scores": scores.score_rois(rois, scheme),
        "support": scores.support(scores.pooled([roi.matrix for roi in rois]), scheme),
        "flags": _flags(rois, scheme),
        "values": handed_in.values,
        "folder": str(handed_in.folder.resolve()),
        "masks": sources,
    }
    write_json(row.folder.result, result)
    write_json(row.folder.environment, {"versions": {"harness": version("tissue-sweep-harness")}})
    write_pictures(row.folder, rois, scheme, regions)
    facts = regions.prepared.facts
    write_json(
        row.folder.state_file,
        {
            "uid": row.folder.uid, "sweep": regions.sweep, "generation": generation.number,
            "external": handed_in.name, "stratum": "", "number": 0, "state": "complete",
            "parameters": {"labels": row.labels.name}, "seed": 0, "created": now(),
            "data": {"hash": facts.data_hash, "split": facts.split.model_dump(mode="json")},
        },
    )  # fmt: skip
    write_manifest(row.folder)


def _scheme(labels: LabelMap, regions: Regions, *, undefined_column: bool) -> scores.Scheme:
    facts = regions.prepared.facts
    return scores.Scheme(facts.source_ids, labels, facts.source, undefined_column)


def _counts_from_zero(row: _Row) -> bool:
    """Whether the last class is never predicted though `no class` is: what masks of 0..K-1 look like."""
    predicted = scores.pooled([roi.matrix for roi in row.rois]).sum(axis=0)
    return bool(predicted[0] and not predicted[-1])


def _without_empty_column(
    rois: Sequence[scores.RoiMatrices], scheme: scores.Scheme
) -> tuple[list[scores.RoiMatrices], scores.Scheme]:
    """Without the column of `no class` when no pixel is in it: then it is a row like a trial's with K classes."""
    if any(roi.matrix[:, 0].any() for roi in rois):
        return list(rois), scheme
    cut = [
        scores.RoiMatrices(roi.name, roi.patient, roi.centre, roi.resized,
                           roi.matrix[:, 1:], roi.matrix_non_homogeneous[:, 1:])
        for roi in rois
    ]  # fmt: skip
    return cut, scores.Scheme(scheme.source_ids, scheme.labels, scheme.source)


def _flags(rois: Sequence[scores.RoiMatrices], scheme: scores.Scheme) -> list[str]:
    """What a reader of the score should know: pixels without a class count as wrong."""
    if not scheme.undefined_column:
        return []
    counts = scores.class_confusion(scores.pooled([roi.matrix for roi in rois]), scheme)
    share = float(counts[:, 0].sum() / max(counts.sum(), 1))
    if not share:
        return []
    said = f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"
    return [f"no class on {said} of pixels"]


def _enlarged_for_all(generation: GenerationFolder) -> frozenset[str]:
    """Regions that every completed trial saw enlarged, so that scores without them compare; mostly none."""
    found = [
        frozenset(roi.name for roi in trial.scored.rois if roi.resized)
        for trial in read_sweep(generation.path).complete
        if trial.scored is not None
    ]
    return frozenset.intersection(*found) if found else frozenset()


def _hints(handed_in: Submission, regions: Regions, matched: Matched, problems: Sequence[str]) -> list[str]:
    """What helps with the problems as a whole."""
    lines = []
    if not matched.files:
        lines.append(
            f"no mask in {handed_in.folder} has the name of a validation region; "
            f"`harness data export-split {regions.sweep} --out DIR` lists the names"
        )
    if any("holds values" in problem for problem in problems):
        allowed = allowed_values(handed_in.label_maps, handed_in.values)
        lines.append(f"allowed values: {values_text(allowed)}")
        if handed_in.values == "classes":
            lines.append("for masks of the data's own ids: --labels source")
    return lines


def values_text(allowed: Mapping[int, str]) -> str:
    """`0 no class, 1 tumor, 2 stroma`."""
    return ", ".join(f"{value} {name}" if not name.startswith("source id") else str(value)
                     for value, name in sorted(allowed.items()))  # fmt: skip


def _png(labels_HW: NDArray[np.uint8]) -> bytes:
    encoded, content = cv2.imencode(".png", labels_HW)
    assert encoded, labels_HW.shape
    return content.tobytes()
