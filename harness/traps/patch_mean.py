"""torchmetrics' mean over patches against scores of pooled pixels, for one and the same prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data.targets import target_table
from harness.drawing import canvas, drawn
from harness.metrics import PaperMetrics
from harness.report.wording import difference_text, score_text
from harness.scores import Scheme, score_matrix, source_matrix
from harness.traps.bench import LABELS, Bench, scheme_of
from harness.traps.drawing import HARNESS, USUAL, score_axes
from harness.traps.finding import Finding, Sides

TILES_PX = (32, 64, 128, 256)
BATCHES = (1, 4, 16, 64)

Regions = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""(mask of source ids, predicted classes 1..K) of each region"""


@dataclass(frozen=True, slots=True)
class Means:
    """Scores of one prediction."""

    pooled: dict[str, float]  # iou, dice: of all pixels at once
    by_tile: dict[int, dict[str, float]]  # the mean over square patches of this side
    by_batch: dict[int, dict[str, float]]  # batch size -> loss, and torchmetrics' iou and dice


def demonstrate(bench: Bench) -> Finding:
    """Score one network's validation regions cut into ever larger patches, and validate it by ever larger batches."""
    found = measure(bench)
    iou = {side: scores["iou"] for side, scores in found.by_tile.items()}
    dice = [scores["dice"] for scores in found.by_tile.values()]
    dices = [(value, found.pooled["dice"]) for value in dice]
    loss = {size: scores["loss"] for size, scores in found.by_batch.items()}
    # Sums of float32 in another order differ by some 1e-7.
    steady = all(np.ptp([scores[name] for scores in found.by_batch.values()]) < 1e-4 for name in ("iou", "dice"))
    return Finding(
        name="patch_mean",
        title="The mean over patches in place of pooled pixels",
        people="The IoU and Dice of every patch are averaged (torchmetrics' MeanIoU and DiceScore, macro, samplewise). "
        "The loss of every batch is averaged, too.",
        happens=f"The same predicted pixels score {score_text(min(iou.values()))} to {score_text(max(iou.values()))} "
        f"IoU as a mean over patches of {TILES_PX[0]} to {TILES_PX[-1]} px (Dice {score_text(min(dice))} to "
        f"{score_text(max(dice))}), and {score_text(found.pooled['iou'])} pooled (Dice "
        f"{score_text(found.pooled['dice'])}): a mean over patches compares with no other patch size. The validation "
        f"loss of the same weights is {score_text(loss[BATCHES[0]])} with batches of {BATCHES[0]} and "
        f"{score_text(loss[BATCHES[-1]])} with batches of {BATCHES[-1]}, because a Jaccard loss is taken over the "
        f"batch. "
        + ("torchmetrics' own means did not depend on the batch size." if steady else
           "torchmetrics' own means depended on the batch size."),
        shows=max(abs(value - found.pooled["iou"]) for value in iou.values()) > 0.01,
        heads=("mean over patches", "pooled pixels"),
        numbers=(
            *(Sides(f"IoU, {side} px patches", iou[side], found.pooled["iou"]) for side in TILES_PX),
            *(Sides(f"Dice, {side} px patches", *values) for side, values in zip(TILES_PX, dices, strict=True)),
            *(Sides(f"validation loss, batches of {size}", loss[size], None) for size in BATCHES),
        ),
        instead="Every score is folded from integer counts of pixels, pooled over regions; no batch, patch size or "
        "library version enters. The paper's means stay beside them as `paper/...`, and never rank.",
        picture=draw(found),
        shown="Left: one prediction, scored as a mean over patches of four sizes (orange) and pooled (blue): IoU "
        f"solid, Dice dashed ({difference_text(iou[TILES_PX[0]] - found.pooled['iou'])} IoU at {TILES_PX[0]} px). "
        f"Right: the validation loss of the same weights by batch size.",
    )  # fmt: skip


def measure(bench: Bench) -> Means:
    """One training's best weights, judged in all these ways on the same pixels."""
    spec = bench.spec()
    result = bench.trained(spec)
    store = bench.data(spec).validation
    masks = {roi.name: store.roi_mask(place) for place, roi in enumerate(store.rois)}
    regions = [(masks[name], predicted) for name, predicted in result.evaluation.predictions.items()]
    by_batch = {}
    for size in BATCHES:
        seen = bench.validated(spec, result, batch_size=size)
        by_batch[size] = {"loss": seen.loss, **{name: value or 0.0 for name, value in seen.paper.items()}}
    whole = [_whole_tiles(mask, predicted) for mask, predicted in regions]
    return Means(
        pooled=pooled_scores(whole, scheme_of(spec)),
        by_tile={side: tile_means(whole, side) for side in TILES_PX},
        by_batch=by_batch,
    )


def tile_means(regions: Regions, side_px: int) -> dict[str, float]:
    """torchmetrics' IoU and Dice as means over square tiles."""
    metrics = PaperMetrics(classes=len(LABELS.classes), undefined="ignore")
    table = target_table(LABELS, "ignore")
    for mask_HW, predicted_HW in regions:
        truth = torch.tensor(np.stack(list(_tiles(table[mask_HW], side_px))), dtype=torch.int64)
        said = torch.tensor(np.stack(list(_tiles(predicted_HW, side_px))), dtype=torch.int64)
        metrics.update(said - 1, truth)
    return {name: float(value or 0.0) for name, value in metrics.compute().items()}


def pooled_scores(regions: Regions, scheme: Scheme) -> dict[str, float]:
    """IoU and Dice of all pixels of these regions."""
    total = sum(source_matrix(mask, predicted, scheme) for mask, predicted in regions)
    scores = score_matrix(np.asarray(total), scheme, per_class=False)
    return {name: float(scores[name] or 0.0) for name in ("iou", "dice")}


def draw(found: Means) -> bytes:
    """Scores by patch size; the loss by batch size."""
    figure = canvas(7.2, 3.4)
    left, right = figure.subplots(1, 2)
    places = range(len(TILES_PX))
    for name, label, style in (("iou", "IoU", "-"), ("dice", "Dice", "--")):
        values = [found.by_tile[side][name] for side in TILES_PX]
        left.plot(places, values, style, color=USUAL, marker="o", label=f"{label}, mean over patches")
        left.plot(places, [found.pooled[name]] * len(places), style, color=HARNESS, label=f"{label}, pooled")
    left.set_xticks(places, [str(side) for side in TILES_PX])
    left.set_xlabel("side of a patch, px")
    left.set_ylabel("score")
    right.plot(range(len(BATCHES)), [found.by_batch[size]["loss"] for size in BATCHES], color=USUAL, marker="o")
    right.set_xticks(range(len(BATCHES)), [str(size) for size in BATCHES])
    right.set_xlabel("patches in a batch")
    right.set_ylabel("validation loss of the same weights")
    for axes in (left, right):
        score_axes(axes)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return drawn(figure)


def _whole_tiles(
    mask_HW: NDArray[np.uint8], predicted_HW: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cropped to whole tiles of the largest size, so that every size judges the same pixels."""
    height, width = (length - length % TILES_PX[-1] for length in mask_HW.shape)
    return mask_HW[:height, :width], predicted_HW[:height, :width]


def _tiles(pixels_HW: NDArray[np.uint8], side_px: int) -> Iterator[NDArray[np.uint8]]:
    for y in range(0, pixels_HW.shape[0], side_px):
        for x in range(0, pixels_HW.shape[1], side_px):
            yield pixels_HW[y : y + side_px, x : x + side_px]
