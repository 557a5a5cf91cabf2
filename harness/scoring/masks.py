"""Masks that another tool made: which file is whose, and its values exactly as they are stored.

Read more leniently than the truth (harness/data/png.py): a palette mask gives its indices, 16 bits are fine while the
values fit. Never resized, never turned into grey, never guessed.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from harness.data.png import read_header
from harness.data.tiger import Roi
from harness.errors import BadInput

SUFFIXES = (".png", ".tif", ".tiff")
# One value a pixel: grey of 1, 8, 16 or 32 bits, and palette, whose indices are the values.
MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_BITS_PER_SAMPLE = 258  # the TIFF tag
# What Pillow raises on files that are damaged or made to harm.
_UNREADABLE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
               MemoryError, struct.error, zlib.error, Warning)  # fmt: skip
SHOWN_VALUES = 10

# Pillow's own limit is below the largest region; here a size is compared with the region's before pixels are read.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class Matched:
    """The mask of each region, by its name, and what else the folder holds."""

    files: Mapping[str, Path]
    by_stem: tuple[str, ...]  # regions whose mask has the file name of their image or mask
    others: tuple[Path, ...]


def match_masks(folder: Path, wanted: Sequence[Roi], every: Iterable[Roi]) -> tuple[Matched, list[str]]:
    """The file of each wanted region, and one line for each that has none or several.

    A mask is named after its region, or as the region's image or mask where no other of `every` region is called so.
    BadInput when `folder` cannot be listed.
    """
    owners = _owners(every)
    listed = sorted(_listed(folder), key=lambda path: path.name)
    masks = [path for path in listed if path.suffix.lower() in SUFFIXES]
    named: dict[str, list[Path]] = {}
    problems = []
    names = {roi.name for roi in wanted}
    for path in masks:
        owned = owners.get(path.stem, ())
        if len(owned) == 1 and owned[0] in names:
            named.setdefault(owned[0], []).append(path)
        elif names & set(owned):
            problems.append(f"{path}: {len(owned)} regions have files of this name; rename it to one of "
                            f"{', '.join(f'{name}.png' for name in owned)}")  # fmt: skip
    for roi in wanted:
        files = named.get(roi.name, [])
        if not files:
            problems.append(_missing(folder, roi, listed))
        elif len(files) > 1:
            problems.append(f"{folder}: {' and '.join(path.name for path in files)} are masks of {roi.name}; keep one")
    taken = {path for files in named.values() for path in files}
    found = {name: files[0] for name, files in named.items()}
    by_stem = tuple(sorted(name for name, path in found.items() if path.stem != name))
    return Matched(found, by_stem, tuple(path for path in listed if path not in taken)), problems


def read_values(path: Path, *, width_px: int, height_px: int, allowed: Mapping[int, str]) -> NDArray[np.uint8]:
    """(H, W) values of a mask as they are stored. `allowed`: value -> what it is called.

    BadInput names the file and what is wrong with it: not a PNG or TIFF, damaged, colours, another size than the
    region's, values that are not allowed.
    """
    values_HW = _values(path, (width_px, height_px))
    found, counts = np.unique(values_HW, return_counts=True)
    bad = [(int(value), int(n)) for value, n in zip(found, counts, strict=True) if int(value) not in allowed]
    if bad:
        shown = ", ".join(f"{value} ({count:,} px)" for value, count in bad[:SHOWN_VALUES])
        more = f", ... ({len(bad)} in all)" if len(bad) > SHOWN_VALUES else ""
        raise BadInput(f"{path}: holds values that are no class: {shown}{more}")
    return values_HW.astype(np.uint8)


def _owners(rois: Iterable[Roi]) -> dict[str, tuple[str, ...]]:
    """{a file's stem: names of the regions it may stand for}; a region's own name is nobody else's."""
    listed = list(rois)
    stems: dict[str, dict[str, None]] = {}
    for roi in listed:
        for stem in (roi.image.stem, roi.mask.stem):
            stems.setdefault(stem, {})[roi.name] = None
    return {stem: tuple(names) for stem, names in stems.items()} | {roi.name: (roi.name,) for roi in listed}


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise BadInput(f"--pred {folder}: cannot be listed: {error.strerror or error}") from None


def _missing(folder: Path, roi: Roi, listed: Sequence[Path]) -> str:
    wrong = [path.name for path in listed if path.stem in (roi.name, roi.image.stem, roi.mask.stem)
             and path.suffix.lower() not in SUFFIXES]  # fmt: skip
    instead = f"; {wrong[0]} is there, but a mask is a PNG or TIFF file" if wrong else ""
    return f"{folder / roi.name}.png: is missing{instead}"


def _values(path: Path, size_px: tuple[int, int]) -> NDArray[np.integer | np.bool_]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Pillow only warns of some truncated files
            with Image.open(path, formats=("PNG", "TIFF")) as picture:
                _check(picture, path, size_px)  # before the pixels are read
                picture.load()
                _check(picture, path, size_px)  # a TIFF may ask to be turned
                return _unscaled(np.asarray(picture), _grey_bits(picture, path))
    except UnidentifiedImageError:
        raise BadInput(f"{path}: is neither a PNG nor a TIFF file, or its beginning is damaged") from None
    except BadInput:
        raise
    except _UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "damaged"
        raise BadInput(f"{path}: cannot be read: {reason.splitlines()[0]}") from None


def _check(picture: Image.Image, path: Path, size_px: tuple[int, int]) -> None:
    pages = getattr(picture, "n_frames", 1)
    if pages > 1:
        raise BadInput(f"{path}: holds {pages} pictures; a mask is one")
    if picture.mode not in MODES:
        what = {"RGB": "in colour (RGB)", "RGBA": "in colour (RGBA)", "F": "of fractions (float)"}
        kind = what.get(picture.mode, f"of mode {picture.mode}")
        raise BadInput(f"{path}: is {kind}; a mask has one whole number a pixel (grey or palette)")
    if picture.size != size_px:
        (width, height), (own_width, own_height) = picture.size, size_px
        hint = "; is it transposed?" if (height, width) == size_px else ""
        raise BadInput(f"{path}: is {width} x {height} px, its region {own_width} x {own_height}{hint}")


def _grey_bits(picture: Image.Image, path: Path) -> int:
    """Bits of a grey value below 8; 8 for everything that Pillow gives as it is stored."""
    if picture.mode not in ("1", "L"):
        return 8
    if picture.format == "PNG":
        return read_header(path).bits
    return int(picture.tag_v2.get(_BITS_PER_SAMPLE, (8,))[0])  # type: ignore[attr-defined]  # of TIFF files only


def _unscaled(values_HW: NDArray[np.integer | np.bool_], bits: int) -> NDArray[np.integer | np.bool_]:
    """Pillow stretches greys of 2 and 4 bits to 0..255: 0, 85, 170, 255 are 0, 1, 2, 3 in the file."""
    return values_HW // (255 // (2**bits - 1)) if bits in (2, 4) else values_HW
