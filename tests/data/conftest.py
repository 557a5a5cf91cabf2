"""Small cohorts in TIGER's layout, written pixel by pixel."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def png_bytes(rows: bytes, width: int, height: int, *, bits: int, colour: int, interlace: int = 0) -> bytes:
    """A PNG from its filtered rows; a palette file gets the greys that red, green and blue turn into."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace)
    palette = png_chunk(b"PLTE", bytes(v for grey in (0, 76, 150, 29) for v in [grey] * 3)) if colour == 3 else b""
    data = png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + palette + data + png_chunk(b"IEND", b"")


def write_png(path: Path, pixels: np.ndarray[Any, Any]) -> Path:
    """(H, W) ids or (H, W, 3) RGB, losslessly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    path.write_bytes(cv2.imencode(".png", np.ascontiguousarray(stored))[1].tobytes())
    return path


def tissue(height: int, width: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """A smooth random RGB image."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


class Cohort:
    """A folder in TIGER's layout that grows region by region."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = root / "wsirois" / "roi-level-annotations"

    def add(
        self, stem: str, mask: np.ndarray[Any, Any], *, folder: str = "tissue-bcss", seed: int = 0
    ) -> tuple[Path, Path]:
        """Write a pair named `<stem>.png`; returns image and mask."""
        image = tissue(*mask.shape[:2], seed=seed)
        where = self.base / folder
        return write_png(where / "images" / f"{stem}.png", image), write_png(where / "masks" / f"{stem}.png", mask)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """An empty cohort, in a folder whose name a glob or a shell would trip over."""
    return Cohort(tmp_path / "data [of, *] '1'")


@pytest.fixture
def real_data() -> Path:
    """Three real regions, where they are at hand."""
    root = Path(os.environ.get("HARNESS_REAL_DATA", REPOSITORY.parent / "shared" / "data" / "bcss-tumor"))
    if not (root / "wsirois").is_dir():
        pytest.skip("real regions are not on this machine")
    return root


@pytest.fixture
def make_png() -> Callable[..., bytes]:
    """`png_bytes`, for tests of files that no ordinary writer makes."""
    return png_bytes
