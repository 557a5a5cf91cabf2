"""A synthetic H&E cohort in TIGER's layout and names, whose truth is known: what the quickstart trains on.

Planted on purpose (measured in docs/phantom.md): colour does not tell the classes apart, shape and neighbourhood
do; in situ and invasive tumor have the same cells and differ by the outline of the duct. `phantom_layout` says where
tissues lie, `phantom_tissue` how they look, `phantom_stain` what each centre makes of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.data.phantom_layout import (
    GLANDS,
    IN_SITU,
    INFLAMED,
    INVASIVE,
    NECROSIS,
    REST,
    STROMA,
    UNDEFINED,
    Labels,
    lay_out,
)
from harness.data.phantom_nuclei import Look
from harness.data.phantom_stain import STAINS, Image, Stain
from harness.data.phantom_tissue import paint
from harness.errors import BadInput, Refused
from harness.files import fsync_folder

ROI_FOLDER = Path("wsirois") / "roi-level-annotations"


@dataclass(frozen=True, slots=True)
class Phantom:
    """Everything that determines the pixels of a cohort."""

    seed: int = 7
    patients: int = 24
    roi_px: int = 320  # typical side of a ROI at .5 um/px; sizes vary from about .75 to 1.4 times that
    tiny_share: float = 0.15  # patients that also have a tissue-cells ROI of 130 to 165 px


@dataclass(frozen=True, slots=True)
class _RoiPlan:
    """One ROI before it is painted."""

    folder: str  # "tissue-bcss" or "tissue-cells"
    slide: str
    shape: tuple[int, int]
    shares: dict[int, float]
    look: Look
    stain: Stain
    tilt_degrees: float  # 0: the mask fills the image
    seed: tuple[int, int, int]


# One turn of centres; two of three patients are TCGA's, as in TIGER.
_TURN = ("A2", "TC", "AR", "JB", "E2", "A2", "AR", "TC", "E2", "A2", "JB", "AR")

# Share of all pixels, and the share of patients that have the class at all.
_COMMON = {INVASIVE: (0.30, 1.0), STROMA: (0.30, 1.0), INFLAMED: (0.12, 0.70), REST: (0.15, 0.70),
           NECROSIS: (0.05, 0.42), IN_SITU: (0.05, 0.42), GLANDS: (0.03, 0.34)}  # fmt: skip
_ROIS = 2  # per patient, tiny ones aside
_RESTS = ("fat", "muscle", "fat", "blood", "fat", "muscle")
_SEEN_SHARE = 0.08  # a class that a patient has takes at least this much of one of the patient's ROIs


def synthesize(
    root: Path, phantom: Phantom | None = None, *, on_progress: Callable[[int, int], None] | None = None
) -> Path:
    """Write the cohort to `root` in one step and return `root`.

    The same `Phantom` gives the same bytes. `on_progress(done, total)` is called after every ROI.
    Raises Refused when `root` exists and is not an empty folder, BadInput when the phantom cannot be made.
    """
    phantom = phantom or Phantom()
    _check(phantom)
    _refuse_unless_empty(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    aside = root.with_name(f"{root.name}.tmp-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        plans = list(_plan(phantom))
        for done, plan in enumerate(plans, 1):
            _write_roi(aside, plan)
            if on_progress:
                on_progress(done, len(plans))
        _write(aside / "README.txt", _readme(phantom, len(plans)).encode())
        try:
            aside.replace(root)
        except OSError:  # another process may have been faster
            _refuse_unless_empty(root)
            raise
        fsync_folder(root.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return root


def _check(phantom: Phantom) -> None:
    limits = (
        ("seed", phantom.seed, 0, 2**63 - 1),
        ("patients", phantom.patients, 1, 999),
        ("roi_px", phantom.roi_px, 128, 4096),
        ("tiny_share", phantom.tiny_share, 0, 1),
    )
    problems = [f"phantom: {name} is {value}; allowed is {low} to {high}" for name, value, low, high in limits
                if not low <= value <= high]  # fmt: skip
    if problems:
        raise BadInput(problems)


def _refuse_unless_empty(root: Path) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise Refused(f"{root}: exists and is not an empty folder; name another one, or remove it first")


def _plan(phantom: Phantom) -> Iterator[_RoiPlan]:
    """The ROIs of the cohort, patient by patient."""
    rng = np.random.default_rng([phantom.seed, 0])
    centres = [_TURN[index % len(_TURN)] for index in range(phantom.patients)]
    traits = _deal_traits(phantom.patients, rng)
    tcga = [index for index, centre in enumerate(centres) if centre not in ("TC", "JB")]
    tiny = set(rng.permutation(tcga)[: int(np.ceil(phantom.tiny_share * phantom.patients))].tolist())
    rests = rng.permutation([_RESTS[roi % len(_RESTS)] for roi in range(_ROIS * phantom.patients)])
    for index, centre in enumerate(centres):
        of_patient = np.random.default_rng([phantom.seed, 1, index])
        look = _look(of_patient)
        stain = STAINS[centre]
        mixes = _mixes(traits[index], _ROIS, of_patient)
        for roi, (slide, mix) in enumerate(zip(_slides(centre, index, len(mixes)), mixes, strict=True)):
            tilted = centre not in ("TC", "JB") and of_patient.random() < 0.5
            tilt = float(of_patient.uniform(4, 20) * of_patient.choice((-1, 1))) if tilted else 0.0
            folder = "tissue-cells" if centre in ("TC", "JB") else "tissue-bcss"
            shape = _shape(phantom.roi_px, roi, of_patient)
            shown = replace(look, rest=str(rests[_ROIS * index + roi]))
            yield _RoiPlan(folder, slide, shape, mix, shown, stain, tilt, (phantom.seed, index, roi))
        if index in tiny:
            side = of_patient.integers(130, 166, 2)
            mix = _mixes(traits[index], 1, of_patient)[0]
            slide = _slides(centre, index, 1)[0]
            shape = (int(side[0]), int(side[1]))
            yield _RoiPlan("tissue-cells", slide, shape, mix, look, stain, 0.0, (phantom.seed, index, len(mixes)))


def _deal_traits(patients: int, rng: np.random.Generator) -> list[set[int]]:
    """Which classes each patient has: dealt like cards, so that even a small cohort has them all."""
    traits: list[set[int]] = [set() for _ in range(patients)]
    for label, (_, prevalence) in _COMMON.items():
        for index in rng.permutation(patients)[: int(np.ceil(prevalence * patients))]:
            traits[int(index)].add(label)
    return traits


def _mixes(traits: set[int], rois: int, rng: np.random.Generator) -> list[dict[int, float]]:
    """Class shares of each ROI of a patient: the first shows all that the patient has, the others hardly more
    than one tissue (without them the patch filter `non_homogeneous` would have nothing to drop)."""
    usual = np.array([_COMMON[label][0] / _COMMON[label][1] if label in traits else 0 for label in range(1, 8)])
    rare = np.isin(np.arange(1, 8), (IN_SITU, GLANDS, NECROSIS))
    mixed = np.where(rare, 1.5 * rois * usual, usual * rng.gamma(2.0, 0.5, 7))
    mixed = np.where(usual > 0, np.maximum(mixed / mixed.sum(), _SEEN_SHARE), 0)
    mixes = [mixed / mixed.sum()]
    for _ in range(1, rois):
        weights = np.where(rare, 0, usual) * rng.gamma(0.25, 4.0, 7)
        weights[weights < 0.15 * weights.max()] = 0
        mixes.append(weights / weights.sum())
    return [{label: float(mix[label - 1]) for label in range(1, 8)} for mix in mixes]


def _look(rng: np.random.Generator) -> Look:
    return Look(
        tumor_radius_px=float(rng.uniform(7.0, 10.0)),
        tumor_darkness=float(rng.uniform(0.85, 1.45)),
        pleomorphism=float(rng.uniform(0.6, 1.6)),
        lumens=float(rng.uniform(0, 1)),
        cracks=float(rng.uniform(0, 1)),
        loose=float(rng.uniform(0, 1)),
        cytoplasm=(float(rng.uniform(0.07, 0.20)), float(rng.uniform(0.40, 0.62))),
        collagen=(float(rng.uniform(0.02, 0.12)), float(rng.uniform(0.48, 0.72))),
        strength=(float(rng.uniform(0.82, 1.2)), float(rng.uniform(0.8, 1.25))),
        rest="fat",
    )


def _shape(roi_px: int, roi: int, rng: np.random.Generator) -> tuple[int, int]:
    smallest, largest = (0.75, 1.25) if roi == 0 else (0.85, 1.4)
    height, width = np.rint(roi_px * np.exp(rng.uniform(np.log(smallest), np.log(largest), 2))).astype(int)
    return int(height), int(width)


def _slides(centre: str, patient: int, rois: int) -> list[str]:
    """Slide names as each centre gives them. Participant codes starting with Z are in no real TCGA cohort."""
    if centre == "JB":  # biopsy and resection of one patient
        return [f"{100 + patient}{'BS'[roi % 2]}" for roi in range(rois)]
    if centre == "TC":
        return [f"TC_S01_P{patient + 1:06d}_C0001_B{101 + roi}" for roi in range(rois)]
    return [f"TCGA-{centre}-Z{patient + 1:03d}-DX1"] * rois


def _write_roi(root: Path, plan: _RoiPlan) -> None:
    rng = np.random.default_rng([2, *plan.seed])
    scene = lay_out(plan.shape, plan.shares, rng)
    image = paint(scene, plan.look, plan.stain, rng)
    mask = _tilted(scene.labels, plan.tilt_degrees)
    x, y = (int(corner) for corner in rng.integers(4_000, 60_000, 2))
    name = f"{plan.slide}_[{x}, {y}, {x + plan.shape[1]}, {y + plan.shape[0]}].png"
    folder = root / ROI_FOLDER / plan.folder
    _write(folder / "images" / name, _png(image[..., ::-1]))
    _write(folder / "masks" / name, _png(mask))


def _tilted(labels: Labels, degrees: float) -> Labels:
    """Labels inside a rectangle turned by `degrees` that touches the image's sides; 0 in the corners."""
    if degrees == 0:
        return labels
    height, width = labels.shape
    sine, cosine = abs(np.sin(np.radians(degrees))), np.cos(np.radians(degrees))
    # The turned rectangle (a, b) has the bounding box (a cos + b sin, a sin + b cos): solve for a, b.
    a, b = np.linalg.solve([[cosine, sine], [sine, cosine]], [width, height])
    corners = cv2.boxPoints(((width / 2, height / 2), (max(a, 0.5 * width), max(b, 0.5 * height)), degrees))
    inside = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(inside, [np.rint(corners).astype(np.int32)], 1)
    return np.where(inside == 1, labels, np.uint8(UNDEFINED)).astype(np.uint8)


def _png(pixels: Image | NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 4])
    return encoded.tobytes()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _readme(phantom: Phantom, rois: int) -> str:
    return (
        "SYNTHETIC: no pixel here comes from a patient.\n\n"
        "A phantom of breast histology in the layout and file naming of TIGER WSIROIS, made by\n"
        f"`harness data synth`: {rois} regions of {phantom.patients} invented patients, 0.5 um/px.\n"
        "Labels: 0 undefined, 1 invasive_tumor, 2 tumor_stroma, 3 in_situ_tumor, 4 healthy_glands,\n"
        "5 necrosis, 6 inflamed_stroma, 7 rest.\n"
        f"Made from {phantom!r}; the same line gives the same files.\n"
    )
