"""Scores over patches of several classes, of one class, and of all: three numbers for one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.config.spec import TrialSpec
from harness.data.patches import non_homogeneous
from harness.drawing import canvas, drawn
from harness.report.wording import difference_text, score_text
from harness.scores import score_rois
from harness.train import FitResult
from harness.traps.bench import LABELS, Bench, patches_as_regions
from harness.traps.drawing import HARNESS, USUAL, score_axes
from harness.traps.finding import ONE_SEED, Finding, Sides

KINDS = ("all", "mixed", "homogeneous")


@dataclass(frozen=True, slots=True)
class Judged:
    """IoU of one network by kind of validation patch."""

    pooled: Mapping[str, float]
    patch_mean: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Found:
    """A network trained on all patches and one trained on mixed ones; how many patches there are of each kind."""

    all: Judged
    mixed: Judged
    training: Mapping[str, int]
    validation: Mapping[str, int]


def demonstrate(bench: Bench) -> Finding:
    """Judge two networks on three sets of validation patches."""
    found = measure(bench)
    usual, every = found.all.pooled["mixed"], found.all.pooled["all"]
    gap = {kind: found.mixed.pooled[kind] - found.all.pooled[kind] for kind in KINDS}
    return Finding(
        name="homogeneous_patches",
        title="Homogeneous patches left out",
        people="Patches that hold one class only are dropped, from training, from validation, or from both, and the "
        "score is reported as that of the data set.",
        happens=f"{found.validation['homogeneous']} of {found.validation['all']} validation patches are homogeneous. "
        f"The same network scores {score_text(every)} IoU pooled over all of them, {score_text(usual)} over the "
        f"mixed and {score_text(found.all.pooled['homogeneous'])} over the homogeneous ones; as means over patches "
        f"{score_text(found.all.patch_mean['all'])}, {score_text(found.all.patch_mean['mixed'])} and "
        f"{score_text(found.all.patch_mean['homogeneous'])}. Trained on the {found.training['mixed']} mixed of "
        f"{found.training['all']} patches for as many epochs, its IoU differs by {difference_text(gap['mixed'])} on "
        f"mixed and {difference_text(gap['all'])} on all patches ({ONE_SEED}).",
        shows=abs(usual - every) > 0.01,
        heads=("mixed patches only", "all patches"),
        numbers=(
            Sides("validation patches", found.validation["mixed"], found.validation["all"]),
            Sides("trained on all: IoU pooled", usual, every),
            Sides("trained on all: IoU, mean over patches", found.all.patch_mean["mixed"], found.all.patch_mean["all"]),
            Sides("trained on mixed only: IoU pooled", found.mixed.pooled["mixed"], found.mixed.pooled["all"]),
            Sides("trained on mixed only: IoU, mean over patches", found.mixed.patch_mean["mixed"],
                  found.mixed.patch_mean["all"]),
        ),
        instead="`patches: non_homogeneous` filters training alone. Validation always keeps every pixel; scores of "
        "mixed cells (squares of 128 µm, the same for every patch size and label map) stand beside as "
        "`val/non_homogeneous/...`.",
        picture=draw(found),
        shown="IoU of both networks over all, mixed and homogeneous validation patches: pooled (left), mean over "
        "patches (right).",
    )  # fmt: skip


def measure(bench: Bench) -> Found:
    """Two trainings that differ in the patch filter alone."""
    usual, filtered = bench.spec(), bench.spec(patches="non_homogeneous")
    data = bench.data(usual)
    mixed = non_homogeneous(data.validation, data.validation_indices, LABELS, usual.dataset.min_share)
    kinds = {
        "all": data.validation_indices,
        "mixed": mixed,
        "homogeneous": np.setdiff1d(data.validation_indices, mixed),
    }

    def judged(spec: TrialSpec, result: FitResult) -> Judged:
        pooled, patch_mean = {}, {}
        for kind, indices in kinds.items():
            seen = bench.evaluated(spec, result, patches_as_regions(data.validation, indices))
            pooled[kind] = float(score_rois(seen.rois, data.scheme)["val/iou"] or 0.0)
            patch_mean[kind] = float(seen.paper["iou"] or 0.0)
        return Judged(pooled, patch_mean)

    results = bench.trained(usual), bench.trained(filtered)
    return Found(
        all=judged(usual, results[0]),
        mixed=judged(filtered, results[1]),
        training={"all": len(data.training_indices), "mixed": len(bench.data(filtered).training_indices)},
        validation={kind: len(indices) for kind, indices in kinds.items()},
    )


def draw(found: Found) -> bytes:
    """Bars by kind of patch, a panel per way of averaging."""
    figure = canvas(7.2, 3.1)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, part in zip(panels, ("pooled pixels", "mean over patches"), ("pooled", "patch_mean"), strict=True):
        for offset, colour, label, judged in (
            (-0.2, HARNESS, "trained on all patches", found.all),
            (0.2, USUAL, "trained on mixed ones", found.mixed),
        ):
            values = [getattr(judged, part)[kind] for kind in KINDS]
            bars = axes.bar(np.arange(len(KINDS)) + offset, values, width=0.38, color=colour, label=label)
            axes.bar_label(bars, labels=[score_text(value) for value in values], fontsize=7, padding=1)
        axes.set_xticks(range(len(KINDS)), [f"{kind}\n({found.validation[kind]})" for kind in KINDS])
        axes.set_title(title, fontsize=10)
        score_axes(axes)
    panels[0].set_ylabel("IoU")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False
    )
    return drawn(figure)
