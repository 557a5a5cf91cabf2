"""Where trials disagree most: windows of the validation regions, ranked by disagreeing defined pixels."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.config.palette import CORRECT_RGB, UNDEFINED_RGB, WRONG_RGB
from harness.data.tiger import Roi
from harness.drawing import Classes, Rgb
from harness.errors import BadInput
from harness.regions import Judged, Said, read_judged, read_photo
from harness.report.compare import scored_of
from harness.report.sides import Side
from harness.report.tiles import cohort_of, listed_roi

WINDOW_UM = 128.0
WINDOWS = 8
PER_REGION = 2
STEPS = 4  # a window's places are a quarter of its side apart

# Verdicts: 0 undefined truth, 1 all right, 2 none right, 3 several right but not all, 4.. only the n-th right.
UNDEFINED_VERDICT, ALL_RIGHT, NONE_RIGHT, SEVERAL_RIGHT, ONLY_FIRST = range(5)
# The colours that the trials' curves have (s1, s2, ...), so that a letter has one colour on the page.
SIDES_RGB = ((0, 114, 178), (213, 94, 0), (0, 133, 95), (163, 84, 138), (138, 109, 0))
VERDICT_RGB = (UNDEFINED_RGB, CORRECT_RGB, WRONG_RGB, (160, 178, 196), *SIDES_RGB)


@dataclass(frozen=True, slots=True)
class Place:
    """A rectangle of a region, in the region's own pixels, and how many defined pixels in it are not agreed on."""

    top: int
    left: int
    height: int
    width: int
    disagreeing: int

    def of(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """This part of an image or a mask."""
        return pixels[self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, slots=True)
class Window:
    """One place where trials disagree: its pixels, cut out."""

    roi: Roi
    place: Place
    judged: Judged
    image_HWC: Rgb

    @property
    def defined(self) -> int:
        """Pixels with a true class."""
        return int(np.count_nonzero(self.judged.truth_HW))


def most_disagreeing(sides: Sequence[Side], *, at_most: int = WINDOWS) -> tuple[list[Window], list[str]]:
    """The windows where trials of one comparability group disagree most, best first; and what is not drawn, and why.

    Masks and predictions are read once, a region at a time; images only of regions that are shown.
    """
    try:
        cohort = cohort_of(sides[0].sweep)
    except BadInput as error:
        return [], [str(error).splitlines()[0]]
    found: list[tuple[Roi, Place, Judged]] = []
    missing: list[str] = []
    for matrices in scored_of(sides[0]).rois:
        try:
            roi = listed_roi(cohort, matrices.name)
            judged = read_judged(roi, [_said(side, matrices.name) for side in sides])
        except BadInput as error:
            missing.append(str(error).splitlines()[0])
            continue
        found += [(roi, place, _cut(judged, place)) for place in places(disagreement(judged), side_px(roi.mpp))]
        found = heapq.nsmallest(at_most, found, key=lambda one: (-one[1].disagreeing, one[0].name, one[1].top))
    return _with_images(found, missing), missing


def _with_images(found: Sequence[tuple[Roi, Place, Judged]], missing: list[str]) -> list[Window]:
    """Every window with its image, each region decoded once; what cannot be read is added to `missing`."""
    cuts: dict[int, Window] = {}
    for name in dict.fromkeys(roi.name for roi, _, _ in found):
        own = [(index, *one) for index, one in enumerate(found) if one[0].name == name]
        try:
            image_HWC = read_photo(own[0][1])
        except BadInput as error:
            missing.append(str(error).splitlines()[0])
            continue
        for index, roi, place, judged in own:
            # A copy: a view would keep all the region's pixels in memory.
            cuts[index] = Window(roi, place, judged, place.of(image_HWC).copy())
    return [cuts[index] for index in sorted(cuts)]


def _said(side: Side, name: str) -> Said:
    scored = scored_of(side)
    return Said(side.trial.folder / "predictions", next(one for one in scored.rois if one.name == name), scored.scheme)


def _cut(judged: Judged, place: Place) -> Judged:
    return Judged(place.of(judged.truth_HW).copy(), tuple(place.of(said_HW).copy() for said_HW in judged.predicted_HW))


def side_px(mpp: float) -> int:
    """A window's side: 256 px at .5 um/px."""
    return max(1, round(WINDOW_UM / mpp))


def disagreement(judged: Judged) -> NDArray[np.bool_]:
    """(H, W): defined pixels that not all trials called the same."""
    first_HW, *others = judged.predicted_HW
    differ_HW = np.zeros(first_HW.shape, np.bool_)
    for other_HW in others:
        differ_HW |= other_HW != first_HW
    differ_HW &= judged.truth_HW != 0
    return differ_HW


def places(disagree_HW: NDArray[np.bool_], side: int, *, at_most: int = PER_REGION) -> list[Place]:
    """The windows with most disagreeing pixels that do not overlap, best first; of equals the upper, then the left.

    A region smaller than a window is one window. Windows without a disagreeing pixel are none.
    """
    import cv2  # .02 s that a report without pictures need not spend

    height, width = (min(side, length) for length in disagree_HW.shape)
    sums = cv2.integral(disagree_HW.astype(np.uint8))
    tops, lefts = _starts(disagree_HW.shape[0], height), _starts(disagree_HW.shape[1], width)
    counts = (
        sums[np.ix_(tops + height, lefts + width)]
        - sums[np.ix_(tops, lefts + width)]
        - sums[np.ix_(tops + height, lefts)]
        + sums[np.ix_(tops, lefts)]
    )
    found: list[Place] = []
    while len(found) < at_most and counts.max() > 0:
        row, column = np.unravel_index(int(counts.argmax()), counts.shape)
        top, left = int(tops[row]), int(lefts[column])
        found.append(Place(top, left, height, width, int(counts[row, column])))
        counts[np.ix_(np.abs(tops - top) < height, np.abs(lefts - left) < width)] = 0
    return found


def verdicts(judged: Judged) -> Classes:
    """Who is right at each pixel, as numbers (see the top of this file)."""
    right_NHW = np.stack([said_HW == judged.truth_HW for said_HW in judged.predicted_HW])
    count_HW, trials = right_NHW.sum(axis=0), len(right_NHW)
    only_HW = ONLY_FIRST + right_NHW.argmax(axis=0)
    found = np.where(count_HW == 1, only_HW, np.where(count_HW == 0, NONE_RIGHT, SEVERAL_RIGHT))
    found[count_HW == trials] = ALL_RIGHT
    found[judged.truth_HW == 0] = UNDEFINED_VERDICT
    return found.astype(np.uint8)


def verdict_names(letters: Sequence[str]) -> dict[int, str]:
    """What the verdicts that can occur among these trials are called, in the order of a legend."""
    if len(letters) == 2:
        named = {ALL_RIGHT: "both right", NONE_RIGHT: "both wrong"}
    else:
        named = {ALL_RIGHT: "all right", SEVERAL_RIGHT: "several right, not all", NONE_RIGHT: "all wrong"}
    only = {ONLY_FIRST + index: f"only {letter} right" for index, letter in enumerate(letters)}
    return {ALL_RIGHT: named.pop(ALL_RIGHT), **only, **named, UNDEFINED_VERDICT: "undefined"}


def verdict_counts(found_HW: Classes, letters: Sequence[str]) -> dict[str, int]:
    """Pixels of every verdict, by its name."""
    counts = np.bincount(found_HW.ravel(), minlength=ONLY_FIRST + len(letters))
    return {name: int(counts[verdict]) for verdict, name in verdict_names(letters).items()}


def _starts(length: int, window: int) -> NDArray[np.int64]:
    """Where windows may begin along one side: a quarter of the window apart, and flush with the end."""
    return np.unique([*range(0, length - window, max(1, window // STEPS)), length - window])
