"""What a completed trial leaves behind: weights, scores, predictions, figures and the facts around them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from harness.checkpoint import Progress
from harness.config.spec import TrialSpec
from harness.files import settle_tree, write_bytes, write_json, write_text
from harness.scores import pooled, score_rois, scores_document, support
from harness.train import FitResult, TrialData
from harness.trial.environment import environment, peak_memory_bytes
from harness.trial.explain import write_explanations
from harness.trial.figures import write_figures
from harness.trial.speed import ms_per_megapixel


@dataclass(frozen=True, slots=True)
class PatchFacts:
    """Counts of a trial's data. `rois_resized` counts the whole cohort's ROIs smaller than a patch."""

    train: int
    train_unfiltered: int
    validation: int
    rois_validation: int
    rois_resized: int


def write_outputs(
    folder: Path,
    spec: TrialSpec,
    data: TrialData,
    result: FitResult,
    *,
    model: nn.Module,
    images: Mapping[str, Path],
    device: torch.device,
    parameters: int,
    patches: PatchFacts,
    seconds: float,
) -> None:
    """Fill `folder` with `harness.trial.folder.OUTPUTS`, all on disk at the end. `images`: ROI name -> file.

    `model` is the trained network on `device`; it leaves with the best epoch's weights.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / "environment.json", environment(device), settle=False)
    write_json(folder / "model.json", model_document(spec), settle=False)
    write_bytes(folder / "weights.safetensors", safetensors.torch.save(result.weights), settle=False)
    # Without line breaks: with them Python's own encoder writes it, 20 times slower and four times as large.
    write_text(folder / "scores.json", json.dumps(_scores(data, result), allow_nan=False) + "\n", settle=False)
    for name, labels_HW in result.evaluation.predictions.items():
        write_bytes(folder / "predictions" / f"{name}.png", png(labels_HW), settle=False)
    write_figures(folder / "figures", data, result, images=images)
    peak_bytes = peak_memory_bytes(device)  # before captum is imported, which is no cost of the training
    model.load_state_dict(result.weights)
    speed = ms_per_megapixel(model, spec, data, device=device)
    notes = write_explanations(folder / "figures", data, model, normalize=spec.train.normalize, device=device)
    document = result_document(spec, data, result)
    write_json(
        folder / "result.json",
        {
            **document,
            "seconds": seconds,
            "parameters": parameters,
            "ms_per_megapixel": speed,
            "device": str(device),
            "peak_memory_bytes": peak_bytes,
            "patches": asdict(patches),
            "figure_notes": notes,
        },
        settle=False,
    )
    # Each file on its own waits twice for the disk; nobody reads them before the attempt said that it has ended.
    settle_tree(folder)


def result_document(spec: TrialSpec, data: TrialData, result: FitResult) -> dict[str, Any]:
    """What training found, without where it ran. Scores that are n/a are null."""
    progress, rois = result.progress, result.evaluation.rois
    at_best = progress.history[result.best_epoch - 1]
    return {
        "best_epoch": result.best_epoch,
        "epochs_run": progress.epoch,
        "objective": {**spec.objective.model_dump(mode="json"), "value": result.objective},
        "scores": score_rois(rois, data.scheme),
        "support": support(pooled([roi.matrix for roi in rois]), data.scheme),
        "paper": {
            **{name: value for name, value in at_best.items() if name.startswith("paper/")},
            **best_of_any_epoch(progress),
        },
        "seconds_per_epoch": float(np.mean(progress.seconds)),
        "lr_cuts": progress.lr_cuts,
        "stopped_early": result.stopped_early,
        "flags": _flags(spec, result),
    }


def best_of_any_epoch(progress: Progress) -> dict[str, float]:
    """Each metric at its own best epoch, as the paper's "best values achieved" may be; never ranked."""
    best: dict[str, float] = {}
    for name, pick in (("iou", max), ("dice", max), ("loss", min)):
        values = [epoch[f"paper/val/{name}"] for epoch in progress.history if f"paper/val/{name}" in epoch]
        if values:
            best[f"paper/best_of_any_epoch/val/{name}"] = pick(values)
    return best


def model_document(spec: TrialSpec) -> dict[str, Any]:
    """What is needed, beside the weights, to predict with the model."""
    names = spec.dataset.labels.class_names
    return {
        "model": spec.model.model_dump(mode="json"),
        "classes": ["undefined", *names] if spec.train.undefined == "as_paper" else list(names),
        "undefined": spec.train.undefined,
        "normalize": spec.train.normalize,
        "input_px": spec.dataset.cut.input_px,
        "cut": spec.dataset.cut.model_dump(mode="json"),
        "labels": spec.dataset.labels.model_dump(mode="json"),
    }


def png(labels_HW: NDArray[np.uint8]) -> bytes:
    """A label map as an 8-bit grey PNG: lossless, one value a pixel."""
    encoded, content = cv2.imencode(".png", labels_HW)
    if not encoded:
        raise ValueError(f"a label map of shape {labels_HW.shape} cannot be written as PNG")
    return content.tobytes()


def _scores(data: TrialData, result: FitResult) -> dict[str, object]:
    epochs = [
        {"epoch": number, "patients": patients} for number, patients in enumerate(result.progress.patients, start=1)
    ]
    return scores_document(result.evaluation.rois, data.scheme, epoch=result.best_epoch, epochs=epochs)


def _flags(spec: TrialSpec, result: FitResult) -> list[str]:
    """What a reader of the score should know."""
    flags = []
    if result.best_epoch == spec.train.epochs > 1:
        flags.append("best epoch is the last")
    if spec.train.accumulate > 1:
        flags.append(f"batch in {spec.train.accumulate} parts")
    return flags
