"""Ten thousand damaged, odd and hostile PNGs: refused, or read as exactly what they hold."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.png import BadPng, decoded_image, decoded_mask

from .conftest import png_chunk

FILES = 10_000
Chunks = list[tuple[bytes, bytes]]

# Contents that look right, or nearly, for chunks that decoders act on.
EXTRA: dict[bytes, Callable[[random.Random], bytes]] = {
    b"tRNS": lambda r: r.randbytes(r.choice([1, 2, 6, 256])),
    b"gAMA": lambda r: struct.pack(">I", r.choice([0, 45_455, 220_000])),
    b"sBIT": lambda r: r.randbytes(r.choice([1, 3])),
    b"PLTE": lambda r: r.randbytes(r.choice([5, 12, 768])),
    b"acTL": lambda r: struct.pack(">II", r.choice([0, 1, 2]), 0),
    b"fcTL": lambda r: struct.pack(">IIIIIHHBB", 0, r.choice([8, 16]), 16, r.choice([0, 4]), 0, 1, 1, 0, 0),
    b"fdAT": lambda r: struct.pack(">I", 1) + zlib.compress(r.randbytes(272)),
    b"cICP": lambda r: r.randbytes(4),
    b"iCCP": lambda r: b"x\0\0" + zlib.compress(r.randbytes(50)),
    b"eXIf": lambda r: b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0" + bytes([r.randrange(9)]) + bytes(6),
    b"IHDR": lambda r: struct.pack(">IIBBBBB", 16, 16, 8, r.choice([0, 2]), 0, 0, 0),
    b"IDAT": lambda r: zlib.compress(r.randbytes(30)),
    b"ABCD": lambda r: r.randbytes(4),
    b"zzZz": lambda r: r.randbytes(9),
}


def chunks_of(content: bytes) -> Chunks:
    """(kind, content) of every chunk of a sound file."""
    found, position = [], 8
    while position < len(content):
        end = position + 8 + int.from_bytes(content[position : position + 4], "big")
        found.append((content[position + 4 : position + 8], content[position + 8 : end]))
        position = end + 4
    return found


def joined(chunks: Chunks) -> bytes:
    """A file whose every checksum is right."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in chunks)


