"""`harness plan`: what a sweep would do, counted exactly, and what it would cost, from a few timed steps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.cells import at_lower_ends, combinations, open_ranges, resolve, strata_of
from harness.config.knobs import label_of
from harness.config.space import SearchSpace
from harness.config.spec import Cut, TrialSpec
from harness.data.patches import store_bytes, validation_cut
from harness.sweep.changes import Change, change_document
from harness.sweep.claiming import claim_runs
from harness.sweep.prepare import Prepared, Steps
from harness.sweep.rungs import planned_epochs

# Per trial beside weights: matrices, predictions, figures, events (measured on the quickstart: about 1 MB).
FIXED_BYTES_PER_TRIAL = 1_000_000
# Weights are kept as best weights, in the checkpoint (weights, best, two Adam moments), in MLflow and as its model.
WEIGHT_COPIES = 8
# An epoch that is kept (`keep_epochs`): weights, best weights, two Adam moments.
WEIGHT_COPIES_PER_EPOCH = 4
# Distinct models that are timed; the rest is taken to cost the mean of these.
TIMED_AT_MOST = 6
# Of the time of an epoch that is not network or augmentation: scores, checkpoint, events.
OVERHEAD = 1.15


@dataclass(frozen=True)
class Plan:
    """The content of `harness plan --json`."""

    document: dict[str, Any]
    timed: tuple[str, ...]


def plan(space: SearchSpace, prepared: Prepared, steps: Steps, change: Change, *, device: str, slots: int) -> Plan:
    """Count combinations, trials and patches; time a few steps and extrapolate to all trials that are not done yet."""
    strata: list[dict[str, Any]] = []
    for stratum in strata_of(space):
        count = sum(1 for _ in combinations(space, stratum))
        trials = space.budget.trials if open_ranges(space) else min(space.budget.trials, count)
        done = change.done[stratum.name]
        again = 0 if space.replicate is None else min(space.replicate.top, trials) * len(space.replicate.seeds)
        again = max(again - change.replicated[stratum.name], 0)
        row = {"name": stratum.name, "combinations": count, "trials": max(trials, done), "done": done}
        strata.append({**row, "replicates": again})
    specs = _examples(space, prepared)
    patches = [_patch_counts(cut, prepared) for cut in dict.fromkeys(spec.dataset.cut for spec in specs)]
    total, done, again = (sum(row[key] for row in strata) for key in ("trials", "done", "replicates"))
    left = total - done + again
    epochs = sum(sum(planned_epochs(space, row["trials"] - row["done"])) for row in strata)
    whole = epochs / space.train.epochs + again  # as many whole trainings as the epochs that rungs leave
    timed, estimate = _estimate(specs, patches, prepared, steps, trials=left, whole=whole, device=device, slots=slots)
    document = {
        "schema": "harness.plan/1",
        "name": space.name,
        "strata": strata,
        "trials": total,
        "to_train": left,
        "claims": dict(zip(("least", "most"), claim_runs(space), strict=True)),
        "change": change_document(change),
        "rungs": space.prune.type == "rungs",
        "patches": patches,
        "estimate": estimate,
    }
    return Plan(document, timed)


def _examples(space: SearchSpace, prepared: Prepared) -> list[TrialSpec]:
    """One spec per combination (at most 200, drawn evenly), an open range at its lower end."""
    found: list[TrialSpec] = []
    for stratum in strata_of(space):
        cells = list(combinations(space, stratum))
        if len(cells) > 200:
            cells = random.Random(space.seed).sample(cells, 200)
        for cell in cells:
            found.append(resolve(space, prepared.facts, at_lower_ends(space, cell), seed=space.seed))
    return found


def _patch_counts(cut: Cut, prepared: Prepared) -> dict[str, Any]:
    """Patches before the filter, by role, and the bytes of the stores."""
    roles = {"train": prepared.facts.split.train, "validation": prepared.facts.split.validation}
    counts: dict[str, Any] = {"patch_px": cut.patch_px, "input_px": cut.input_px, "mpp": cut.mpp}
    for role, patients in roles.items():
        sizes = _sizes(prepared, patients)
        counts[role] = store_bytes(sizes, cut if role == "train" else validation_cut(cut))[0]
    everyone = _sizes(prepared, [roi.patient for roi in prepared.checked.rois])
    counts["store_bytes"] = sum(store_bytes(everyone, each)[1] for each in {cut, validation_cut(cut)})
    return counts


def _sizes(prepared: Prepared, patients: Sequence[str]) -> list[tuple[int, int, float]]:
    wanted = set(patients)
    facts = prepared.checked.facts
    return [
        (facts[roi.name].height_px, facts[roi.name].width_px, roi.mpp)
        for roi in prepared.checked.rois
        if roi.patient in wanted
    ]


def _estimate(
    specs: Sequence[TrialSpec],
    patches: Sequence[dict[str, Any]],
    prepared: Prepared,
    steps: Steps,
    *,
    trials: int,
    whole: float,
    device: str,
    slots: int,
) -> tuple[tuple[str, ...], dict[str, float | int]]:
    from harness.trial.timing import time_steps  # imports torch

    by_cost = {(label_of(spec.model.architecture), spec.model.encoder, spec.dataset.cut): spec for spec in specs}
    chosen = list(by_cost.values())[:: max(1, -(-len(by_cost) // TIMED_AT_MOST))]
    seconds, weights, memory, timed = [], [], 0, []
    with steps.step(f"timing {len(chosen)} models on {device}") as on_progress:
        for done, spec in enumerate(chosen, start=1):
            timing = time_steps(spec, device)
            count = _patch_counts(spec.dataset.cut, prepared)
            epoch_s = count["train"] * timing.train_s_per_patch + count["validation"] * timing.validate_s_per_patch
            seconds.append(epoch_s * spec.train.epochs * OVERHEAD)
            weights.append(4 * timing.parameters)
            memory = max(memory, timing.memory_bytes)
            name = " ".join(filter(None, (str(label_of(spec.model.architecture)), spec.model.encoder)))
            timed.append(
                f"{name} at {spec.dataset.cut.input_px} px: {1 / timing.train_s_per_patch:.1f} patches/s, "
                f"{epoch_s:.1f} s an epoch"
            )
            on_progress(done, len(chosen))
    kept_epochs = sum(specs[0].keeps(epoch) for epoch in range(1, specs[0].train.epochs + 1))
    copies = WEIGHT_COPIES + WEIGHT_COPIES_PER_EPOCH * kept_epochs
    per_trial = sum(weights) / len(weights) * copies + FIXED_BYTES_PER_TRIAL
    return tuple(timed), {
        "hours": round(whole * sum(seconds) / len(seconds) / slots / 3600, 3),
        "disk_bytes": round(trials * per_trial + sum(count["store_bytes"] for count in patches)),
        "memory_bytes": memory * slots,
    }
