"""`JaccardLoss(classes=[1..K])` leaves the class `undefined` out of the mean, not its pixels out of the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.config.labels import UNDEFINED, LabelMap
from harness.data.batches import normalized
from harness.data.patches import Indices, PatchStore
from harness.data.targets import target_table
from harness.drawing import Rgb, as_picture, canvas, class_marks, coloured, drawn
from harness.losses import LossFunction, build_loss
from harness.report.wording import difference_text, percent_text, score_text
from harness.scores import pooled, score_matrix
from harness.train import initial_model
from harness.traps.bench import LABELS, Bench, best_network, scheme_of
from harness.traps.finding import ONE_SEED, Finding, Sides

PATCHES = 16
SHOWN_RANGE = 1000


@dataclass(frozen=True, slots=True)
class Gradient:
    """Where a loss pulls: |d loss / d logits| summed over classes, per pixel of a batch."""

    pull_NHW: NDArray[np.float64]
    undefined_NHW: NDArray[np.bool_]

    @property
    def share_undefined(self) -> float:
        """The part of the pull that is on undefined pixels."""
        return float(self.pull_NHW[self.undefined_NHW].sum() / self.pull_NHW.sum())

    @property
    def pulled(self) -> int:
        """Undefined pixels with a gradient that is not exactly zero."""
        return int((self.pull_NHW[self.undefined_NHW] != 0).sum())


@dataclass(frozen=True, slots=True)
class Found:
    """Both losses on the same patches, at the start and after training, and what became of the networks."""

    usual: Gradient
    masked: Gradient
    usual_trained: Gradient
    masked_trained: Gradient
    images_NHWC: Rgb
    masks_NHW: NDArray[np.uint8]
    undefined_share: float
    iou: tuple[float, float]
    said_undefined: float  # share of the defined validation pixels


def demonstrate(bench: Bench) -> Finding:
    """Gradients of smp's loss and of the masked one on patches with undefined pixels; one training by each."""
    found = measure(bench)
    return Finding(
        name="undefined_pixels",
        title="JaccardLoss(classes=[1..K]) in the belief that it masks",
        people="Undefined pixels are class 0, and segmentation-models-pytorch's JaccardLoss gets `classes=[1, .., "
        "K]` so that they should not count.",
        happens=f"{percent_text(found.undefined_share)} % of the pixels of these {PATCHES} patches are undefined, and "
        f"{percent_text(found.usual.share_undefined)} % of the gradient lies on them before training "
        f"({percent_text(found.usual_trained.share_undefined)} % after): whatever the network says there adds to the "
        f"union of its classes, so it is pushed to say `undefined` where nobody looked. Under the masked loss "
        f"{found.masked.pulled} of {int(found.masked.undefined_NHW.sum())} undefined pixels have a gradient. The "
        f"network then calls {percent_text(found.said_undefined)} % of the defined validation pixels `undefined`; "
        f"its IoU is {score_text(found.iou[0])} against {score_text(found.iou[1])} of the masked training "
        f"({difference_text(found.iou[0] - found.iou[1])}; {ONE_SEED}).",
        shows=found.usual.pulled > 0,
        heads=("JaccardLoss(classes=[1..K])", "undefined pixels masked"),
        numbers=(
            Sides("share of the gradient on undefined pixels, before training", found.usual.share_undefined,
                  found.masked.share_undefined),
            Sides("the same, after training", found.usual_trained.share_undefined,
                  found.masked_trained.share_undefined),
            Sides("undefined pixels with a gradient, before training", found.usual.pulled, found.masked.pulled),
            Sides("defined validation pixels called undefined, share", found.said_undefined, 0.0),
            Sides("val/iou of one training", *found.iou),
        ),
        instead="`undefined: ignore` (the default): K logits; an undefined pixel is taken out before the softmax, so "
        "that its gradient is exactly zero. `undefined: as_paper` keeps the other way for comparison, and its rows "
        "say so.",
        picture=draw(found),
        shown="Two patches, their labels (white: undefined), and where each loss pulls before training, on a "
        "logarithmic scale; blank is exactly zero.",
    )  # fmt: skip


