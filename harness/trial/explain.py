"""What a network looked at on one patch: Grad-CAM for every class, and the coefficients of attention gates.

Grad-CAM for segmentation: Vinogradova, Dibrov and Myers, "Towards Interpretable Semantic Segmentation via
Gradient-Weighted Class Activation Mapping" (AAAI 2020), by captum. The target of a class is the sum of its
logits over the pixels predicted as this class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from harness.config.labels import UNDEFINED
from harness.data.batches import Normalize, normalized
from harness.data.patches import CELL_MIN_SHARE, Indices, PatchStore
from harness.drawing import Rgb, as_picture, canvas, class_marks, coloured, drawn, scale_bar, shortened, spoken
from harness.files import write_bytes
from harness.regions import classes_of
from harness.scores import Scheme

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.train import TrialData

PANEL_IN = 1.75  # of one picture
HEAT = "inferno"  # its brightness rises evenly, so that it reads without colour vision and in grey print
HEAT_OPACITY = 0.6
COEFFICIENTS = "cividis"

Heat = NDArray[np.float32]  # (H, W), 0..1


@dataclass(frozen=True, slots=True)
class Example:
    """One patch as the network sees it. `truth_HW`: 0 undefined, 1..K classes."""

    name: str  # of its ROI
    um_per_px: float
    image_HWC: Rgb
    truth_HW: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Grad-CAM of one patch. `predicted_HW` as `truth_HW`; `heats` are of the network's outputs in order."""

    layer: str
    predicted_HW: NDArray[np.uint8]
    heats: tuple[Heat | None, ...]  # None: no pixel was predicted as this class


def write_explanations(
    folder: Path, data: TrialData, model: nn.Module, *, normalize: Normalize, device: torch.device
) -> list[str]:
    """Draw `gradcam.png`, and `attention.png` where the network has gates; returns why one is missing, if so.

    `model` holds the weights to explain; the files are not forced to disk. What goes wrong here becomes a note: a
    picture that cannot be drawn, of a network that may be anybody's, is no reason to lose a finished training.
    """
    example = example_of(data.validation, fixed_patch(data.validation, data.validation_indices), data.scheme)
    images_1CHW = torch.tensor(normalized(example.image_HWC[None], normalize), device=device)
    drawings: dict[str, Callable[[], Figure]] = {
        "gradcam": lambda: gradcam_figure(example, explained(model, images_1CHW, data.scheme), data.scheme.columns)
    }
    if hasattr(model, "forward_with_attention"):
        drawings["attention"] = lambda: attention_figure(example, gate_coefficients(model, images_1CHW))
    notes = []
    model.eval()
    for name, draw in drawings.items():
        try:
            write_bytes(folder / f"{name}.png", drawn(draw()), settle=False)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            notes.append(f"{name}.png: {type(error).__name__}: {reason}"[:300])
    return notes


def fixed_patch(store: PatchStore, indices: Indices) -> int:
    """The patch with most source ids, judged by the truth alone: the same for every trial with the same cut.

    First by ids that hold at least 5 % of its defined pixels, then by all ids, then by defined pixels; the first
    of equals.
    """
    counts = store.id_counts_NI[indices].astype(np.int64)
    counts[:, UNDEFINED] = 0
    defined = counts.sum(axis=1, keepdims=True)
    large = ((counts > 0) & (counts >= CELL_MIN_SHARE * defined)).sum(axis=1)
    order = np.lexsort((-defined[:, 0], -(counts > 0).sum(axis=1), -large))
    return int(indices[order[0]])


def example_of(store: PatchStore, patch: int, scheme: Scheme) -> Example:
    """One patch of a store."""
    place = store.index[patch]
    roi = store.rois[int(place["roi"])]
    # The grid is the ROI resampled to the cut's mpp, or enlarged to a patch; the patch is resized from the grid.
    um_per_grid_px = roi.mpp * roi.width_px / roi.grid_width_px
    return Example(
        name=roi.name,
        um_per_px=um_per_grid_px * int(place["size_x"]) / store.cut.input_px,
        image_HWC=np.array(store.images_NHWC[patch]),
        truth_HW=classes_of(store.masks_NHW[patch], scheme),
    )


