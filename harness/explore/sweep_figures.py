"""The pictures of a sweep that belong to no single trial: its data, its augmentation, its networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from harness.config.knobs import label_of
from harness.config.spec import TrialSpec
from harness.data.stats import count_cohort
from harness.data.tiger import Roi
from harness.drawing import drawn
from harness.errors import BadInput
from harness.explore.cohort import class_ratio_png, cohort_pngs
from harness.explore.describe import described, model_label
from harness.explore.diagram import diagram_figure
from harness.explore.samples import augmented_png, labelled_png
from harness.files import safe_name, write_bytes
from harness.trial.run import cohort


def write_sweep_figures(folder: Path, specs: Sequence[TrialSpec], rois: Sequence[Roi] | None = None) -> list[Path]:
    """Draw what these trials share into `folder`, one picture per label map, policy and network in use.

    `rois` are the usable ROIs of the data (default: read from where the specs say). Where trials of one label map
    differ in how they cut, the first one's cut is shown. Masks are read once per cut; of images, those that are drawn.
    BadInput names the networks that cannot be taken apart, after all else is drawn.
    """
    if not specs:
        return []
    usable = tuple(cohort(specs[0]) if rois is None else rois)
    counts_of = cache(lambda cut: count_cohort(usable, cut))
    data = specs[0].dataset
    pictures = cohort_pngs(counts_of(data.cut), data.labels, data.split, min_share=data.min_share)
    pictures[f"class_ratio_{data.labels.name}"] = pictures.pop("class_ratio")
    for name, spec in _first(specs, lambda spec: spec.dataset.labels.name).items():
        counts, labels = counts_of(spec.dataset.cut), spec.dataset.labels
        if name != data.labels.name:
            pictures[f"class_ratio_{name}"] = class_ratio_png(counts, labels, min_share=data.min_share)
        pictures[f"labelled_samples_{name}"] = labelled_png(counts, labels)
    for name, spec in _first(specs, lambda spec: str(label_of(spec.train.augment))).items():
        pictures[f"augmented_samples_{name}"] = augmented_png(
            counts_of(spec.dataset.cut), spec.dataset.labels, spec.train.augment,
            seed=spec.seed, patients=frozenset(spec.dataset.split.train),
        )  # fmt: skip
    problems = []
    for name, spec in _first(specs, lambda spec: model_label(spec.model)).items():
        try:
            blocks = described(spec.model, classes=spec.classes, input_px=spec.dataset.cut.input_px)
            pictures[f"architecture_{name.replace(' over ', '_')}"] = drawn(diagram_figure(blocks, name))
        except Exception as error:  # of a network that may be anybody's
            reason = (str(error).strip().splitlines() or [""])[0]
            problems.append(f"architecture {name} is not drawn: {type(error).__name__}: {reason}")
    files = {folder / f"{safe_name(name)}.png": png for name, png in pictures.items()}
    for file, png in files.items():
        write_bytes(file, png)
    if problems:
        raise BadInput(problems)
    return list(files)


def _first(specs: Sequence[TrialSpec], key: Callable[[TrialSpec], str]) -> dict[str, TrialSpec]:
    """The first spec of every kind, in order."""
    found: dict[str, TrialSpec] = {}
    for spec in specs:
        found.setdefault(key(spec), spec)
    return found
