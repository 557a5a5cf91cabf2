"""TIGER's WSIROIS as they lie on disk.

`wsirois/roi-level-annotations/<folder>/{images,masks}/<slide>_[x1, y1, x2, y2].png`, the same name in both.
Names hold spaces, commas and brackets, so folders are listed and names compared as they are; nothing is a
glob. Source of the layout: https://tiger.grand-challenge.org/Data/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import BadInput
from harness.files import fingerprint, safe_name

TIGER_MPP = 0.5  # "a spacing of approximately 0.5 um/px", at WSI and at ROI level
ROI_FOLDER = Path("wsirois") / "roi-level-annotations"
FOLDERS = ("tissue-bcss", "tissue-cells")
WHERE_TO_GET = (
    "TIGER's regions (CC BY-NC 4.0, https://tiger.grand-challenge.org/Data/) come by "
    "`aws s3 cp s3://tiger-training/wsirois/ data/tiger/wsirois/ --recursive --no-sign-request`; "
    "to try without: --data phantom --smoke"
)

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the slide

_BOX = re.compile(r"^(?P<slide>.+?)_?\[(?P<box>-?\d{1,9}, *-?\d{1,9}, *-?\d{1,9}, *-?\d{1,9})\]$")
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
    box: Box | None = None  # where on the slide, when the name tells
    inside: Path | None = None  # the folder that both paths must stay in, links followed; None: found by listing it


def read_tiger(root: Path, *, patient_regex: str | None = None) -> tuple[Roi, ...]:
    """Every region under `root`, sorted by name. Half a pair is a region, too: `check_cohort` tells.

    The patient of a name that is not TIGER's is the first group of `patient_regex`, else the slide.
    Raises BadInput when there is no such folder, nothing in it, or the expression cannot be used.
    """
    pattern = _compiled(patient_regex)
    base = root / ROI_FOLDER
    present = [base / folder for folder in FOLDERS if (base / folder).is_dir()]
    if not present:
        raise BadInput(f"{base}: holds neither {FOLDERS[0]}/ nor {FOLDERS[1]}/; {WHERE_TO_GET}")
    rois = [roi for folder in present for roi in _read_folder(folder, pattern)]
    if not rois:
        looked = ", ".join(str(folder / "images") for folder in present)
        raise BadInput(f"{looked}: no .png file; expected <slide>_[x1, y1, x2, y2].png there and in masks/")
    return tuple(sorted(uniquely_named(rois), key=lambda roi: roi.name))


def slide_and_box(stem: str) -> tuple[str, Box | None]:
    """`("100B", (0, 0, 48, 32))` of `100B_[0, 0, 48, 32]`; a name without a box is a slide."""
    match = _BOX.match(stem)
    if match is None:
        return stem, None
    x1, y1, x2, y2 = (int(part) for part in match["box"].split(","))
    return match["slide"], (x1, y1, x2, y2)


def box_text(box: Box | None) -> str:
    """`0-0-48-32`, as a part of a region's name; empty without a box."""
    return "-".join(str(value) for value in box) if box else ""


def uniquely_named(rois: Iterable[Roi]) -> Iterator[Roi]:
    """Regions whose safe names are equal (`a b.png`, `a_b.png`) each get a piece of a hash of where their image is."""
    listed = list(rois)
    count = Counter(roi.name for roi in listed)
    for roi in listed:
        place = roi.image.as_posix().removeprefix(roi.inside.as_posix()) if roi.inside else roi.image.name
        yield replace(roi, name=f"{roi.name}__{fingerprint(place)[:8]}") if count[roi.name] > 1 else roi


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
        slide, box = slide_and_box(name[: -len(".png")])
        patient, known = patient_of(slide, pattern)
        yield Roi(
            name="__".join(part for part in (safe_name(folder.name), safe_name(slide), box_text(box)) if part),
            image=folder / "images" / name,
            mask=folder / "masks" / name,
            slide=slide,
            patient=patient,
            patient_known=known,
            centre=centre_of(slide),
            mpp=TIGER_MPP,
            box=box,
        )


def _png_names(folder: Path) -> set[str]:
    """Names of the PNG files of a folder; hidden ones (`._x.png` of macOS) are not data."""
    if not folder.is_dir():
        return set()
    names = {path.name for path in folder.iterdir()}
    return {name for name in names if name.lower().endswith(".png") and not name.startswith(".")}