def explained_layer(model: nn.Module, images_NCHW: Tensor) -> nn.Module:
    """The layer that Grad-CAM explains: the last one that gives feature maps to the network's head.

    Found by a forward pass, so it holds for any network: the head is the last module called with a weight of its
    own that mixes channels (a convolution or a linear layer); the layer is the last module that, before the head
    was called, gave a 4-D tensor (N, C, H, W) of more than one position which the logits depend on. Of nested
    modules that give the same tensor it is the outermost, such as a whole decoder; never `model` itself.
    LookupError when there is none.
    """
    maps: list[tuple[nn.Module, Tensor]] = []  # every call's map, in the order in which calls ended
    before_head = 0

    def started(module: nn.Module, _inputs: Any) -> None:
        nonlocal before_head
        if any(weight.ndim >= 2 for weight in module.parameters(recurse=False)):
            before_head = len(maps)

    def ended(module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            maps.append((module, output))

    inner = [module for module in model.modules() if module is not model]
    hooks = [module.register_forward_pre_hook(started) for module in inner]
    hooks += [module.register_forward_hook(ended) for module in inner]
    try:
        with torch.enable_grad():
            logits_NKHW = model(images_NCHW.detach().clone().requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    for module, features in reversed(maps[:before_head]):
        if features.requires_grad and _depends(logits_NKHW, features):
            return module
    raise LookupError("no layer before the network's last convolution gives a feature map that the logits depend on")


def explained(model: nn.Module, images_1CHW: Tensor, scheme: Scheme) -> Explanation:
    """Prediction and class heat of one patch (batch of 1); `model` is in evaluation mode."""
    layer = explained_layer(model, images_1CHW)
    with torch.inference_mode():
        classes_HW = model(images_1CHW)[0].argmax(dim=0)
    first_column = 0 if scheme.undefined_column else 1
    return Explanation(
        layer=next(name for name, module in model.named_modules() if module is layer),
        predicted_HW=classes_HW.cpu().numpy().astype(np.uint8) + np.uint8(first_column),
        heats=class_heats(model, layer, images_1CHW, classes_HW, outputs=len(scheme.columns)),
    )


def class_heats(
    model: nn.Module, layer: nn.Module, images_1CHW: Tensor, classes_HW: Tensor, *, outputs: int
) -> tuple[Heat | None, ...]:
    """Grad-CAM at `layer` for each of the network's outputs, as a share of each map's own maximum.

    `classes_HW` are the predicted outputs. A map is (H, W) of the image; all zero where nothing speaks for the
    class, None where no pixel is predicted as it.
    """
    from captum.attr import LayerGradCam  # a second's import, which only a finished trial needs

    heats: list[Heat | None] = []
    for output in range(outputs):
        inside_HW = classes_HW == output
        if not inside_HW.any():
            heats.append(None)
            continue

        def summed(images_NCHW: Tensor, output: int = output, inside_HW: Tensor = inside_HW) -> Tensor:
            logits_NKHW: Tensor = model(images_NCHW)
            return logits_NKHW[:, output, inside_HW].sum(dim=1)

        images = images_1CHW.detach().clone().requires_grad_()  # also for a network with frozen layers
        heat_11hw = LayerGradCam(summed, layer).attribute(images, relu_attributions=True)
        heat_11HW = interpolate(heat_11hw.detach().float(), classes_HW.shape, mode="bilinear", align_corners=False)
        heat_HW = heat_11HW[0, 0].cpu().numpy()
        heats.append(heat_HW / max(float(heat_HW.max()), np.finfo(np.float32).tiny))
    return tuple(heats)


def gate_coefficients(model: nn.Module, images_1CHW: Tensor) -> list[Heat]:
    """Every attention gate's coefficients (h, w) of one patch, deepest first."""
    with torch.inference_mode():
        _, gates_N1HW = model.forward_with_attention(images_1CHW)  # type: ignore[operator]
    return [gate_N1HW[0, 0].float().cpu().numpy() for gate_N1HW in gates_N1HW]


def gradcam_figure(example: Example, explanation: Explanation, columns: tuple[str, ...]) -> Figure:
    """Image, truth, prediction; then every class's heat over the image, outlined where it is predicted."""
    names = [name for name in columns if name != "undefined"]
    panels = 3 + len(columns)
    width = panels if panels <= 5 else min(-(-panels // 2), 6)
    height = -(-panels // width)
    figure = canvas(PANEL_IN * width + 0.75, (PANEL_IN + 0.35) * height + 0.75)
    axes = figure.subplots(height, width, squeeze=False)
    image, truth, prediction, *maps = axes.flat
    _show_example(image, example)
    for ax, classes_HW, title in (
        (truth, example.truth_HW, "truth"),
        (prediction, explanation.predicted_HW, "prediction"),
    ):
        _titled(ax, title)
        ax.imshow(coloured(classes_HW, names))
    grey_HW = example.image_HWC.mean(axis=2)
    first_column = 0 if len(columns) > len(names) else 1
    for number, (ax, name, heat_HW) in enumerate(zip(maps, columns, explanation.heats, strict=False), first_column):
        _titled(ax, spoken(name))
        if heat_HW is None:
            ax.imshow(grey_HW, cmap="gray", vmin=0, vmax=255, alpha=0.25)
            ax.text(0.5, 0.5, "not predicted", transform=ax.transAxes, ha="center", va="center", fontsize=9)
        else:
            ax.imshow(_heat_over(grey_HW, heat_HW, explanation.predicted_HW == number))
    for ax in maps[len(columns) :]:
        ax.set_axis_off()
    _colour_bar(figure, axes, HEAT, "share of the map's maximum")
    figure.suptitle(f"Grad-CAM at {explanation.layer}; outlined: larger areas predicted as the class", fontsize=9)
    figure.legend(
        handles=class_marks(names), loc="outside lower center", ncols=min(width, 5), fontsize=8, frameon=False
    )
    return figure


def attention_figure(example: Example, gates: list[Heat]) -> Figure:
    """The image, then every gate's coefficients on one scale from 0 to 1, deepest first."""
    figure = canvas(PANEL_IN * (1 + len(gates)) + 0.75, PANEL_IN + 0.9)
    axes = figure.subplots(1, 1 + len(gates), squeeze=False)
    _show_example(axes[0, 0], example)
    for ax, gate_HW in zip(axes[0, 1:], gates, strict=True):
        _titled(ax, f"1/{round(example.truth_HW.shape[0] / gate_HW.shape[0])}: {gate_HW.shape[0]} x {gate_HW.shape[1]}")
        ax.imshow(gate_HW, cmap=COEFFICIENTS, vmin=0, vmax=1, interpolation="nearest")
        ax.set_xlabel(f"{gate_HW.min():.2f} to {gate_HW.max():.2f}", fontsize=7.5)
    _colour_bar(figure, axes, COEFFICIENTS, "coefficient")
    figure.suptitle("Attention gates, deepest first: how much of each skip passes", fontsize=9)
    return figure


def _depends(logits_NKHW: Tensor, features: Tensor) -> bool:
    (gradient,) = torch.autograd.grad(logits_NKHW.sum(), features, retain_graph=True, allow_unused=True)
    return gradient is not None


def _titled(ax: Axes, title: str) -> None:
    as_picture(ax)
    ax.set_title(title, fontsize=8.5)


def _show_example(ax: Axes, example: Example) -> None:
    _titled(ax, "image")
    ax.imshow(example.image_HWC)
    scale_bar(ax, width_px=example.image_HWC.shape[1], um_per_px=example.um_per_px)
    ax.set_xlabel(shortened(example.name), fontsize=5, color="#666666", labelpad=2)


def _heat_over(grey_HW: NDArray[np.float64], heat_HW: Heat, inside_HW: NDArray[np.bool_]) -> Rgb:
    """The heat's colours over the grey image, white along the inner edge of the predicted areas."""
    from matplotlib import colormaps

    heat_HWC = colormaps[HEAT](heat_HW)[..., :3] * 255
    picture_HWC = (1 - HEAT_OPACITY) * grey_HW[..., None] + HEAT_OPACITY * heat_HWC
    # Without specks and thin lines first: the outlines of a speckled prediction would cover the whole map.
    areas_HW = cv2.morphologyEx(inside_HW.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    edge_HW = areas_HW > cv2.erode(areas_HW, np.ones((3, 3), np.uint8))
    picture_HWC[edge_HW] = 255
    return np.asarray(picture_HWC.round(), np.uint8)


def _colour_bar(figure: Figure, axes: NDArray[np.object_], cmap: str, label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize as Limits

    bar = figure.colorbar(ScalarMappable(Limits(0, 1), cmap), ax=axes, shrink=0.8, aspect=25, pad=0.01)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
