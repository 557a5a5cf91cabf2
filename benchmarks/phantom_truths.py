"""Measure what the phantom plants: python benchmarks/phantom_truths.py (about 7 minutes on one core).

A colour rule and small U-Nets from random weights learn from the same 18 patients and are scored on the other 6, by
the macro Dice of the confusion matrix pooled over all defined pixels.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from torch.nn.functional import cross_entropy, interpolate

from harness.data.cohort import read_cohort
from harness.data.phantom import synthesize

MAPS = {"unicorn3": np.array((0, 1, 2, 1, 3, 3, 2, 3)), "tiger7": np.arange(8)}  # new label of source label 0..7
RULES = {"25 nearest colours": KNeighborsClassifier(25), "tree of colours": DecisionTreeClassifier(max_depth=8)}
Array = np.ndarray[Any, Any]
Rois = list[tuple[Array, Array]]  # image, mask


@dataclass(frozen=True)
class Run:
    patches: int  # in all, repeats counted; the network sees every patch at 64 px
    rate: float = 3e-3
    patch_px: int = 64
    balanced: bool = False  # patches with rare classes are drawn more often


RUNS = {
    "unicorn3": {"U-Net": Run(1500), "rate 1e-5": Run(1500, rate=1e-5), "128 px seen at 64": Run(1500, patch_px=128)},
    "tiger7": {"U-Net": Run(4000), "balanced": Run(4000, balanced=True),
               "balanced, rate 1e-5": Run(4000, rate=1e-5, balanced=True),
               "balanced, 128 px seen at 64": Run(4000, patch_px=128, balanced=True)},
}  # fmt: skip


def read(root: Path) -> tuple[Rois, Rois]:
    """Training and validation ROIs; every fourth patient validates."""
    rois = read_cohort(root)
    held_out = sorted({roi.patient for roi in rois})[1::4]
    sides: tuple[Rois, Rois] = ([], [])
    for roi in rois:
        pair = cv2.imread(str(roi.image), cv2.IMREAD_COLOR_RGB), cv2.imread(str(roi.mask), cv2.IMREAD_GRAYSCALE)
        sides[roi.patient in held_out].append(pair)
    return sides


def macro_dice(truth: Array, predicted: Array) -> str:
    """Macro over the classes in the truth, then each class; undefined pixels do not count."""
    matrix = np.bincount(truth[truth > 0] * 8 + predicted[truth > 0], minlength=64).reshape(8, 8)
    there = matrix.sum(1) > 0
    dice = (2 * matrix.diagonal() / np.maximum(matrix.sum(0) + matrix.sum(1), 1))[there]
    return f"{dice.mean():.3f}  {' '.join(f'{value:.2f}' for value in dice)}"


def colour_rule(model: Any, train: Rois, test: Rois, remap: Array) -> str:
    """A classifier of the mean colour of the 5x5 px around a pixel."""

    def pixels(rois: Rois, count: int) -> tuple[Array, Array]:
        colour = np.concatenate([cv2.blur(image, (5, 5)).reshape(-1, 3) for image, _ in rois]) / 255
        label = np.concatenate([remap[mask].ravel() for _, mask in rois])
        chosen = np.random.default_rng(0).choice(np.flatnonzero(label), count, replace=False)
        return colour[chosen], label[chosen]

    colour, label = pixels(test, 100_000)
    return macro_dice(label, model.fit(*pixels(train, 40_000)).predict(colour))


def cut(rois: Rois, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Square patches, the last of a row moved back to the edge."""
    found = []
    for image, mask in rois:
        ys, xs = (sorted({*range(0, length - side, side), length - side}) for length in mask.shape)
        found += [(image[y : y + side, x : x + side], mask[y : y + side, x : x + side]) for y in ys for x in xs]
    images, masks = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
    return images.permute(0, 3, 1, 2), masks.long()


def unet(run: Run, train: Rois, test: Rois, remap: Array, seed: int) -> str:
    """Batch 8, Adam, cosine decay (a constant rate leaves the running statistics of batch norm behind), flips."""
    torch.manual_seed(seed)
    classes, narrow = int(remap.max()), (64, 48, 32, 24, 16)
    net = smp.Unet("tu-test_resnet", encoder_weights=None, decoder_channels=narrow, classes=classes)
    optimiser, steps = torch.optim.Adam(net.parameters(), run.rate), run.patches // 8
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    images, masks = cut(train, run.patch_px)
    present = torch.stack([(masks == label).float().mean((1, 2)) for label in range(1, 8)], 1)
    weights = (present / present.sum(0)).sum(1) + 1e-6 if run.balanced else torch.ones(len(images))
    draws = [torch.multinomial(weights, len(images), run.balanced) for _ in range(run.patches // len(images) + 1)]
    table = torch.from_numpy(remap)

    def logits(images: torch.Tensor) -> torch.Tensor:  # at the patch's own pixels
        seen = interpolate(images / 255, (64, 64), mode="area")
        return interpolate(net(seen), images.shape[-2:], mode="bilinear")

    for pick in torch.cat(draws)[: steps * 8].split(8):
        turned = [axis for axis in (-1, -2) if torch.rand(()) < 0.5]
        loss = cross_entropy(logits(images[pick].flip(turned)), table[masks[pick].flip(turned)] - 1, ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    images, masks = cut(test, run.patch_px)
    net.eval()
    with torch.no_grad():
        guess = torch.cat([logits(part).argmax(1) + 1 for part in images.split(16)])
    return macro_dice(table[masks].numpy(), guess.numpy())


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        train, test = read(synthesize(Path(folder) / "phantom"))
    for name, remap in MAPS.items():
        truth = np.concatenate([remap[mask].ravel() for _, mask in test])
        most = np.full_like(truth, np.bincount(truth[truth > 0]).argmax())
        print(f"{name:9} {'majority class':28} {macro_dice(truth, most)}", flush=True)
        for rule in RULES:
            print(f"{name:9} {rule:28} {colour_rule(RULES[rule], train, test, remap)}", flush=True)
        for row in RUNS[name]:
            for seed in (0, 1):
                began = time.perf_counter()
                score = unet(RUNS[name][row], train, test, remap, seed)
                print(f"{name:9} {row:28} {score}  ({time.perf_counter() - began:.0f} s, seed {seed})", flush=True)


if __name__ == "__main__":
    main()
