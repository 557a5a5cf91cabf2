"""A mask's values come out as they are stored, however it is saved, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.data.tiger import Roi
from harness.errors import BadInput
from harness.scoring.masks import match_masks, read_values
from tests.data.conftest import png_bytes

VALUES = np.random.default_rng(1).integers(0, 4, (24, 17)).astype(np.uint8)
ALLOWED = dict.fromkeys(range(4), "a class")


def _palette(colours: int) -> Image.Image:
    picture = Image.fromarray(VALUES).convert("L")
    picture = Image.frombytes("P", picture.size, picture.tobytes())
    picture.putpalette(np.random.default_rng(2).integers(0, 256, 3 * colours).astype(np.uint8).tobytes())
    return picture


def _sixteen() -> Image.Image:
    return Image.fromarray(VALUES.astype(np.uint16))


@pytest.mark.parametrize(
    ("picture", "file", "how"),
    [
        (_palette(256), "eight.png", {}),
        (_palette(8), "four.png", {}),  # Pillow writes 16 colours in 4 bits
        (_palette(4), "two.png", {}),
        (_sixteen(), "sixteen.png", {}),
        (_sixteen(), "sixteen.tif", {}),
        (_palette(256), "palette.tif", {}),
        (Image.fromarray(VALUES), "packed.tiff", {"compression": "tiff_lzw"}),
        (Image.fromarray(VALUES.astype(np.int32)), "wide.tif", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_are_read_as_stored(picture: Image.Image, file: str, how: dict[str, Any], tmp_path: Path) -> None:
    """Indices of a palette, not its colours; 16 and 32 bits; packed bits."""
    picture.save(tmp_path / file, **how)
    read = read_values(tmp_path / file, width_px=17, height_px=24, allowed=ALLOWED)
    assert read.dtype == np.uint8
    assert np.array_equal(read, VALUES)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_not_stretched(bits: int, tmp_path: Path) -> None:
    """A PNG of 2 bits holds 0..3, which decoders show as 0, 85, 170, 255. Written by hand, read back by value."""
    values = VALUES % 2**bits
    (tmp_path / "few.png").write_bytes(_packed(values, bits))
    assert np.array_equal(read_values(tmp_path / "few.png", width_px=17, height_px=24, allowed=ALLOWED), values)


def test_a_value_above_eight_bits_is_named(tmp_path: Path) -> None:
    """300 is not 44."""
    values = VALUES.astype(np.uint16)
    values[0, 0] = 300
    cv2.imwrite(str(tmp_path / "big.png"), values)
    with pytest.raises(BadInput, match=r"big.png: holds values that are no class: 300 \(1 px\)"):
        read_values(tmp_path / "big.png", width_px=17, height_px=24, allowed=ALLOWED)


def test_a_resized_mask_is_refused_with_both_sizes(tmp_path: Path) -> None:
    """And a transposed one is called so."""
    cv2.imwrite(str(tmp_path / "t.png"), VALUES.T)
    with pytest.raises(BadInput, match="is 24 x 17 px, its region 17 x 24; is it transposed"):
        read_values(tmp_path / "t.png", width_px=17, height_px=24, allowed=ALLOWED)


def _roi(name: str, file: str) -> Roi:
    return Roi(name, Path(f"images/{file}"), Path(f"masks/{file}"), file, "p", True, "c", 0.5)


def test_a_file_name_of_the_data_counts_where_one_region_has_it(tmp_path: Path) -> None:
    """`b.png` lies in two folders of the cohort, so a mask called `b` might be either's."""
    first, second, other = _roi("x__a", "a.png"), _roi("x__b", "b.png"), _roi("y__b", "b.png")
    for name in ("a.png", "b.tif", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    matched, problems = match_masks(tmp_path, [first, second], [first, second, other])
    assert matched.files == {"x__a": tmp_path / "a.png"}
    assert matched.by_stem == ("x__a",)
    assert problems == [
        f"{tmp_path / 'b.tif'}: 2 regions have files of this name; rename it to one of x__b.png, y__b.png",
        f"{tmp_path / 'x__b.png'}: is missing",
    ]
    assert [path.name for path in matched.others] == ["b.tif", "notes.txt"]


def _packed(values_HW: NDArray[np.uint8], bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits a pixel: most significant bits first, whole bytes a row, no filter."""
    height, width = values_HW.shape
    places = np.arange(bits)[::-1]
    rows = np.packbits(((values_HW[..., None] >> places) & 1).reshape(height, width * bits), axis=1)
    content = np.pad(rows, ((0, 0), (1, 0))).tobytes()
    return png_bytes(content, width, height, bits=bits, colour=0)
