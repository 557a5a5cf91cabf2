"""What can be wrong with a cohort, numbered; every defect is found and named before anything is trained.

Here: what one pair of files tells, and exact duplicates. What takes the roles of patients is in `relations.py`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.config.labels import TIGER_IDS, UNDEFINED
from harness.data.png import BadPng, Pixels, checked_header, read_image, read_mask
from harness.data.splits import presence_of
from harness.data.tiger import Roi
from harness.files import fingerprint, read_json, sha256_file, write_json

# kind -> (number, what it means). Numbers are documented: they stay, new ones are added at the end.
KINDS: Mapping[str, tuple[int, str]] = {
    "missing_partner": (1, "an image without a mask of the same name, or the other way round"),
    "unreadable": (2, "not a PNG, truncated, or damaged (checksum or length of the pixel data)"),
    "absurd_size": (3, "the header gives a size that no region has; its pixels are not read"),
    "image_mode": (4, "the image is not 8-bit RGB"),
    "mask_mode": (5, "the mask is not 8-bit grey: palette, RGB(A), 16-bit; never read as grey values"),
    "size_mismatch": (6, "image and mask differ in size"),
    "unknown_label": (7, "the mask holds an id that is neither in a class nor ignored"),
    "undefined_mask": (8, "the mask is undefined (0) everywhere"),
    "duplicate": (9, "the same pixels as another image"),
    "unsafe_name": (10, "the path leaves its folder or holds a backslash or control characters"),
    "patient_in_two_splits": (11, "a split file names a patient twice, or one slide's two patients have two roles"),
    "near_duplicate": (12, "nearly the same picture as another image, whose patient has another role"),
    "overlap": (13, "shows tissue of another region of the same slide, and the two have different roles"),
}

CACHE_VERSION = 2
THUMBNAIL_PX = 32


@dataclass(frozen=True, slots=True)
class RoiFacts:
    """What was found in one good pair."""

    height_px: int
    width_px: int
    image_sha256: str  # of the file's bytes
    mask_sha256: str
    pixels_sha256: str  # of the decoded image: equal for the same picture saved twice
    label_counts: Mapping[int, int]  # pixels of each source id that occurs
    thumbnail: str  # base64 of 32 x 32 grey values: the image's brightness


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong; `number` and `kind` as in KINDS. `roi` names the region that it makes unusable."""

    number: int
    kind: str
    file: Path
    message: str
    roi: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.message} (defect {self.number}, {self.kind})"


@dataclass(frozen=True, slots=True)
class Checked:
    """A cohort after checking: the usable regions, facts of each by name, what is wrong with the others.

    `notices` are pairs that are defects as soon as their roles differ; they leave nothing out.
    """

    rois: tuple[Roi, ...]
    facts: Mapping[str, RoiFacts]
    defects: tuple[Defect, ...]
    data_hash: str
    notices: tuple[Defect, ...] = ()
    patients: frozenset[str] = frozenset()  # all there are, those without a usable region too

    @property
    def presence(self) -> dict[str, frozenset[int]]:
        """{patient: source ids that occur in any of their usable regions}."""
        return presence_of((roi.patient, self.facts[roi.name].label_counts) for roi in self.rois)


@dataclass(frozen=True, slots=True)
class _Problem:
    kind: str
    file: Path
    message: str


def defect_of(kind: str, file: Path, message: str, roi: str | None = None) -> Defect:
    """A defect with its kind's number."""
    return Defect(KINDS[kind][0], kind, file, message, roi)


