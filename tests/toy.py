"""A cohort small enough to count by hand, in TIGER's layout, and a network that trains in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from harness.config.labels import LabelMap
from harness.config.spec import Cut, DatasetVariant, ModelSpec, Objective, Split, TrainSpec, TrialSpec
from harness.data.cohort import read_cohort
from harness.scores import Scheme

PATIENTS = tuple(f"TCGA-A2-A0{letter}1" for letter in "ABCDE")
LABELS = LabelMap(name="two", classes={"tumor": (1, 3), "stroma": (2, 6)}, ignore_ids=(4, 5, 7))
# The colour of a source id in a toy image is its red value.
RED_STEP = 30


def write_roi(root: Path, patient: str, mask_HW: np.ndarray, *, noise: int = 0, folder: str = "tissue-bcss") -> None:
    """One region whose image shows its mask: red = 30 x source id, blue and green noise."""
    base = root / "wsirois" / "roi-level-annotations" / folder
    height, width = mask_HW.shape
    rng = np.random.default_rng(len(patient) + height * width)
    image_HWC = rng.integers(0, noise + 1, (height, width, 3)).astype(np.uint8)
    image_HWC[..., 0] += (RED_STEP * mask_HW).astype(np.uint8)
    name = f"{patient}-DX1_[0, 0, {width}, {height}].png"
    for kind, pixels in (("images", image_HWC[..., ::-1]), ("masks", mask_HW)):
        (base / kind).mkdir(parents=True, exist_ok=True)
        encoded, content = cv2.imencode(".png", pixels)
        assert encoded
        (base / kind / name).write_bytes(content.tobytes())


def blocks(height: int, width: int, *, seed: int, ids: tuple[int, ...] = (0, 1, 2, 3, 6)) -> np.ndarray:
    """A mask of 8 px blocks of random source ids."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.asarray(ids, np.uint8), (height // 8 + 1, width // 8 + 1))
    return np.kron(coarse, np.ones((8, 8), np.uint8))[:height, :width]


def write_cohort(root: Path, sizes: Mapping[str, tuple[int, int]] | None = None) -> Path:
    """One region per patient."""
    chosen = sizes or dict.fromkeys(PATIENTS, (64, 96))
    for number, (patient, (height, width)) in enumerate(chosen.items()):
        write_roi(root, patient, blocks(height, width, seed=number), noise=20)
    return root


def toy_spec(root: Path, **changes: Any) -> TrialSpec:
    """Two patients validate, three train; `changes` are keys of TrainSpec, `objective`, `seed` or `model`."""
    own = {name: changes.pop(name) for name in ("objective", "seed", "model", "labels") if name in changes}
    train: dict[str, Any] = {"epochs": 3, "batch_size": 4, "learning_rate": 0.01, "augment": "paper"}
    patients = sorted({roi.patient for roi in read_cohort(root)})
    return TrialSpec(
        dataset=DatasetVariant(
            root=str(root),
            data_hash=f"toy {root.name}",
            source_ids=tuple(range(8)),
            labels=own.get("labels", LABELS),
            cut=Cut(patch_px=32, input_px=32, stride=32),
            split=Split(train=tuple(patients[2:]), validation=tuple(patients[:2])),
        ),
        model=own.get("model", ModelSpec(architecture="unet_plain", decoder_channels=(16, 16, 8, 8, 4))),
        train=TrainSpec(**{**train, **changes}),
        objective=own.get("objective", Objective()),
        seed=own.get("seed", 5),
    )


def scheme_of(spec: TrialSpec) -> Scheme:
    """The scheme of a toy trial's matrices."""
    return Scheme(spec.dataset.source_ids, spec.dataset.labels, undefined_column=spec.train.undefined == "as_paper")


class TinyNet(nn.Sequential):
    """BatchNorm and dropout: what makes training inexact when something is not restored."""

    def __init__(self, classes: int) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout2d(0.3),
            nn.Conv2d(8, classes, 3, padding=1),
        )


class ColourReader(nn.Module):
    """Knows the toy images' code: the class of a pixel is that of its red value; all but certain."""

    def __init__(self, scheme: Scheme) -> None:
        super().__init__()
        self.columns = len(scheme.columns)
        table = [0] * 9
        for source_id in range(8):
            index = scheme.labels.class_of(source_id)
            table[source_id] = (index or 0) if scheme.undefined_column else (index or 1) - 1
        self.register_buffer("table", torch.tensor(table))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        ids = ((images_NCHW[:, 0] * 255) / RED_STEP).floor().long().clamp(0, 8)
        one_hot = nn.functional.one_hot(self.table[ids], self.columns)  # type: ignore[index]
        return one_hot.permute(0, 3, 1, 2).float() * 20
