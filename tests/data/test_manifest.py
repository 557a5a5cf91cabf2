"""A table of regions: read as written, or every mistake with its line and column."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from harness.config.space import DataSource
from harness.data.check import check_cohort
from harness.data.cohort import ids_source, layout_of, read_cohort
from harness.data.manifest import read_manifest
from harness.errors import BadInput

from .conftest import Cohort, tissue, write_png

MASK = np.repeat(np.arange(1, 5, dtype=np.uint8), 12)[None].repeat(32, axis=0)
HEADER = "image,mask,patient,centre,mpp"
GOOD = f"{HEADER}\nimages/a.png,masks/a.png,P1,Lund,0.5\nimages/b.png,masks/b.png,P2,,0.25\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A folder with two good pairs and their table."""
    for seed, name in enumerate(("a", "b")):
        write_png(tmp_path / "images" / f"{name}.png", tissue(32, 48, seed))
        write_png(tmp_path / "masks" / f"{name}.png", MASK)
    (tmp_path / "manifest.csv").write_text(GOOD)
    return tmp_path / "manifest.csv"


def problems_of(table: Path, content: str | bytes) -> list[str]:
    """What reading says, without the path at the beginning of each line."""
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadInput) as caught:
        read_manifest(table)
    assert all(problem.startswith(f"{table}:") for problem in caught.value.problems)
    return [problem.removeprefix(f"{table}:") for problem in caught.value.problems]


def test_a_table_is_a_cohort(table: Path) -> None:
    """By its folder or by its own name; every cell arrives, an empty centre is unknown, and the pairs are good."""
    first, second = read_cohort(table.parent)
    assert (first.name, first.patient, first.patient_known, first.centre, first.mpp) == ("a", "P1", True, "Lund", 0.5)
    assert (second.centre, second.mpp) == ("unknown", 0.25)
    assert first.image == table.parent / "images" / "a.png"
    assert read_cohort(table) == (first, second)
    checked = check_cohort((first, second))
    assert checked.defects == ()
    assert checked.rois == (first, second)


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode("utf-8-sig"),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace(",", ";").replace("0.5", "0,5").replace("0.25", "0,25").encode(),
        GOOD.replace(",", "\t").encode(),
        GOOD.replace("images/a.png", '" ./images//a.png "').replace("image,", "Image , ").encode(),
        (GOOD + "\n,,,,\n").encode(),
    ],
    ids=["byte order mark", "CRLF", "semicolons and decimal commas", "tabs", "quotes, spaces, capitals", "empty rows"],
)  # fmt: skip
def test_what_spreadsheets_write_is_read(table: Path, content: bytes) -> None:
    """The same two regions."""
    expected = read_manifest(table)
    table.write_bytes(content)
    assert read_manifest(table) == expected