def check_cohort(
    rois: Sequence[Roi],
    *,
    known_ids: frozenset[int] = frozenset(TIGER_IDS),
    on_progress: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
) -> Checked:
    """Read every pair once and list every defect; a region with one is not among the usable.

    `known_ids` are the source ids that may occur. `cache` is a JSON file that spares pairs of unchanged
    name, size and times; it may be absent or broken. `on_progress(done, total)` counts regions.
    """
    cached = _read_cache(cache)
    entries: dict[str, Any] = {}
    facts: dict[str, RoiFacts] = {}
    defects: list[Defect] = []
    for done, roi in enumerate(rois, start=1):
        found = list(_name_problems(roi)) or list(_missing(roi))
        if not found:
            stamp = _stamp(roi)
            known = _cached_facts(cached.get(roi.image.as_posix()), stamp)
            fact, found = (known, []) if known else _inspect(roi)
            if fact:
                entries[roi.image.as_posix()] = {"stamp": stamp, "facts": asdict(fact)}
                found = [*found, *_label_problems(roi, fact, known_ids)]
                facts[roi.name] = fact
        defects += [defect_of(problem.kind, problem.file, problem.message, roi.name) for problem in found]
        if found:
            facts.pop(roi.name, None)
        if on_progress:
            on_progress(done, len(rois))
    defects += _duplicates(rois, facts)
    merged = {**cached, **entries}  # a cache may serve several cohorts
    if cache is not None and merged != cached:
        write_json(cache, {"version": CACHE_VERSION, "files": merged})
    usable = tuple(roi for roi in rois if roi.name in facts)
    patients = frozenset(roi.patient for roi in rois)
    return Checked(usable, facts, tuple(defects), hash_cohort(usable, facts), patients=patients)


def left_out(rois: Sequence[Roi], defects: Sequence[Defect]) -> list[dict[str, Any]]:
    """For the record, each region that a defect made unusable: its files, their sha256, and what was wrong.

    A hash is None where the file cannot be read, or may not be (`unsafe_name`).
    """
    reasons: dict[str, list[Defect]] = {}
    for defect in defects:
        reasons.setdefault(defect.roi or "", []).append(defect)
    return [
        {
            "name": roi.name,
            "image": str(roi.image),
            "mask": str(roi.mask),
            "image_sha256": _sha256(roi.image, reasons[roi.name]),
            "mask_sha256": _sha256(roi.mask, reasons[roi.name]),
            "defects": [
                {"number": d.number, "kind": d.kind, "file": str(d.file), "message": d.message}
                for d in reasons[roi.name]
            ],
        }
        for roi in rois
        if roi.name in reasons
    ]


def _sha256(file: Path, reasons: Sequence[Defect]) -> str | None:
    if any(defect.kind == "unsafe_name" for defect in reasons) or not _is_file(file):
        return None
    try:
        return sha256_file(file)
    except OSError:
        return None


def hash_cohort(rois: Sequence[Roi], facts: Mapping[str, RoiFacts]) -> str:
    """Hash of every region's name, patient, centre, resolution and bytes; not of where the files lie."""
    origin = []
    for roi in sorted(rois, key=lambda roi: roi.name):
        found = facts[roi.name]
        origin.append([roi.name, roi.patient, roi.centre, roi.mpp, found.image_sha256, found.mask_sha256])
    return fingerprint(origin)


def _name_problems(roi: Roi) -> Iterator[_Problem]:
    for path in dict.fromkeys((roi.image, roi.mask)):
        parts = path.parts[len(roi.inside.parts) :] if roi.inside else path.parts[-1:]
        if ".." in path.parts or any("\\" in part or not part.isprintable() for part in parts):
            text = f"{path.name!r} is not a plain file name inside its folder; rename it"
            yield _Problem("unsafe_name", path, text)
        elif roi.inside and not _stays(path, roi.inside):
            text = f"lies outside {roi.inside}; paths are relative to that folder and stay in it, links followed"
            yield _Problem("unsafe_name", path, text)


