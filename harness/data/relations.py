"""Regions that are no strangers to each other: one slide under two patients, overlapping boxes, near-duplicates.

Each is harmless inside one role and a leak across two: then the score of the second role is partly memory. Found by
what names, tables and pictures tell; what that misses is listed in `docs/data.md`.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.spec import Split
from harness.data.check import THUMBNAIL_PX, Checked, Defect, RoiFacts, defect_of, hash_cohort
from harness.data.splits import ROLES, named_twice
from harness.data.tiger import Roi

Thumbnails = NDArray[np.float32]

# Measured on 574 pictures: 129 regions of the phantom, and three real regions whole and as tiles of 128 and 320 px.
# Copies: JPEG quality 80, colours +-3 %, size 90 %, 4 px cut off or shifted, all of that at once.
# Brightness, blurred: copies from .68 up (all but cuts and shifts from .99), 164,451 distinct pairs to .87, .03 % of
# them above the limit.
MIN_ALIKE = 0.65
# Detail, aligned: copies from .58 up (all but cuts and shifts from .99); distinct pairs to .34, those as alike in
# brightness as MIN_ALIKE to .20.
MIN_SAME_DETAIL = 0.5
# Thumbnail pixels; 4 px of a region of 128 px are one.
MAX_SHIFT = 3.5
# Grey levels. Below, a thumbnail is noise: a region of nearly one colour is not compared.
MIN_DETAIL = 1.0
BLOCK = 1024
WINDOW = cv2.createHanningWindow((THUMBNAIL_PX, THUMBNAIL_PX), cv2.CV_32F)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two regions that share tissue, and what the first does to the second, in words."""

    kind: str
    first: Roi
    second: Roi
    what: str


def judge_pairs(checked: Checked, roles: Mapping[str, str]) -> Checked:
    """The cohort with related pairs judged by the roles of their patients (`{patient: role}`).

    Across two roles a pair is a defect of the region whose role comes first in train, validation, test, which is no
    longer usable; otherwise, and where a role is not known, a notice.
    """
    defects: dict[tuple[str, str], Defect] = {}
    notices: list[Defect] = []
    for pair in related_pairs(checked.rois, checked.facts):
        ordered = sorted((pair.first, pair.second), key=lambda roi: _rank(roles.get(roi.patient)))
        names = [roles.get(roi.patient) for roi in ordered]
        if None in names or names[0] == names[1]:
            notices.append(defect_of(pair.kind, pair.first.image, f"{pair.what} {pair.second.image}"))
            continue
        loser, other = ordered
        text = f"{pair.what} {other.image}; {loser.patient} is in {names[0]}, {other.patient} in {names[1]}"
        defects.setdefault((pair.kind, loser.name), defect_of(pair.kind, loser.image, text, loser.name))
    lost = {name for _, name in defects}
    rois = tuple(roi for roi in checked.rois if roi.name not in lost)
    facts = {name: found for name, found in checked.facts.items() if name not in lost}
    every = (*checked.defects, *defects.values())
    return replace(
        checked, rois=rois, facts=facts, defects=every, notices=tuple(notices), data_hash=hash_cohort(rois, facts)
    )


def split_defects(file: Path, split: Split) -> tuple[Defect, ...]:
    """The patients that a split's file names twice."""
    return tuple(defect_of("patient_in_two_splits", file, line) for line in named_twice(split))


def notice_lines(notices: Sequence[Defect]) -> list[str]:
    """One line for each kind of pair that is no defect, with how many there are."""
    words = {
        "patient_in_two_splits": "pairs of regions on one slide under two patients",
        "near_duplicate": "pairs of regions with nearly the same picture",
        "overlap": "pairs of regions that share tissue",
    }
    count = Counter(notice.kind for notice in notices)
    return [f"{what}, none across roles: {count[kind]:,}" for kind, what in words.items() if count[kind]]


def related_pairs(rois: Sequence[Roi], facts: Mapping[str, RoiFacts]) -> list[Pair]:
    """Every pair on one slide under two patients, sharing tissue, or (if not) showing nearly the same picture."""
    overlapping = list(_overlaps(rois))
    named = {frozenset((pair.first.name, pair.second.name)) for pair in overlapping}
    alike = (pair for pair in _alike(rois, facts) if frozenset((pair.first.name, pair.second.name)) not in named)
    return [*_shared_slides(rois), *overlapping, *alike]


def _rank(role: str | None) -> int:
    return ROLES.index(role) if role in ROLES else len(ROLES)


