"""BORDER_REFLECT fills what a shift or turn leaves empty with mirrored tissue, and its labels with it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.labels import IGNORE
from harness.data.affine import Image
from harness.data.augment import build_augment, paper_policy
from harness.data.targets import target_table
from harness.drawing import as_picture, canvas, class_marks, coloured, drawn
from harness.report.wording import percent_text
from harness.traps.bench import LABELS, Bench
from harness.traps.finding import Finding, Sides

DRAWS = 1000
SHOWN = 2


@dataclass(frozen=True, slots=True)
class Example:
    """One patch under both policies; targets hold 0 undefined, 1..K classes."""

    image_HWC: Image
    paper_HWC: Image
    mirrored_HW: NDArray[np.bool_]
    paper_target_HW: NDArray[np.uint8]
    histology_HWC: Image
    histology_target_HW: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Found:
    """Shares of the pixels of each draw that lie beyond the patch they come from."""

    mirrored: NDArray[np.float64]  # under `paper`: copies, with labels
    masked: NDArray[np.float64]  # under `histology`: undefined
    examples: tuple[Example, ...]


def demonstrate(bench: Bench) -> Finding:
    """Send marks of position through both policies."""
    found = measure(bench)
    half, some = float((found.mirrored >= 0.5).mean()), float((found.mirrored > 0).mean())
    return Finding(
        name="mirrored_labels",
        title="Labels mirrored at the border",
        people="Rotate and ShiftScaleRotate with BORDER_REFLECT: what a patch lacks after the move is filled with its "
        "mirror image, in the image and in the mask.",
        happens=f"Over {len(found.mirrored)} draws of the paper's policy, "
        f"{percent_text(float(found.mirrored.mean()))} % of the pixels trained on are mirrored copies of others in "
        f"the same patch; {percent_text(some)} % of the draws have some, and in {percent_text(half)} % they are at "
        f"least half of the patch. The label fits the copy, but ducts with two mirrored halves and kaleidoscopes of "
        f"stroma are no tissue. What it costs in score is not measured here.",
        shows=bool(found.mirrored.any()),
        heads=("policy paper", "policy histology"),
        numbers=(
            Sides("share of pixels from beyond the patch", float(found.mirrored.mean()), float(found.masked.mean())),
            Sides("share of pixels trained on that are mirrored", float(found.mirrored.mean()), 0.0),
            Sides("share of draws with any", some, float((found.masked > 0).mean())),
            Sides("share of draws where they are half or more", half, float((found.masked >= 0.5).mean())),
        ),
        instead="`augment: histology` marks invented pixels undefined: the "
        "image may reflect, so that the network sees no black corner, but nothing is learned there.",
        picture=draw(found),
        shown="A patch; the same under the paper's policy, mirrored copies outlined, with the labels it trains on; "
        "under `histology`, where white is undefined.",
    )  # fmt: skip


def measure(bench: Bench, *, draws: int = DRAWS) -> Found:
    """The patches are those of the training patients, in turn; draw n has key (seed, epoch 1, n)."""
    store = bench.patches
    mirrored = [mirrored_pixels(store.images_NHWC[n % len(store)], seed=bench.seed, index=n) for n in range(draws)]
    shares = np.array([pixels.mean() for pixels in mirrored])
    # Pictures: draws with a fifth to a half mirrored, of patches with several classes.
    several = (store.id_counts_NI[:, 1:] > 0.1 * store.cut.input_px**2).sum(axis=1) >= 2
    telling = [n for n in range(draws) if several[n % len(store)] and 0.2 <= shares[n] <= 0.5]
    examples = (_example(bench, n, mirrored[n]) for n in telling[:SHOWN])
    return Found(shares, np.array([_masked(bench, n) for n in range(draws)]), tuple(examples))


def mirrored_pixels(image_HWC: Image, *, seed: int, index: int) -> NDArray[np.bool_]:
    """(H, W) which pixels the paper's policy takes from beyond the patch in this draw: the same moves with a
    constant border leave them 0 in a mask of ones."""
    inside = np.ones(image_HWC.shape[:2], np.uint8)
    _, kept_HW = paper_policy(cv2.BORDER_CONSTANT)(image_HWC, inside, seed=seed, epoch=1, index=index)
    return np.asarray(kept_HW == 0)


def draw(found: Found) -> bytes:
    """A row per example."""
    figure = canvas(7.2, 1.65 * len(found.examples) + 0.5)
    rows = figure.subplots(len(found.examples), 5, squeeze=False)
    heads = ("patch", "paper", "paper: labels", "histology", "histology: labels")
    for place, (example, axes_5) in enumerate(zip(found.examples, rows, strict=True)):
        pictures = (
            example.image_HWC, example.paper_HWC, coloured(example.paper_target_HW, LABELS.class_names),
            example.histology_HWC, coloured(example.histology_target_HW, LABELS.class_names),
        )  # fmt: skip
        for axes, picture, head in zip(axes_5, pictures, heads, strict=True):
            axes.imshow(picture, interpolation="nearest")
            as_picture(axes)
            if place == 0:
                axes.set_title(head, fontsize=8)
        for axes in axes_5[1:3]:
            axes.contour(example.mirrored_HW, levels=[0.5], colors="black", linewidths=1.2)
    figure.legend(
        handles=class_marks(LABELS.class_names), loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    return drawn(figure)


def _masked(bench: Bench, number: int) -> float:
    store = bench.patches
    image = store.images_NHWC[number % len(store)]
    histology = build_augment("histology", undefined_target=IGNORE)
    _, target_HW = histology(image, np.zeros(image.shape[:2], np.uint8), seed=bench.seed, epoch=1, index=number)
    return float((target_HW == IGNORE).mean())


def _example(bench: Bench, number: int, mirrored_HW: NDArray[np.bool_]) -> Example:
    store = bench.patches
    patch = number % len(store)
    target_HW = target_table(LABELS, "as_paper")[store.masks_NHW[patch]]
    moved = {}
    for policy in ("paper", "histology"):
        augment = build_augment(policy, undefined_target=0)
        moved[policy] = augment(store.images_NHWC[patch], target_HW, seed=bench.seed, epoch=1, index=number)
    return Example(store.images_NHWC[patch], moved["paper"][0], mirrored_HW, moved["paper"][1], *moved["histology"])
