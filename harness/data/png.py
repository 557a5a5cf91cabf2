"""One PNG file: header first, then pixels; never a value that the file does not hold.

Header, chunk checksums and the length of the pixel data are checked here because decoders disagree on
damaged files: a truncated PNG may come back half grey, and a palette mask as grey values turns labels 0, 1,
2, 3 into 0, 76, 150, 29. The decoder is given header and pixel data only: beside them an `acTL` chunk
(animation) made OpenCV 4.13 return other pixels than the file's, without a word.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.errors import BadInput

Pixels = NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Largest and smallest region that is one: 400 Mpx is 1.2 GB decoded, 16 px is the smallest patch.
MAX_ROI_PX = 400_000_000
MIN_SIDE_PX = 16

_COLOURS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGBA"}
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# The seven passes of an interlaced file: first column and row, then their steps. (Sides are 16 px or more.)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class BadPng(BadInput):
    """A PNG that cannot be used; `kind` names the defect (a key of `check.KINDS`)."""

    def __init__(self, kind: str, path: Path, message: str) -> None:
        self.kind = kind
        self.path = path
        self.message = message
        super().__init__(f"{path}: {message}")


@dataclass(frozen=True, slots=True)
class Header:
    """What the first 33 bytes say."""

    height_px: int
    width_px: int
    bits: int
    colour: int
    interlaced: bool

    @property
    def mode(self) -> str:
        """For people: `8-bit grey`, `8-bit palette`."""
        return f"{self.bits}-bit {_COLOURS.get(self.colour, f'colour type {self.colour}')}"


def read_header(path: Path) -> Header:
    """Size and mode of a PNG without reading its pixels. Raises BadPng `unreadable`."""
    try:
        with path.open("rb") as stream:
            return _header(stream.read(33), path)
    except OSError as error:
        raise BadPng("unreadable", path, f"cannot be read: {error.strerror or error}") from None


def checked_header(path: Path, *, mask: bool) -> Header:
    """The header of an 8-bit RGB image (`mask`: of an 8-bit grey mask) of a sane size. Raises BadPng."""
    return _judged(read_header(path), path, mask=mask)


def read_image(path: Path) -> tuple[Pixels, bytes]:
    """(H, W, 3) RGB pixels and the file's bytes. Raises BadPng."""
    checked_header(path, mask=False)  # before the bytes: the size of a file is nobody's promise
    content = _bytes_of(path)
    return decoded_image(content, path), content


def read_mask(path: Path) -> tuple[Pixels, bytes]:
    """(H, W) label ids exactly as stored, and the file's bytes. Raises BadPng."""
    checked_header(path, mask=True)
    content = _bytes_of(path)
    return decoded_mask(content, path), content


def decoded_image(content: bytes, path: Path) -> Pixels:
    """(H, W, 3) RGB pixels of a whole file; `path` names it in errors. Raises BadPng."""
    header = _judged(_header(content[:33], path), path, mask=False)
    decoded = _decode(_bare(content, header, path), path, colour=True)
    return np.ascontiguousarray(decoded[..., ::-1])


def decoded_mask(content: bytes, path: Path) -> Pixels:
    """(H, W) label ids of a whole file; `path` names it in errors. Raises BadPng."""
    header = _judged(_header(content[:33], path), path, mask=True)
    return _decode(_bare(content, header, path), path, colour=False)


def _judged(header: Header, path: Path, *, mask: bool) -> Header:
    height, width = header.height_px, header.width_px
    if min(height, width) < MIN_SIDE_PX or height * width > MAX_ROI_PX:
        allowed = f"sides from {MIN_SIDE_PX} px and at most {MAX_ROI_PX:,} pixels"
        raise BadPng("absurd_size", path, f"its header says {width} x {height} px; a region has {allowed}")
    if mask and (header.bits, header.colour) != (8, 0):
        text = f"the mask is {header.mode}; it must be 8-bit grey, one label id a pixel"
        raise BadPng("mask_mode", path, text)
    if not mask and (header.bits, header.colour) != (8, 2):
        raise BadPng("image_mode", path, f"the image is {header.mode}; it must be 8-bit RGB")
    return header


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadPng("unreadable", path, f"cannot be read: {error.strerror or error}") from None