def saved(image: Image.Image) -> bytes:
    """The picture as Pillow writes it."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def flip_bits(content: bytes, _pixels: np.ndarray, r: random.Random) -> bytes:
    """One to eight bits anywhere."""
    damaged = bytearray(content)
    for _ in range(r.randint(1, 8)):
        damaged[r.randrange(len(damaged))] ^= 1 << r.randrange(8)
    return bytes(damaged)


def cut_short(content: bytes, _pixels: np.ndarray, r: random.Random) -> bytes:
    """The beginning, or nothing, and now and then something else behind it."""
    return content[: r.randrange(len(content))] + (r.randbytes(20) if r.random() < 0.3 else b"")


def splice(content: bytes, _pixels: np.ndarray, r: random.Random) -> bytes:
    """A stretch lost, zeroed or overwritten."""
    start, length = r.randrange(len(content)), r.randint(1, 40)
    return content[:start] + r.choice([b"", bytes(length), r.randbytes(length)]) + content[start + length :]


def shuffle_chunks(content: bytes, _pixels: np.ndarray, r: random.Random) -> bytes:
    """Two chunks swapped, one doubled or one lost."""
    chunks = chunks_of(content)
    first, second, what = r.randrange(len(chunks)), r.randrange(len(chunks)), r.randrange(3)
    if what == 0:
        chunks[first], chunks[second] = chunks[second], chunks[first]
    elif what == 1:
        chunks.insert(first, chunks[second])
    else:
        del chunks[first]
    return joined(chunks)


def edit_header(content: bytes, _pixels: np.ndarray, r: random.Random) -> bytes:
    """One byte of size, depth, colour, compression, filter or interlace."""
    (_, header), *others = chunks_of(content)
    edited = bytearray(header)
    edited[r.randrange(13)] = r.choice([0, 1, 2, 3, 4, 6, 8, 16, 24, r.randrange(256)])
    return joined([(b"IHDR", bytes(edited)), *others])


def damage_data(content: bytes, _pixels: np.ndarray, r: random.Random) -> bytes:
    """Bits of the compressed pixels, under a checksum that is right."""
    header, (_, data), end = chunks_of(content)
    damaged = bytearray(data)
    for _ in range(r.randint(1, 3)):
        damaged[r.randrange(len(damaged))] ^= 1 << r.randrange(8)
    return joined([header, (b"IDAT", bytes(damaged)), end])


def refilter_rows(content: bytes, pixels: np.ndarray, r: random.Random) -> bytes:
    """Other filters, or lengths, of the rows; sound otherwise: other pixels, or none."""
    header, (_, data), end = chunks_of(content)
    rows, stride = bytearray(zlib.decompress(data)), 1 + pixels[0].size
    for _ in range(r.randint(1, 4)):
        rows[r.randrange(len(pixels)) * stride] = r.choice([0, 1, 2, 3, 4, 5, 200])
    if r.random() < 0.3:
        rows = rows[: -r.randrange(1, 9)] if r.random() < 0.5 else rows + bytes(r.randrange(9))
    packed = zlib.compress(bytes(rows), r.randrange(10))
    place = r.randrange(1, len(packed))
    between = [(b"tEXt", b"a\0b")] if r.random() < 0.2 else []
    return joined([header, (b"IDAT", packed[:place]), *between, (b"IDAT", packed[place:]), end])


def another_mode(_content: bytes, pixels: np.ndarray, r: random.Random) -> bytes:
    """Palette, 1 bit, 16 bits, with alpha: what a person may have saved."""
    image = Image.fromarray(pixels)
    mode = r.choice(["P", "1", "RGBA", "LA", "RGB", "L", "I;16"])
    if mode == "I;16":
        return saved(Image.fromarray(pixels.reshape(*pixels.shape[:2], -1)[..., 0].astype(np.uint16) * 257))
    if mode == "P":
        image = image.convert("L")
        image.putpalette([r.randrange(256) for _ in range(768)])
        return saved(image)
    return saved(image.convert(mode))


def extra_chunks(content: bytes, _pixels: np.ndarray, r: random.Random) -> bytes:
    """One or two chunks that a decoder may act on."""
    chunks = chunks_of(content)
    for _ in range(r.randint(1, 2)):
        kind = r.choice(list(EXTRA))
        chunks.insert(r.choice([0, 1, 1, 1, 2, len(chunks)]), (kind, EXTRA[kind](r)))
    return joined(chunks)


MUTATIONS = (
    flip_bits, cut_short, splice, shuffle_chunks, edit_header, damage_data, refilter_rows, another_mode, extra_chunks,
)  # fmt: skip


def test_ten_thousand_mutated_files_are_refused_or_read_as_what_they_hold(capfd) -> None:
    """Half images, half masks. What is read equals the original, or what Pillow finds in the mutated file."""
    outcomes: Counter[tuple[str, str]] = Counter()
    for seed in range(FILES):
        r = random.Random(seed)
        mask, mutate = bool(seed % 2), MUTATIONS[(seed // 2) % len(MUTATIONS)]
        shape = (r.randint(16, 24), r.randint(16, 24), *([] if mask else [3]))
        pixels = np.random.default_rng(seed).integers(0, 8 if mask else 256, shape, dtype=np.uint8)
        content = mutate(saved(Image.fromarray(pixels)), pixels, r)
        try:
            read = (decoded_mask if mask else decoded_image)(content, Path("mutated.png"))
        except BadPng:
            outcomes[mutate.__name__, "refused"] += 1
            continue
        same = np.array_equal(read, pixels)
        assert same or np.array_equal(read, np.asarray(Image.open(io.BytesIO(content)))), (seed, mutate.__name__)
        outcomes[mutate.__name__, "same" if same else "as Pillow"] += 1
    capfd.readouterr()  # libpng names what it refuses on stderr
    # The test reaches all three ends: a reader that refuses everything would pass the rest.
    assert sum(outcomes.values()) == FILES
    assert outcomes["refilter_rows", "as Pillow"] > 100
    assert outcomes["extra_chunks", "same"] > 100
    assert outcomes["flip_bits", "refused"] > 1_000


@pytest.mark.parametrize("kind", [b"acTL", b"tRNS", b"gAMA", b"eXIf"])
def test_chunks_beside_the_pixels_do_not_change_a_label(kind: bytes) -> None:
    """An animation's chunk before the pixels once made OpenCV return other labels, silently."""
    ids = np.random.default_rng(0).integers(0, 8, (24, 40), dtype=np.uint8)
    header, *rest = chunks_of(saved(Image.fromarray(ids)))
    content = joined([header, (kind, EXTRA[kind](random.Random(3))), *rest])
    assert np.array_equal(decoded_mask(content, Path("mask.png")), ids)


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "image_mode"), ("L", "image_mode"), ("I;16", "image_mode")])
def test_an_image_of_another_mode_is_a_defect(mode: str, kind: str) -> None:
    """Alpha, grey and 16 bits: nothing is dropped or scaled on the way in."""
    with pytest.raises(BadPng) as caught:
        decoded_image(saved(Image.new(mode, (20, 20))), Path("image.png"))
    assert caught.value.kind == kind
