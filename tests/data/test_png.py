"""A damaged or unusual PNG is refused; no value is ever made up."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from harness.data.png import MAX_ROI_PX, BadPng, decoded_mask, read_header, read_image, read_mask

IDS = np.random.default_rng(0).integers(0, 8, (24, 40), dtype=np.uint8)


def rows_of(ids: np.ndarray) -> bytes:
    """Unfiltered rows of 8-bit samples."""
    return b"".join(b"\0" + row.tobytes() for row in ids)


def test_mask_ids_come_back_exactly(tmp_path: Path, make_png) -> None:
    """What the file holds is what the loss sees."""
    path = tmp_path / "mask.png"
    path.write_bytes(make_png(rows_of(IDS), 40, 24, bits=8, colour=0))
    mask, content = read_mask(path)
    assert np.array_equal(mask, IDS)
    assert content == path.read_bytes()


def test_image_channels_are_red_green_blue(tmp_path: Path, make_png) -> None:
    """OpenCV's own order is the reverse."""
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[...] = (200, 100, 50)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    (tmp_path / "image.png").write_bytes(make_png(rows, 16, 16, bits=8, colour=2))
    image, _ = read_image(tmp_path / "image.png")
    assert np.array_equal(image, pixels)


def test_interlaced_masks_are_read(tmp_path: Path, make_png) -> None:
    """Seven passes, each with its own rows."""
    passes = (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    )
    rows = b"".join(rows_of(IDS[y::dy, x::dx]) for x, y, dx, dy in passes)
    path = tmp_path / "mask.png"
    path.write_bytes(make_png(rows, 40, 24, bits=8, colour=0, interlace=1))
    assert np.array_equal(read_mask(path)[0], IDS)


@pytest.mark.parametrize(
    ("bits", "colour", "bytes_a_pixel", "said"),
    [
        (8, 3, 1, "8-bit palette"),
        (16, 0, 2, "16-bit grey"),
        (8, 2, 3, "8-bit RGB"),
        (8, 6, 4, "8-bit RGBA"),
        (8, 4, 2, "8-bit grey with alpha"),
    ],
)
def test_a_mask_of_another_mode_is_a_defect_never_grey_values(
    tmp_path: Path, make_png, bits: int, colour: int, bytes_a_pixel: int, said: str
) -> None:
    """A palette mask converted to grey would turn labels 0, 1, 2, 3 into 0, 76, 150, 29."""
    rows = (b"\0" + bytes(16 * bytes_a_pixel)) * 16
    path = tmp_path / "mask.png"
    path.write_bytes(make_png(rows, 16, 16, bits=bits, colour=colour))
    with pytest.raises(BadPng, match=said) as caught:
        read_mask(path)
    assert caught.value.kind == "mask_mode"


def test_one_bit_masks_are_a_defect(tmp_path: Path, make_png) -> None:
    """Decoders scale 1-bit values to 0 and 255."""
    path = tmp_path / "mask.png"
    path.write_bytes(make_png((b"\0" + b"\xff\xff") * 16, 16, 16, bits=1, colour=0))
    with pytest.raises(BadPng, match="1-bit grey"):
        read_mask(path)


def test_an_image_with_alpha_is_a_defect(tmp_path: Path, make_png) -> None:
    """What lies under transparent pixels is anyone's guess."""
    path = tmp_path / "image.png"
    path.write_bytes(make_png((b"\0" + bytes(64)) * 16, 16, 16, bits=8, colour=6))
    with pytest.raises(BadPng, match="must be 8-bit RGB") as caught:
        read_image(path)
    assert caught.value.kind == "image_mode"


@pytest.mark.parametrize("size", [(100_000, 100_000), (2**31 - 1, 2**31 - 1), (0, 40), (40, 15)])
def test_absurd_sizes_are_seen_in_the_header(tmp_path: Path, make_png, size: tuple[int, int]) -> None:
    """The file holds no such pixels; nothing is allocated for them."""
    path = tmp_path / "mask.png"
    path.write_bytes(make_png(b"", *size, bits=8, colour=0))
    with pytest.raises(BadPng, match=f"{MAX_ROI_PX:,}") as caught:
        read_mask(path)
    assert caught.value.kind == "absurd_size"


def test_pixel_data_that_inflate_to_more_than_the_size_says_are_refused(tmp_path: Path, make_png) -> None:
    """100 MB of zeros in 100 kB of file, under a header of 16 x 16."""
    path = tmp_path / "mask.png"
    path.write_bytes(make_png(bytes(100_000_000), 16, 16, bits=8, colour=0))
    with pytest.raises(BadPng, match="not as long as"):
        read_mask(path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"GIF89a", bytes(64)])
def test_what_is_not_a_png_is_unreadable(tmp_path: Path, content: bytes) -> None:
    """Empty, cut in the signature, another format, zeros."""
    path = tmp_path / "mask.png"
    path.write_bytes(content)
    with pytest.raises(BadPng) as caught:
        read_header(path)
    assert caught.value.kind == "unreadable"
    assert str(path) in str(caught.value)


def test_ten_thousand_mutated_masks_are_refused_or_read_exactly(make_png, capfd) -> None:
    """A flipped, dropped or added byte is found or harmless: no other label ever comes back."""
    original = make_png(rows_of(IDS), 40, 24, bits=8, colour=0)
    rng = np.random.default_rng(1)
    path = Path("mask.png")
    refused = 0
    for _ in range(10_000):
        content = bytearray(original)
        place = int(rng.integers(len(content)))
        kind = int(rng.integers(4))
        if kind == 0:
            content[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            del content[place]
        else:
            content.insert(place, int(rng.integers(256)))
        try:
            assert np.array_equal(decoded_mask(bytes(content), path), IDS)
        except BadPng:
            refused += 1
    assert refused > 9_500
    assert capfd.readouterr() == ("", "")


def test_mutations_with_mended_checksums_never_relabel(make_png) -> None:
    """Even when the chunk's checksum is made to fit, the pixel data's own checksum and length hold."""
    original = make_png(rows_of(IDS), 40, 24, bits=8, colour=0)
    rng = np.random.default_rng(2)
    path = Path("mask.png")
    length = int.from_bytes(original[33:37], "big")
    for _ in range(2_000):
        content = bytearray(original)
        content[41 + int(rng.integers(length))] ^= 1 << int(rng.integers(8))
        content[41 + length : 45 + length] = zlib.crc32(content[37 : 41 + length]).to_bytes(4, "big")
        try:
            assert np.array_equal(decoded_mask(bytes(content), path), IDS)
        except BadPng as bad:
            assert bad.kind == "unreadable"
