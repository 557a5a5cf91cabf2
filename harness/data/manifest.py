"""`manifest.csv`: a table of regions, for data that do not lie as TIGER's do.

    image,mask,patient,centre,mpp
    images/a1.png,masks/a1.png,case-017,Lund,0.5

Paths are relative to the table's folder and stay in it. `centre` may be left out. `mpp` may not: a guessed
resolution would make every scale bar, and every resampling by `mpp`, silently wrong.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.base import choose_from
from harness.data.tiger import Roi, box_text, slide_and_box, uniquely_named
from harness.errors import BadInput
from harness.files import safe_name

MANIFEST = "manifest.csv"
REQUIRED = ("image", "mask", "patient", "mpp")
COLUMNS = ("image", "mask", "patient", "centre", "mpp")
# Above any cohort: 200 bytes a row make 250,000 regions.
MAX_BYTES = 50_000_000
# The bounds of the search space's own `mpp`: x100 objectives and macro photographs lie inside.
MIN_MPP, MAX_MPP = 0.05, 50.0

# Comma, and what spreadsheets write where the comma is the decimal point.
_DELIMITERS = (",", ";", "\t")


Mistake = tuple[int, str]  # the line, and `column: what is wrong, what is allowed`


@dataclass(frozen=True, slots=True)
class _Row:
    """One region's cells, stripped, by column; `line` is where the row begins."""

    line: int
    cells: dict[str, str]


def read_manifest(path: Path) -> tuple[Roi, ...]:
    """Every region that the table names, sorted by name. BadInput lists every mistake with its line and column.

    Whether the files are there, are any good and lie inside the folder is left to `check_cohort`.
    """
    problems: list[Mistake] = []
    rows = list(_rows(_text(path), problems))
    rois = []
    images: dict[str, int] = {}
    for row in rows:
        mistakes = list(_mistakes(row, images))
        problems += [(row.line, mistake) for mistake in mistakes]
        if not mistakes:
            rois.append(_roi(path.parent, row.cells))
    if not rows and not problems:
        problems.append((1, "no region below the column names; one row for each, such as a1.png,a1_mask.png,P1,0.5"))
    if problems:
        raise BadInput([f"{path}:{line}: {what}" for line, what in sorted(problems, key=lambda problem: problem[0])])
    return tuple(sorted(uniquely_named(rois), key=lambda roi: roi.name))


def _text(path: Path) -> str:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_BYTES:
            raise BadInput(f"{path}: {size_bytes:,} bytes; a table of regions has at most {MAX_BYTES:,}")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from None


def _delimiter(text: str) -> str:
    """What the column names are parted by."""
    head = text.lstrip().split("\n", 1)[0]
    return max(_DELIMITERS, key=head.count)


def _rows(text: str, problems: list[Mistake]) -> Iterator[_Row]:
    """Rows that have a cell for each column; what keeps others from being read goes to `problems`."""
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                pass  # spreadsheets leave empty rows behind
            elif names is None:
                names = [name.lower() for name in stripped]
                problems += [(line, mistake) for mistake in _header_mistakes(names)]
                if problems:
                    return
            elif len(stripped) != len(names):
                wanted = f"{len(names)} columns ({', '.join(names)}); put a cell with a {delimiter!r} in quotes"
                problems.append((line, f"{len(stripped)} cells for {wanted}"))
            else:
                row = dict(zip(names, stripped, strict=True))
                # A file parted by semicolons comes from where the comma is the decimal point.
                yield _Row(line, row if delimiter == "," else {**row, "mpp": row["mpp"].replace(",", ".")})
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append((line, f"not a CSV row: {error}"))
    if names is None and not problems:
        problems.append((1, f"is empty; its first row names the columns {', '.join(COLUMNS)}"))


def _header_mistakes(names: Sequence[str]) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if name not in COLUMNS:
            yield f"{name or '(no name)'}: unknown column; {choose_from(name, COLUMNS)}"
        elif names.count(name) > 1:
            yield f"{name}: the column is there {names.count(name)} times; keep one"
    for name in REQUIRED:
        if name not in names:
            yield f"{name}: the column is missing; needed are {', '.join(REQUIRED)}, and centre if you know it"


def _mistakes(row: _Row, images: dict[str, int]) -> Iterator[str]:
    """What is wrong with a row, `column: what, what is allowed`; its image is noted in `images` with its line."""
    for name in ("image", "mask"):
        if not row.cells[name]:
            yield f"{name}: is empty; write the path of a PNG, relative to this file's folder"
    if not row.cells["patient"]:
        yield "patient: is empty; regions are split by patient: any text, the same for the same person"
    for name in ("patient", "centre"):
        if not row.cells.get(name, "").isprintable():
            yield f"{name}: {row.cells[name]!r} holds control characters; write plain text"
    if not _is_mpp(row.cells["mpp"]):
        allowed = f"um per pixel, a number from {MIN_MPP} to {MAX_MPP:g} (x20 is about 0.5, x40 about 0.25)"
        yield f"mpp: {row.cells['mpp']!r} is not a resolution; {allowed}"
    if row.cells["image"]:
        image = Path(row.cells["image"]).as_posix()  # `./a.png` and `a.png` are one file
        first = images.setdefault(image, row.line)
        if first != row.line:
            yield f"image: {row.cells['image']!r} is also in line {first}; a region stands in one row"


def _is_mpp(text: str) -> bool:
    try:
        return "_" not in text and MIN_MPP <= float(text) <= MAX_MPP  # Python reads 0_5 as 5; nan fails both
    except ValueError:
        return False


def _roi(folder: Path, cells: dict[str, str]) -> Roi:
    image = folder / cells["image"]
    slide, box = slide_and_box(image.stem)
    return Roi(
        name="__".join(part for part in (safe_name(slide), box_text(box)) if part),
        image=image,
        mask=folder / cells["mask"],
        slide=slide,
        patient=cells["patient"],
        patient_known=True,
        centre=cells.get("centre") or "unknown",
        mpp=float(cells["mpp"]),
        box=box,
        inside=folder,
    )