def _header(start: bytes, path: Path) -> Header:
    if start[:8] != SIGNATURE:
        raise BadPng("unreadable", path, "is not a PNG file" if start else "is empty")
    if len(start) < 33 or start[8:16] != b"\x00\x00\x00\rIHDR":
        raise BadPng("unreadable", path, "is truncated, or its header is damaged")
    if zlib.crc32(start[12:29]) != int.from_bytes(start[29:33], "big"):
        raise BadPng("unreadable", path, "its header is damaged (checksum)")
    width, height, bits, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", start[16:29])
    if compression or filtering or interlace > 1:
        raise BadPng("unreadable", path, "its header asks for a compression, filter or interlace that PNG has not")
    return Header(height, width, bits, colour, bool(interlace))


def _bare(content: bytes, header: Header, path: Path) -> bytes:
    """The file's header, pixel data and end alone, when every chunk is whole and right; or BadPng."""
    view = memoryview(content)
    kept = [view[:33]]
    data: list[memoryview] = []
    position, kind = 33, b"IHDR"
    while kind != b"IEND":
        before, kind, chunk = kind, *_chunk(view, position, path)
        if kind == b"IDAT":
            if data and before != kind:
                raise BadPng("unreadable", path, "its pixel data lie in several places")
            data.append(chunk[8:-4])
        elif kind != b"PLTE" and kind[:1].isupper() and kind != b"IEND":
            name = kind.decode("latin-1")
            raise BadPng("unreadable", path, f"holds a chunk {name!r} at byte {position:,} that no decoder may skip")
        if kind in (b"IDAT", b"IEND"):
            kept.append(chunk)
        position += len(chunk)
    _check_pixel_data(data, header, path)
    return b"".join(kept)


def _chunk(view: memoryview, position: int, path: Path) -> tuple[bytes, memoryview]:
    """Kind and bytes (length, kind, content, checksum) of the chunk that begins here. Raises BadPng."""
    end = position + 12 + int.from_bytes(view[position : position + 4], "big")
    if position + 12 > len(view) or end > len(view):
        raise BadPng("unreadable", path, f"is truncated after {len(view):,} bytes")
    if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
        raise BadPng("unreadable", path, f"is damaged at byte {position:,} (checksum)")
    return bytes(view[position + 4 : position + 8]), view[position:end]


def _check_pixel_data(data: list[memoryview], header: Header, path: Path) -> None:
    """Inflate piece by piece, so that a small file cannot fill the memory, and compare the length."""
    expected, length = _filtered_bytes(header), 0
    inflater = zlib.decompressobj()
    try:
        for chunk in data:
            piece: bytes | memoryview = chunk
            while piece and not inflater.eof and length <= expected:
                length += len(inflater.decompress(piece, 1 << 20))
                piece = inflater.unconsumed_tail
        if length <= expected:
            length += len(inflater.flush())
    except zlib.error:
        raise BadPng("unreadable", path, "its pixel data are damaged") from None
    if not inflater.eof or length != expected:
        raise BadPng("unreadable", path, "its pixel data are not as long as its size says")


def _filtered_bytes(header: Header) -> int:
    """Length of the inflated pixel data of an 8-bit file: each row of each pass begins with a filter byte."""
    passes = _ADAM7 if header.interlaced else ((0, 0, 1, 1),)
    total = 0
    for x, y, step_x, step_y in passes:
        columns, rows = -(-(header.width_px - x) // step_x), -(-(header.height_px - y) // step_y)
        total += rows * (1 + columns * _CHANNELS[header.colour])
    return total


def _decode(content: bytes, path: Path, *, colour: bool) -> Pixels:
    import cv2  # .02 s that a report without pictures need not spend

    flags = cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        decoded = None
    if decoded is None or decoded.dtype != np.uint8:
        raise BadPng("unreadable", path, "cannot be decoded")
    return np.asarray(decoded, np.uint8)
