"""Small pictures beside a page, in a grid: regions of the validation set, their truth, and what trials said."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.config.palette import UNDEFINED_RGB, class_colours, hex_colour
from harness.data.cohort import read_cohort
from harness.data.png import SIGNATURE
from harness.data.tiger import Roi
from harness.drawing import Classes, Rgb, spoken
from harness.errors import BadInput
from harness.report.queries import Sweep

TILE_PX = 240  # longer side of a tile: sharp at 160 CSS pixels on most screens
JPEG_QUALITY = 82  # 240 px of stained tissue: 13 kB, a PNG 110 kB

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Tile:
    """One picture of a grid: a file in `figures/`, what it shows in words, and a line below it."""

    file: str
    alt: str
    text: str
    width_px: int
    height_px: int

    @property
    def path(self) -> str:
        """As the page links it; `file` is made of safe names only."""
        return f"figures/{self.file}"


@dataclass(frozen=True, slots=True)
class TileRow:
    """One region or window: its name, a line about it, and its pictures."""

    name: str
    text: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Rows of tiles under the heads of their columns, and what the colours mean (hex, name)."""

    caption: str
    columns: tuple[tuple[str, str], ...]  # a head, and the small print under it
    rows: tuple[TileRow, ...]
    legend: tuple[tuple[str, str], ...]


def cohort_of(sweep: Sweep) -> Mapping[str, Roi]:
    """The sweep's regions by name, as they are listed now. BadInput when its data are not where they were.

    Synthetic data lie in the home: they are found there when the home was moved.
    """
    root = Path(str(sweep.data.get("root") or ""))
    moved = sweep.folder.parents[2] / "phantoms" / root.name
    if not root.exists() and moved.is_dir():
        root = moved
    if not sweep.data.get("root") or not root.exists():
        raise BadInput(f"the data of {sweep.name} are no longer at {root}")
    return {roi.name: roi for roi in read_cohort(root)}


def listed_roi(cohort: Mapping[str, Roi], name: str) -> Roi:
    """The region of that name; BadInput when it is gone."""
    if name not in cohort:
        raise BadInput(f"{name}: no longer among the data")
    return cohort[name]


def class_legend(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Every class in its colour, then undefined."""
    known = {name: colour for name, colour in class_colours(names).items() if name != "undefined"}
    marks = [(hex_colour(colour), spoken(name)) for name, colour in known.items()]
    return (*marks, (hex_colour(UNDEFINED_RGB), "undefined"))


def class_tile(classes_HW: Classes, names: Sequence[str]) -> bytes:
    """A PNG of classes 1..K, called `names`, in their colours; 0 is undefined."""
    return flat_png(classes_HW, (UNDEFINED_RGB, *class_colours(names).values()))


def photo_jpeg(image_HWC: Rgb) -> bytes:
    """A JPEG of an image."""
    import cv2  # .02 s that a report without pictures need not spend

    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    encoded, content = cv2.imencode(".jpg", np.ascontiguousarray(image_HWC[..., ::-1]), quality)
    assert encoded, image_HWC.shape
    return content.tobytes()


def flat_png(values_HW: Classes, colours: Sequence[Colour]) -> bytes:
    """A palette PNG: value v in the v-th colour. A third of the bytes of the same picture in RGB."""
    height, width = values_HW.shape
    rows = np.zeros((height, width + 1), np.uint8)  # every row begins with its filter: 0, none
    rows[:, 1:] = values_HW
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", bytes(part for colour in colours for part in colour)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