def _stays(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle, a name longer than the file system's
        return False


def _missing(roi: Roi) -> Iterator[_Problem]:
    pair = ((roi.image, roi.mask, "mask"), (roi.mask, roi.image, "image"))
    for present, absent, what in pair:
        if _is_file(absent):
            continue
        if roi.inside:
            yield _Problem("missing_partner", absent, f"is not there; the table names it as the {what} of {roi.name}")
        else:
            where = f"expected {absent.parent.name}/{absent.name}"
            yield _Problem("missing_partner", present, f"has no {what} of the same name; {where}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system's
        return False


def _inspect(roi: Roi) -> tuple[RoiFacts | None, list[_Problem]]:
    """Headers of both files first, then their pixels. Memory: one region."""
    problems, sizes = [], []
    for path, is_mask in ((roi.image, False), (roi.mask, True)):
        try:
            header = checked_header(path, mask=is_mask)
            sizes.append((header.width_px, header.height_px))
        except BadPng as bad:
            problems.append(_Problem(bad.kind, path, bad.message))
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        (width, height), (mask_width, mask_height) = sizes
        text = f"the mask is {mask_width} x {mask_height} px, its image {width} x {height}"
        problems.append(_Problem("size_mismatch", roi.mask, text))
    return (None, problems) if problems else _inspect_pixels(roi)


def _inspect_pixels(roi: Roi) -> tuple[RoiFacts | None, list[_Problem]]:
    problems, decoded = [], []
    for path, read in ((roi.image, read_image), (roi.mask, read_mask)):
        try:
            decoded.append(read(path))
        except BadPng as bad:
            problems.append(_Problem(bad.kind, path, bad.message))
    if problems:
        return None, problems
    (image_HWC, image_bytes), (mask_HW, mask_bytes) = decoded
    counts = np.bincount(mask_HW.ravel(), minlength=256)
    facts = RoiFacts(
        height_px=mask_HW.shape[0],
        width_px=mask_HW.shape[1],
        image_sha256=hashlib.sha256(image_bytes).hexdigest(),
        mask_sha256=hashlib.sha256(mask_bytes).hexdigest(),
        pixels_sha256=hashlib.sha256(repr(image_HWC.shape).encode() + image_HWC.tobytes()).hexdigest(),
        label_counts={int(label): int(counts[label]) for label in np.flatnonzero(counts)},
        thumbnail=_thumbnail(image_HWC),
    )
    return facts, []


def _thumbnail(image_HWC: Pixels) -> str:
    grey = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return base64.b64encode(small.tobytes()).decode("ascii")


def _label_problems(roi: Roi, facts: RoiFacts, known_ids: frozenset[int]) -> Iterator[_Problem]:
    unknown = sorted(set(facts.label_counts) - known_ids)
    if unknown:
        counted = ", ".join(f"{label} ({facts.label_counts[label]:,} px)" for label in unknown)
        allowed = ", ".join(str(label) for label in sorted(known_ids))
        yield _Problem("unknown_label", roi.mask, f"holds unknown ids: {counted}; known are {allowed}")
    if set(facts.label_counts) <= {UNDEFINED}:
        yield _Problem("undefined_mask", roi.mask, "every pixel is 0, undefined")


def _duplicates(rois: Sequence[Roi], facts: dict[str, RoiFacts]) -> Iterator[Defect]:
    """The second and later ones of the same pixels; taken out of `facts`."""
    first: dict[str, Roi] = {}
    for roi in rois:
        if roi.name not in facts:
            continue
        original = first.setdefault(facts[roi.name].pixels_sha256, roi)
        if original is not roi:
            del facts[roi.name]
            yield defect_of("duplicate", roi.image, f"has the same pixels as {original.image}", roi.name)


def _stamp(roi: Roi) -> list[int]:
    """Size and times of both files. The change time as well: copying tools set the modification time back."""
    stats = (roi.image.stat(), roi.mask.stat())
    return [value for stat in stats for value in (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)]


def _read_cache(cache: Path | None) -> dict[str, Any]:
    """Entries by image path; a missing or broken cache is empty, it only costs time."""
    try:
        document = read_json(cache) if cache is not None else {}
        if document.get("version") != CACHE_VERSION:
            return {}
        files = document["files"]
    except (OSError, ValueError, KeyError, AttributeError):
        return {}
    return files if isinstance(files, dict) else {}


def _cached_facts(entry: Any, stamp: list[int]) -> RoiFacts | None:
    try:
        if entry is None or entry["stamp"] != stamp:
            return None
        if len(base64.b64decode(entry["facts"]["thumbnail"], validate=True)) != THUMBNAIL_PX**2:
            return None
        counts = {int(label): int(count) for label, count in entry["facts"]["label_counts"].items()}
        return RoiFacts(**{**entry["facts"], "label_counts": counts})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
