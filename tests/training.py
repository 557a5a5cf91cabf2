"""`fit` on the toy cohort, for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

from harness.checkpoint import Checkpoint, Weights, save_checkpoint
from harness.config.pause import Pause
from harness.config.spec import TrialSpec
from harness.data.cohort import read_cohort
from harness.data.patches import open_store, patches_of, validation_cut
from harness.device_patches import DevicePatches
from harness.train import (
    EpochReport,
    FitResult,
    TrialData,
    derived_seed,
    fit,
)
from tests.toy import TinyNet, scheme_of

CPU = torch.device("cpu")


def data_of(spec: TrialSpec) -> TrialData:
    rois = read_cohort(Path(spec.dataset.root))
    stores, cut, key = Path(spec.dataset.root) / "stores", spec.dataset.cut, spec.dataset.data_hash
    training = open_store(stores, rois, cut, data_hash=key)
    validation = open_store(stores, rois, validation_cut(cut), data_hash=key)
    split = spec.dataset.split
    return TrialData(
        training,
        patches_of(training, split.train),
        validation,
        patches_of(validation, split.validation),
        scheme_of(spec),
    )


def tiny_net(spec: TrialSpec) -> nn.Module:
    torch.manual_seed(derived_seed(spec.seed, "weights"))
    return TinyNet(spec.classes)


def trained(
    spec: TrialSpec,
    checkpoint_file: Path,
    *,
    reports: list[EpochReport] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    resume_from: Checkpoint | None = None,
    pause: Pause | None = None,
    model: nn.Module | None = None,
    on_device: DevicePatches | None = None,
) -> FitResult:
    return fit(
        spec,
        data_of(spec),
        model or tiny_net(spec),
        device=CPU,
        save=partial(save_checkpoint, checkpoint_file, fingerprint=spec.fingerprint),
        on_epoch=(reports if reports is not None else []).append,
        should_stop=should_stop,
        resume_from=resume_from,
        pause=pause,
        on_device=on_device,
    )


def sha_of(weights: Weights) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()