def measure(bench: Bench) -> Found:
    """The patches are those of the training patients with the most undefined pixels, some class beside."""
    masked, usual = bench.spec(), bench.spec(undefined="as_paper")
    data = bench.data(masked)
    chosen = partly_undefined(data.training, data.training_indices)[:PATCHES]
    images_NHWC, masks_NHW = data.training.images_NHWC[chosen], data.training.masks_NHW[chosen]
    results = {spec.train.undefined: bench.trained(spec) for spec in (masked, usual)}

    def of(network: nn.Module, undefined: str) -> Gradient:
        loss = smp_loss(LABELS) if undefined == "as_paper" else masked_loss(LABELS)
        targets = target_table(LABELS, "as_paper" if undefined == "as_paper" else "ignore")[masks_NHW]
        return gradient(network, loss, normalized(images_NHWC, "unit"), targets, masks_NHW == UNDEFINED)

    matrix = pooled([roi.matrix for roi in results["as_paper"].evaluation.rois])
    defined = matrix[[row for row, source in enumerate(scheme_of(usual).source_ids) if source != UNDEFINED]]
    said = score_matrix(matrix, scheme_of(usual), per_class=False)["iou"]
    return Found(
        usual=of(initial_model(usual), "as_paper"),
        masked=of(initial_model(masked), "ignore"),
        usual_trained=of(best_network(usual, results["as_paper"]), "as_paper"),
        masked_trained=of(best_network(masked, results["ignore"]), "ignore"),
        images_NHWC=images_NHWC,
        masks_NHW=masks_NHW,
        undefined_share=float((masks_NHW == UNDEFINED).mean()),
        iou=(float(said or 0.0), results["ignore"].objective),
        said_undefined=float(defined[:, 0].sum() / defined.sum()),
    )


def gradient(
    network: nn.Module, loss: LossFunction, images_NCHW: NDArray[np.float32], targets_NHW: NDArray[np.uint8],
    undefined_NHW: NDArray[np.bool_],
) -> Gradient:  # fmt: skip
    """Where `loss` pulls the logits of `network` on these patches."""
    network.eval()
    with torch.no_grad():
        logits_NKHW: Tensor = network(torch.tensor(images_NCHW))
    logits_NKHW.requires_grad_(True)
    (pull_NKHW,) = torch.autograd.grad(loss(logits_NKHW, torch.tensor(targets_NHW, dtype=torch.int64)), logits_NKHW)
    return Gradient(pull_NKHW.abs().sum(dim=1).double().numpy(), undefined_NHW)


def smp_loss(labels: LabelMap) -> LossFunction:
    """What the paper names: targets 0..K, of which 0 is undefined."""
    from segmentation_models_pytorch.losses import JaccardLoss

    loss: LossFunction = JaccardLoss("multiclass", classes=list(range(1, len(labels.classes) + 1)))
    return loss


def masked_loss(labels: LabelMap) -> LossFunction:
    """The harness's: targets 0..K-1, undefined pixels marked IGNORE."""
    return build_loss({"jaccard": 1.0}, classes=len(labels.classes), class_weights=None, undefined="ignore")


def partly_undefined(store: PatchStore, indices: Indices) -> Indices:
    """Patches by how close they come to being half undefined."""
    share = store.id_counts_NI[indices, UNDEFINED] / store.cut.input_px**2
    return np.asarray(indices[np.argsort(np.abs(share - 0.5), kind="stable")], dtype=np.int64)


def draw(found: Found) -> bytes:
    """Two patches: image, labels, and both losses' gradients on one scale."""
    from matplotlib.colors import LogNorm

    figure = canvas(7.2, 4.1)
    rows = figure.subplots(2, 4)
    # Logarithmic, because the pull on undefined pixels is weak beside the other, and exact zeros stay blank.
    top = max(float(gradient.pull_NHW.max()) for gradient in (found.usual, found.masked))
    scale = LogNorm(top / SHOWN_RANGE, top)
    table = target_table(LABELS, "as_paper")
    heads = ("image", "labels", "JaccardLoss(classes=[1..K])", "masked")
    for place, axes_4 in enumerate(rows):
        pictures = (found.images_NHWC[place], coloured(table[found.masks_NHW[place]], LABELS.class_names))
        for axes, picture in zip(axes_4[:2], pictures, strict=True):
            axes.imshow(picture, interpolation="nearest")
        for axes, side in zip(axes_4[2:], (found.usual, found.masked), strict=True):
            drawn_pull = axes.imshow(
                np.ma.masked_equal(side.pull_NHW[place], 0), cmap="cividis", norm=scale, interpolation="nearest"
            )
        for axes, head in zip(axes_4, heads, strict=True):
            as_picture(axes)
            if place == 0:
                axes.set_title(head, fontsize=8)
    bar = figure.colorbar(drawn_pull, ax=rows[:, 3], shrink=0.8, ticks=[top / SHOWN_RANGE, top])
    bar.ax.set_yticklabels([f"1/{SHOWN_RANGE}", "largest"], fontsize=7)
    bar.ax.minorticks_off()
    figure.legend(
        handles=class_marks(LABELS.class_names), loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    return drawn(figure)
