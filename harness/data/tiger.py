"""TIGER's WSIROIS as they lie on disk.

`wsirois/roi-level-annotations/<folder>/{images,masks}/<slide>_[x1, y1, x2, y2].png`, the same name in both.
Names hold spaces, commas and brackets, so folders are listed and names compared as they are; nothing is a
glob. Source of the layout: https://tiger.grand-challenge.org/Data/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import BadInput
from harness.files import fingerprint, safe_name

TIGER_MPP = 0.5  # "a spacing of approximately 0.5 um/px", at WSI and at ROI level
ROI_FOLDER = Path("wsirois") / "roi-level-annotations"
FOLDERS = ("tissue-bcss", "tissue-cells")

_BOX = re.compile(r"^(?P<slide>.+?)_?\[(?P<box>-?\d+, *-?\d+, *-?\d+, *-?\d+)\]$")
_TCGA = re.compile(r"^TCGA-(?P<site>[A-Z0-9]{2})-[A-Z0-9]{4}(?=$|[-_.])")
_RUMC = re.compile(r"^TC_S\d+_(?P<patient>P\d+)_C\d+_B\d+$")  # Radboud University Medical Center, Nijmegen
_JB = re.compile(r"^(?P<patient>\d+)[BS]$")  # Jules Bordet Institut, Brussels: biopsy or surgical resection
_TCGA_PATIENT_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Roi:
    """One annotated region: an RGB image and a mask of source ids of the same size."""

    name: str  # unique in the cohort and safe as a file name: "<folder>__<slide>__x1-y1-x2-y2"
    image: Path
    mask: Path
    slide: str
    patient: str
    patient_known: bool  # False: nothing tells the patient, so the slide stands for it
    centre: str
    mpp: float


def read_cohort(root: Path, *, patient_regex: str | None = None) -> tuple[Roi, ...]:
    """Every region under `root`, sorted by name. Half a pair is a region, too: `check_cohort` tells.

    The patient of a name that is not TIGER's is the first group of `patient_regex`, else the slide.
    Raises BadInput when there is no such folder, nothing in it, or the expression cannot be used.
    """
    pattern = _compiled(patient_regex)
    base = root / ROI_FOLDER
    present = [base / folder for folder in FOLDERS if (base / folder).is_dir()]
    if not present:
        raise BadInput(
            f"{base}: holds neither {FOLDERS[0]}/ nor {FOLDERS[1]}/; data.root is the folder with TIGER's "
            "wsirois/ (https://tiger.grand-challenge.org/Data/, CC BY-NC 4.0); "
            "to try it without: --data phantom --smoke"
        )
    rois = [roi for folder in present for roi in _read_folder(folder, pattern)]
    if not rois:
        looked = ", ".join(str(folder / "images") for folder in present)
        raise BadInput(f"{looked}: no .png file; expected <slide>_[x1, y1, x2, y2].png there and in masks/")
    return tuple(sorted(_uniquely_named(rois), key=lambda roi: roi.name))


def patient_of(slide: str, pattern: re.Pattern[str] | None = None) -> tuple[str, bool]:
    """The patient, and whether the name tells it: TIGER's three sources, then `pattern`, else the slide."""
    if _TCGA.match(slide):
        return slide[:_TCGA_PATIENT_LENGTH], True
    for known in (_RUMC, _JB):
        match = known.match(slide)
        if match:
            return match["patient"], True
    match = pattern.search(slide) if pattern else None
    if match and match.group(1):
        return match.group(1), True
    return slide, False


def centre_of(slide: str) -> str:
    """`A2` of `TCGA-A2-...` (tissue source site), `RUMC` of `TC_S01_...`, `JB` of `100B`, else `unknown`."""
    tcga = _TCGA.match(slide)
    if tcga:
        return tcga["site"]
    if _RUMC.match(slide):
        return "RUMC"
    return "JB" if _JB.match(slide) else "unknown"


def _compiled(patient_regex: str | None) -> re.Pattern[str] | None:
    if patient_regex is None:
        return None
    try:
        pattern = re.compile(patient_regex)
    except re.error as error:
        text = f"{patient_regex!r} is not a regular expression: {error}"
        raise BadInput(f"data.patient_regex: {text}") from None
    if pattern.groups < 1:
        raise BadInput(f"data.patient_regex: {patient_regex!r} needs a group: put the patient's part in ( )")
    return pattern


def _read_folder(folder: Path, pattern: re.Pattern[str] | None) -> Iterator[Roi]:
    names = _png_names(folder / "images") | _png_names(folder / "masks")
    for name in sorted(names):
        stem = name[: -len(".png")]
        match = _BOX.match(stem)
        slide = match["slide"] if match else stem
        box = "-".join(part.strip() for part in match["box"].split(",")) if match else ""
        patient, known = patient_of(slide, pattern)
        yield Roi(
            name="__".join(part for part in (safe_name(folder.name), safe_name(slide), box) if part),
            image=folder / "images" / name,
            mask=folder / "masks" / name,
            slide=slide,
            patient=patient,
            patient_known=known,
            centre=centre_of(slide),
            mpp=TIGER_MPP,
        )


def _png_names(folder: Path) -> set[str]:
    """Names of the PNG files of a folder; hidden ones (`._x.png` of macOS) are not data."""
    if not folder.is_dir():
        return set()
    names = {path.name for path in folder.iterdir()}
    return {name for name in names if name.lower().endswith(".png") and not name.startswith(".")}


def _uniquely_named(rois: list[Roi]) -> Iterator[Roi]:
    """Files whose safe names are equal (`a b.png`, `a_b.png`) each get a piece of their own name's hash."""
    count = Counter(roi.name for roi in rois)
    for roi in rois:
        clash = count[roi.name] > 1
        yield replace(roi, name=f"{roi.name}__{fingerprint(roi.image.name)[:8]}") if clash else roi
