"""What the traps share: a synthetic cohort, cut once, and trainings that several of them look at, run once.

Everything is decided by the seed. The one thing here that the rest of the house refuses is `patches_as_regions`:
with it a random share of the patches can validate, whoever their patients are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from harness.config.labels import BUILTIN, TIGER_IDS
from harness.config.spec import Cut, DatasetVariant, ModelSpec, Split, TrainSpec, TrialSpec
from harness.data.check import check_cohort
from harness.data.cohort import read_cohort
from harness.data.patches import Indices, PatchStore, open_store
from harness.data.phantom import Phantom, synthesize
from harness.data.splits import make_split
from harness.data.tiger import Roi
from harness.evaluate import Evaluation, LossFunction, evaluate
from harness.losses import build_loss
from harness.scores import Scheme
from harness.train import FitResult, TrialData, fit, initial_model
from harness.trial.run import open_data

CPU = torch.device("cpu")
PATIENTS, ROI_PX = 24, 448
LABELS = BUILTIN["unicorn3"]
# 64 um of tissue seen at 1 um/px: a network of half a million parameters learns it in a minute on one core.
CUT = Cut(patch_px=128, input_px=64, stride=128, remainder="drop")
MODEL = ModelSpec(architecture="unet_plain", decoder_channels=(128, 64, 32, 16, 8))
# Cosine: at a constant rate the score of so short a run jumps from epoch to epoch.
TRAIN = TrainSpec(epochs=12, batch_size=16, learning_rate=3e-3, schedule="cosine", stop_patience=None, augment="none")


@dataclass(frozen=True, slots=True)
class Cohort:
    """The phantom on disk: its regions, and the source ids that each patient has."""

    root: Path
    rois: tuple[Roi, ...]
    data_hash: str
    presence: Mapping[str, frozenset[int]]


@dataclass(eq=False)
class Bench:
    """Data and trainings in `folder`, made when they are first asked for; `say` gets a line per long step."""

    folder: Path
    seed: int = 7
    say: Callable[[str], None] = lambda line: None
    patients: int = PATIENTS
    roi_px: int = ROI_PX
    _runs: dict[str, FitResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # As in a worker: with more threads the sums, and so the weights, would differ from machine to machine.
        torch.set_num_threads(1)
        cv2.setNumThreads(1)

    @cached_property
    def cohort(self) -> Cohort:
        """The phantom, painted on first use."""
        self.say(f"painting {self.patients} patients")
        phantom = Phantom(seed=self.seed, patients=self.patients, roi_px=self.roi_px, tiny_share=0.0)
        root = synthesize(self.folder / "phantom", phantom)
        checked = check_cohort(read_cohort(root))
        return Cohort(root, checked.rois, checked.data_hash, checked.presence)

    @cached_property
    def split(self) -> Split:
        """A quarter of the patients validates."""
        return make_split(self.cohort.presence, validation=0.25, seed=self.seed)

    def spec(self, **changes: Any) -> TrialSpec:
        """The plain training of this bench; `changes` are keys of TrainSpec, and `patches`, `split`, `seed`."""
        own = {name: changes.pop(name) for name in ("patches", "split", "seed") if name in changes}
        return TrialSpec(
            dataset=DatasetVariant(
                root=str(self.cohort.root), data_hash=self.cohort.data_hash, source_ids=TIGER_IDS, labels=LABELS,
                cut=CUT, split=own.get("split", self.split), patches=own.get("patches", "all"),
            ),
            model=MODEL,
            train=TRAIN.model_copy(update=changes),
            seed=own.get("seed", self.seed),
        )  # fmt: skip

    def data(self, spec: TrialSpec) -> TrialData:
        """The patches of a spec, as a trial opens them."""
        return open_data(spec, self.cohort.rois, self.folder / "stores")

    @cached_property
    def patches(self) -> PatchStore:
        """All patches of the cohort, side by side; none overlaps another."""
        return open_store(self.folder / "stores", self.cohort.rois, CUT, data_hash=self.cohort.data_hash)

    def trained(self, spec: TrialSpec) -> FitResult:
        """The result of this training, run once however many traps ask for it."""
        if spec.fingerprint not in self._runs:
            self.say(f"training {spec.train.epochs} epochs")
            self._runs[spec.fingerprint] = self.fitted(spec, self.data(spec))
        return self._runs[spec.fingerprint]

    def fitted(self, spec: TrialSpec, data: TrialData) -> FitResult:
        """`fit` on these patches, which need not be those the spec names."""
        return fit(
            spec, data, initial_model(spec), device=CPU,
            save=lambda checkpoint: None, on_epoch=lambda report: None, should_stop=lambda: False,
        )  # fmt: skip

    def evaluated(self, spec: TrialSpec, result: FitResult, store: PatchStore) -> Evaluation:
        """The best epoch's network on all patches of a store."""
        model = best_network(spec, result)
        return evaluate(
            model, store, np.arange(len(store)), scheme_of(spec), train=spec.train, loss=loss_of(spec), device=CPU
        )

    def validated(self, spec: TrialSpec, result: FitResult, *, batch_size: int) -> Evaluation:
        """The best epoch's network on its validation patches, in batches of another size."""
        data = self.data(spec)
        changed = spec.train.model_copy(update={"batch_size": batch_size})
        model = best_network(spec, result)
        return evaluate(
            model, data.validation, data.validation_indices, data.scheme, train=changed, loss=loss_of(spec), device=CPU
        )


def best_network(spec: TrialSpec, result: FitResult) -> nn.Module:
    """The network of the best epoch."""
    model = initial_model(spec)
    model.load_state_dict(result.weights)
    return model


def loss_of(spec: TrialSpec) -> LossFunction:
    """The loss that a spec trains with."""
    train = spec.train
    return build_loss(train.loss_terms, classes=spec.classes, class_weights=None, undefined=train.undefined)


def scheme_of(spec: TrialSpec) -> Scheme:
    """The scheme of a spec's matrices."""
    return Scheme(spec.dataset.source_ids, spec.dataset.labels, undefined_column=spec.train.undefined == "as_paper")


def patches_as_regions(store: PatchStore, indices: Indices) -> PatchStore:
    """These patches as a store of their own, each of them a region of its patient.

    What no split of the harness gives: any of them may then validate, also one whose neighbours train.
    """
    side = store.cut.input_px
    regions = []
    for number in indices.tolist():
        roi = store.rois[int(store.index["roi"][number])]
        scale = store.cut.patch_px / side
        regions.append(
            replace(
                roi, name=f"{roi.name} {number}", mpp=roi.mpp * scale, height_px=side, width_px=side, resized=False,
                grid_height_px=side, grid_width_px=side,
            )
        )  # fmt: skip
    index = store.index[indices].copy()
    index["roi"], index["y"], index["x"] = range(len(indices)), 0, 0
    index["size_y"], index["size_x"] = side, side
    masks_NHW = store.masks_NHW[indices]
    return replace(
        store,
        key=f"{store.key} as regions", rois=tuple(regions), index=index,
        images_NHWC=store.images_NHWC[indices], masks_NHW=masks_NHW, id_counts_NI=store.id_counts_NI[indices],
        roi_masks=masks_NHW.reshape(-1), roi_offsets=np.arange(len(indices) + 1, dtype=np.int64) * side**2,
    )  # fmt: skip
