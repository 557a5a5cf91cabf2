"""Patches of one patient in training and in validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.config.spec import TrialSpec
from harness.data.patches import Indices, patches_of
from harness.drawing import FAINT, INK, canvas, drawn
from harness.report.wording import difference_text, score_text
from harness.scores import score_rois
from harness.train import TrialData
from harness.traps.bench import Bench, patches_as_regions, scheme_of
from harness.traps.drawing import HARNESS, USUAL, score_axes
from harness.traps.finding import Finding, Sides

SEEDS = 5
# Few patients, as small cohorts are: a network then knows them by their stain and their nuclei.
POOL, VALIDATING = 6, 2
EPOCHS = 12


@dataclass(frozen=True, slots=True)
class Claim:
    """IoU of one training: at its own best epoch on its own validation patches, and on patients nobody has seen."""

    own: float
    others: float

    @property
    def too_high(self) -> float:
        """By how much its own validation promises more than new patients give."""
        return self.own - self.others


@dataclass(frozen=True, slots=True)
class Pair:
    """The same pool of patients, the same network and seed, the same number of patches in each role."""

    by_patch: Claim
    by_patient: Claim


@dataclass(frozen=True, slots=True)
class Deal:
    """Patches of a pool as (training, validation), dealt both ways; and those of all other patients."""

    by_patch: tuple[Indices, Indices]
    by_patient: tuple[Indices, Indices]
    others: Indices


def demonstrate(bench: Bench) -> Finding:
    """Train both ways on several pools, and score each network on its own validation and on all other patients."""
    pairs = measure(bench)
    patch, patient = [p.by_patch for p in pairs], [p.by_patient for p in pairs]
    inflation = [p.by_patch.too_high - p.by_patient.too_high for p in pairs]
    spread = f"{score_text(_sd(inflation))} over {len(pairs)} pools"
    return Finding(
        name="patient_split",
        title="Patches dealt to training and validation at random",
        people="Regions are cut into patches, the patches are shuffled, and a share of them validates. Patches of one "
        "patient, often neighbours, are then in both roles.",
        happens=f"A network validated on patches of its own training patients scores {score_text(_mean(patch, 'own'))} "
        f"IoU there and {score_text(_mean(patch, 'others'))} on new patients: the promise is "
        f"{difference_text(_mean(patch, 'too_high'))} too high. Split by patient, the two differ by "
        f"{difference_text(_mean(patient, 'too_high'))}. The difference of these differences, "
        f"{difference_text(float(np.mean(inflation)))} (SD {spread}), is what sharing patients adds.",
        shows=float(np.mean(inflation)) > _sd(inflation) / len(pairs) ** 0.5,
        heads=("split by patch", "split by patient"),
        numbers=(
            Sides("IoU on its own validation, mean", _mean(patch, "own"), _mean(patient, "own")),
            Sides("IoU on patients that nobody trained on, mean", _mean(patch, "others"), _mean(patient, "others")),
            Sides("promised too much, mean", _mean(patch, "too_high"), _mean(patient, "too_high")),
            *(
                Sides(f"promised too much, pool {number}", pair.by_patch.too_high, pair.by_patient.too_high)
                for number, pair in enumerate(pairs, start=1)
            ),
        ),
        instead="A patient is in exactly one role; a split that says otherwise is an error (exit 2). There is no "
        "switch for splitting by patch.",
        picture=draw(pairs),
        shown="Each line is one training: from its score on its own validation patches to its score on new patients.",
    )  # fmt: skip


def measure(bench: Bench, *, seeds: int = SEEDS, epochs: int = EPOCHS) -> tuple[Pair, ...]:
    """One pair of trainings per pool of patients."""
    pairs = []
    for number in range(seeds):
        bench.say(f"pool {number + 1} of {seeds}: one training split by patch, one by patient")
        spec, dealt = bench.spec(epochs=epochs, seed=bench.seed + number), deal(bench, number)
        by_patch = _claim(bench, spec, dealt.by_patch, dealt.others)
        pairs.append(Pair(by_patch, _claim(bench, spec, dealt.by_patient, dealt.others)))
    return tuple(pairs)


def draw(pairs: tuple[Pair, ...]) -> bytes:
    """Two panels, one per way of splitting."""
    figure = canvas(7.2, 3.2)
    panels = figure.subplots(1, 2, sharey=True)
    sides = (
        ("split by patch", USUAL, [p.by_patch for p in pairs]),
        ("split by patient", HARNESS, [p.by_patient for p in pairs]),
    )
    for axes, (title, colour, claims) in zip(panels, sides, strict=True):
        for claim in claims:
            axes.plot((0, 1), (claim.own, claim.others), color=FAINT, linewidth=1, marker="o", markersize=4)
        means = [float(np.mean([getattr(claim, part) for claim in claims])) for part in ("own", "others")]
        axes.plot((0, 1), means, color=colour, linewidth=2.5, marker="o", markersize=7)
        for place, mean, side in ((0, means[0], "right"), (1, means[1], "left")):
            axes.annotate(score_text(mean), (place, mean), xytext=(-8 if side == "right" else 8, 0),
                          textcoords="offset points", ha=side, va="center", color=INK, fontweight="bold")  # fmt: skip
        axes.set_xlim(-0.45, 1.45)
        axes.set_xticks((0, 1), ("its own\nvalidation", "new\npatients"))
        axes.set_title(title, fontsize=10)
        score_axes(axes)
    panels[0].set_ylabel("IoU")
    return drawn(figure)


def deal(bench: Bench, number: int) -> Deal:
    """Draw a pool of patients, and deal its patches both ways; the rest of the cohort is nobody's."""
    rng = np.random.default_rng([bench.seed, number])
    patients = sorted(bench.cohort.presence)
    pool = [patients[place] for place in rng.permutation(len(patients))[:POOL]]
    everything = patches_of(bench.patches, pool)
    of_patients = patches_of(bench.patches, pool[:VALIDATING])
    shuffled = rng.permutation(everything)
    at_random = np.sort(shuffled[: len(of_patients)])
    return Deal(
        by_patch=(np.setdiff1d(everything, at_random), at_random),
        by_patient=(np.setdiff1d(everything, of_patients), of_patients),
        others=patches_of(bench.patches, [patient for patient in patients if patient not in pool]),
    )


def _claim(bench: Bench, spec: TrialSpec, roles: tuple[Indices, Indices], others: Indices) -> Claim:
    training, validation = roles
    store = patches_as_regions(bench.patches, validation)
    data = TrialData(bench.patches, training, store, np.arange(len(validation)), scheme_of(spec))
    result = bench.fitted(spec, data)
    elsewhere = bench.evaluated(spec, result, patches_as_regions(bench.patches, others))
    found = score_rois(elsewhere.rois, data.scheme)["val/iou"]
    assert found is not None  # the other patients have every class
    return Claim(own=result.objective, others=found)


def _mean(claims: list[Claim], part: str) -> float:
    return float(np.mean([getattr(claim, part) for claim in claims]))


def _sd(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