def test_every_mistake_is_listed_at_once_with_line_and_column(table: Path) -> None:
    """Five of them in three rows; the blank line and the quoted line break count as lines."""
    rows = ["a.png,a.png,,Lund,0.5", "", '"b.png","b.png","P\n2",Lund,zero', "./a.png,m.png,P3,Lund,-1", "c.png,P4"]
    found = problems_of(table, "\n".join([HEADER, *rows]))
    assert [problem.split(": ")[:2] for problem in found[:4]] == [
        ["2", "patient"], ["4", "patient"], ["4", "mpp"], ["6", "mpp"],
    ]  # fmt: skip
    assert found[4] == "6: image: './a.png' is also in line 2; a region stands in one row"
    assert found[5].startswith("7: 2 cells for 5 columns")
    assert len(found) == 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "1: is empty; its first row names the columns image, mask, patient, centre, mpp"),
        ("\n\n", "1: is empty"),
        (HEADER, "1: no region below"),
        ("image,mask,patient\na,b,c", "1: mpp: the column is missing"),
        ("image,mask,pateint,mpp\na,b,c,1", "1: pateint: unknown column; did you mean 'patient'?"),
        ("image,mask,patient,mpp,mpp\na,b,c,1,1", "1: mpp: the column is there 2 times"),
        ("image,mask,patient,mpp\na.png,b.png,c,nan", "2: mpp: 'nan' is not a resolution"),
        ("image,mask,patient,mpp\na.png,b.png,c,0_5", "2: mpp: '0_5' is not a resolution"),
        ('image,mask,patient,mpp\na.png,"b.png,c,1', "2: not a CSV row"),
        (GOOD.encode("utf-16"), " not UTF-8 text (byte 0)"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(table: Path, content: str | bytes, said: str) -> None:
    """One line: where, what is wrong, what is allowed."""
    found = problems_of(table, content)
    assert any(problem.startswith(said) for problem in found), found


@pytest.mark.parametrize("path", ["../outside.png", "{absolute}", "link.png", "images\\\\a.png", "a\x00b.png"])
def test_a_path_that_leaves_the_folder_is_defect_ten_and_never_opened(table: Path, tmp_path: Path, path: str) -> None:
    """Upwards, absolute, through a link, or with characters that mean a path elsewhere."""
    outside = write_png(tmp_path.parent / f"{tmp_path.name}-outside.png", MASK)
    (tmp_path / "link.png").symlink_to(outside)
    shown = path.format(absolute=outside).replace("outside.png", outside.name) if "link" not in path else path
    table.write_text(f"{HEADER}\nimages/a.png,{shown},P1,,0.5\n")
    (defect,) = check_cohort(read_manifest(table)).defects
    assert (defect.number, defect.kind) == (10, "unsafe_name")


def test_a_link_inside_the_folder_is_fine(table: Path, tmp_path: Path) -> None:
    """It leads where the table may point anyway."""
    (tmp_path / "link.png").symlink_to(tmp_path / "masks" / "a.png")
    table.write_text(f"{HEADER}\nimages/a.png,link.png,P1,,0.5\n")
    assert check_cohort(read_manifest(table)).defects == ()


def test_files_of_one_name_in_two_folders_are_two_regions(table: Path) -> None:
    """Each gets a piece of the hash of where it lies; the order of the rows does not matter."""
    rows = ["x/a.png,m.png,P1,,0.5", "y/a.png,n.png,P2,,0.5"]
    table.write_text("\n".join([HEADER, *rows]))
    names = [roi.name for roi in read_manifest(table)]
    table.write_text("\n".join([HEADER, *rows[::-1]]))
    assert len(set(names)) == 2
    assert [roi.name for roi in read_manifest(table)] == names


def test_names_in_tigers_form_tell_slide_and_box(table: Path) -> None:
    """So that overlaps are found in a table, too."""
    table.write_text(f'{HEADER}\n"S1_[10, 20, 58, 52].png",m.png,P1,,0.5\n')
    (roi,) = read_manifest(table)
    assert (roi.slide, roi.box, roi.name) == ("S1", (10, 20, 58, 52), "S1__10-20-58-52")


def test_a_folder_with_both_layouts_is_refused_and_one_with_neither_says_what_to_do(cohort: Cohort) -> None:
    """Which one is meant would be a guess; naming the table decides."""
    cohort.add("100B_[0, 0, 48, 32]", MASK)
    assert layout_of(cohort.root) == "tiger"
    (cohort.root / "manifest.csv").write_text(GOOD)
    with pytest.raises(BadInput, match=r"holds both wsirois/ and manifest\.csv"):
        read_cohort(cohort.root)
    assert layout_of(cohort.root / "manifest.csv") == "manifest"
    with pytest.raises(BadInput, match=r"holds neither wsirois/ nor manifest\.csv.*grand-challenge\.org.*phantom"):
        read_cohort(cohort.root.parent)
    with pytest.raises(BadInput, match=r"no such folder"):
        read_cohort(cohort.root / "nothing")


def test_patient_regex_beside_a_table_is_refused(table: Path) -> None:
    """It would have no effect, and nobody would notice."""
    with pytest.raises(BadInput, match="names each patient itself"):
        read_cohort(table, patient_regex="(x)")


def test_ids_of_a_table_are_not_tigers_unless_said(table: Path, cohort: Cohort) -> None:
    """A yardstick over unknown ids would be a number without a meaning."""
    cohort.add("100B_[0, 0, 48, 32]", MASK)
    assert ids_source(DataSource(root=str(table.parent))) == "other"
    assert ids_source(DataSource(root=str(table.parent), source_ids="tiger")) == "tiger"
    assert ids_source(DataSource(root=str(cohort.root))) == "tiger"
    assert ids_source(DataSource(root="phantom")) == "tiger"


def test_two_thousand_mutated_tables_are_read_or_refused_in_words(table: Path) -> None:
    """Bits, bytes, lost and doubled stretches: a cohort, or BadInput; checking it never fails otherwise."""
    original = table.read_bytes()
    read = 0
    for seed in range(2_000):
        r = random.Random(seed)
        content = bytearray(original)
        for _ in range(r.randint(1, 6)):
            place, length = r.randrange(len(content)), r.randint(0, 12)
            piece = r.choice([b"", b"\0", b'"', b",", b";", b"\n", b"\xff", b"../", b"x" * 300, r.randbytes(3)])
            content[place : place + length] = r.choice([piece, content[:length], bytes([content[place] ^ 1])])
        table.write_bytes(content)
        try:
            rois = read_cohort(table)
        except BadInput:
            continue
        read += 1
        checked = check_cohort(rois)
        assert len(checked.rois) + len({defect.roi for defect in checked.defects}) == len(rois)
    assert 100 < read < 1_900
