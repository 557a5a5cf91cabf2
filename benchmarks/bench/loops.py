"""What training loops by hand share, and a trial's own beside them: rows 3 and 9."""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from harness.config.labels import BUILTIN, IGNORE, TIGER_IDS
from harness.config.spec import Cut, DatasetVariant, ModelSpec, Split, TrainSpec, TrialSpec
from harness.data.cohort import read_cohort
from harness.data.phantom import Phantom, synthesize

if TYPE_CHECKING:  # these load torch
    import torch

    from harness.checkpoint import Checkpoint
    from harness.train import EpochReport, TrialData


ENCODER, LABELS = "efficientnet-b0", BUILTIN["unicorn3"]


def on_phantom(folder: Path, phantom: Phantom, *, row: str, cut: Cut, train: TrainSpec) -> tuple[TrialSpec, TrialData]:
    """A trial of a U-Net over EfficientNet-B0 on a phantom, made once in `folder` with its patches; the first patient
    validates. The caller holds the folder's lock."""
    from harness.trial.run import open_data

    root = folder / "phantom"
    if not root.is_dir():
        synthesize(root, phantom)
    rois = read_cohort(root)
    patients = sorted({roi.patient for roi in rois})
    spec = TrialSpec(
        dataset=DatasetVariant(
            root=str(root),
            data_hash=row,
            source_ids=TIGER_IDS,
            labels=LABELS,
            cut=cut,
            split=Split(train=tuple(patients[1:]), validation=tuple(patients[:1])),
        ),
        model=ModelSpec(architecture="unet", encoder=ENCODER, encoder_weights="random"),
        train=train,
        seed=1,
    )
    return spec, open_data(spec, rois, folder / "stores")


def trial(spec: TrialSpec, data: TrialData, device: torch.device, clock: Clock) -> None:
    """`fit()` as a trial runs it, with its events and its checkpoint after every epoch, which tells the clock."""
    from harness.train import fit, initial_model
    from harness.trial.folder import Attempt
    from harness.trial.run import settle
    from harness.trial.saving import Saving
    from harness.trial.warm import KEPT_PATCHES

    settle(device)
    model = initial_model(spec)

    def save(checkpoint: Checkpoint) -> None:
        saving.checkpoint(checkpoint, fingerprint=spec.fingerprint, keep=False)
        clock.epoch()

    def on_epoch(report: EpochReport) -> None:
        saving.event({"event": "epoch", "epoch": report.epoch, "values": dict(report.values)})

    with tempfile.TemporaryDirectory() as folder:
        saving = Saving(Attempt(Path(folder)))
        fit(
            spec, data, model, device=device, save=save, on_epoch=on_epoch, should_stop=lambda: False,
            on_device=KEPT_PATCHES.of(spec, data, device),
        )  # fmt: skip


def paper_moves() -> Any:
    """The paper's augmentation by albumentations."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations as A  # noqa: N812  # so in its own documentation

    reflect = {"border_mode": cv2.BORDER_REFLECT}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case", category=UserWarning)
        return A.Compose(
            [
                A.Rotate(limit=45, p=0.5, **reflect),
                A.ShiftScaleRotate(shift_limit=0.5, scale_limit=0.15, rotate_limit=0, p=0.5, **reflect),
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.5),
            ]
        )


class Confusion:
    """Pairs of (truth, prediction) of the pixels that have a class, counted where the tensors are."""

    def __init__(self, classes: int) -> None:
        self._classes, self._pairs = classes, 0

    def add(self, logits_NKHW: Any, truth_NHW: Any) -> None:
        """A batch."""
        known = truth_NHW != IGNORE
        codes = truth_NHW[known] * self._classes + logits_NKHW.max(dim=1).indices[known]
        self._pairs = self._pairs + codes.bincount(minlength=self._classes**2)

    def iou(self) -> float:
        """Mean over the classes that occur."""
        pairs: Any = self._pairs
        confusion = pairs.view(self._classes, self._classes).double()
        hits = confusion.diagonal()
        return float((hits / (confusion.sum(0) + confusion.sum(1) - hits)).nanmean())


class Clock:
    """Times the epochs after the first, when the device is done with them; with a barrier two trials begin together."""

    def __init__(self, barrier: Barrier | None = None, device: torch.device | None = None) -> None:
        self._barrier, self._device, self._epochs = barrier, device, 0

    def epoch(self) -> None:
        """An epoch is over."""
        if self._device is not None and self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)
        self._epochs += 1
        if self._epochs == 1:
            if self._barrier is not None:
                self._barrier.wait()
            self._began, self._cpu_began = time.perf_counter(), time.process_time()
        self._ended, self._cpu_ended = time.perf_counter(), time.process_time()

    @property
    def timed_epochs(self) -> int:
        """All but the first."""
        return self._epochs - 1

    @property
    def seconds(self) -> float:
        """Of these."""
        return self._ended - self._began

    @property
    def cpu_seconds(self) -> float:
        """Of this process, in the same time."""
        return self._cpu_ended - self._cpu_began