def _shared_slides(rois: Sequence[Roi]) -> Iterator[Pair]:
    """Each region with the first one of every other patient on its slide. Only a table can say so, and only names
    with a box tell the slide."""
    slides: dict[tuple[str, str], dict[str, list[Roi]]] = {}
    for roi in rois:
        if roi.box:
            # Two folders may hold an `S1` each; in one folder it is the same slide.
            patients = slides.setdefault((roi.image.parent.as_posix(), roi.slide), {})
            patients.setdefault(roi.patient, []).append(roi)
    for patients in slides.values():
        for patient, members in patients.items():
            for other, (first, *_) in patients.items():
                if other != patient:
                    what = "is on the same slide, under another patient, as"
                    yield from (Pair("patient_in_two_splits", roi, first, what) for roi in members)


def _overlaps(rois: Sequence[Roi]) -> Iterator[Pair]:
    """Regions of one slide whose boxes share a pixel."""
    slides: dict[str, list[Roi]] = {}
    for roi in rois:
        if roi.box:
            slides.setdefault(roi.slide, []).append(roi)
    for members in slides.values():
        for index, first in enumerate(members):
            for second in members[index + 1 :]:
                same_slide = first.patient == second.patient or first.image.parent == second.image.parent
                if same_slide and (share := _shared(first, second)):
                    yield Pair("overlap", second, first, f"shares {share:.0%} of the smaller one's tissue with")


def _shared(first: Roi, second: Roi) -> float:
    """Share of the smaller box that lies in the other."""
    assert first.box and second.box
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = first.box, second.box
    width, height = min(ax2, bx2) - max(ax1, bx1), min(ay2, by2) - max(ay1, by1)
    smaller = min((ax2 - ax1) * (ay2 - ay1), (bx2 - bx1) * (by2 - by1))
    return width * height / smaller if width > 0 and height > 0 and smaller > 0 else 0.0


def _alike(rois: Sequence[Roi], facts: Mapping[str, RoiFacts]) -> Iterator[Pair]:
    """Pairs of nearly the same picture: alike in blurred brightness, then the same in detail."""
    thumbnails = [_thumbnail(facts[roi.name]) for roi in rois]
    details = [_detail(thumbnail) for thumbnail in thumbnails]
    places = [place for place, detail in enumerate(details) if detail.std() >= MIN_DETAIL]
    if len(places) < 2:
        return
    brightness = np.stack([_brightness(thumbnails[place]) for place in places])
    for start in range(0, len(places), BLOCK):
        likeness = brightness[start : start + BLOCK] @ brightness[start:].T
        for row, column in np.argwhere(np.triu(likeness, 1) >= MIN_ALIKE):
            first, second = places[start + row], places[start + column]
            if same_detail(thumbnails[first], details[first], details[second]) >= MIN_SAME_DETAIL:
                yield Pair("near_duplicate", rois[second], rois[first], "shows nearly the same picture as")


def _thumbnail(facts: RoiFacts) -> Thumbnails:
    values = np.frombuffer(base64.b64decode(facts.thumbnail), np.uint8)
    return values.reshape(THUMBNAIL_PX, THUMBNAIL_PX).astype(np.float32)


def _brightness(thumbnail: Thumbnails) -> NDArray[np.float32]:
    """256 numbers of mean 0 and length 1; blurred, so that a shift of a pixel or two changes them little."""
    blurred = cv2.GaussianBlur(thumbnail, (0, 0), 1.5, borderType=cv2.BORDER_REFLECT)
    return _unit(cv2.resize(blurred, (16, 16), interpolation=cv2.INTER_AREA).ravel())


def _detail(thumbnail: Thumbnails) -> Thumbnails:
    """What is left without the coarse light and dark, which many regions share (fat at one side, say)."""
    return thumbnail - cv2.GaussianBlur(thumbnail, (0, 0), 3, borderType=cv2.BORDER_REFLECT)


def same_detail(thumbnail: Thumbnails, detail: Thumbnails, other: Thumbnails) -> float:
    """Correlation of two pictures' detail, as they lie and with the first shifted onto the second; the better one."""
    # Windowed here: given a window, OpenCV 4.13 multiplies the caller's own arrays by it.
    (x, y), _ = cv2.phaseCorrelate(detail * WINDOW, other * WINDOW)
    best = _inner(detail, other)
    if 0 < max(abs(x), abs(y)) <= MAX_SHIFT:
        by = np.array([[1, 0, x], [0, 1, y]], np.float32)
        size = (THUMBNAIL_PX, THUMBNAIL_PX)
        shifted = cv2.warpAffine(thumbnail, by, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        best = max(best, _inner(_detail(np.asarray(shifted, np.float32)), other))
    return best


def _inner(first: Thumbnails, second: Thumbnails) -> float:
    """Correlation without the rim, which a shift fills with reflections."""
    inside = slice(4, -4)
    return float(_unit(first[inside, inside].ravel()) @ _unit(second[inside, inside].ravel()))


def _unit(values: NDArray[Any]) -> NDArray[np.float32]:
    """The values with mean 0 and length 1: inner products of such are correlations."""
    centred = (values - values.mean()).astype(np.float32)
    length = np.linalg.norm(centred)
    return np.asarray(centred / length, np.float32) if length else centred
