"""Pairs of regions: harmless inside one role, a defect across two; every numbered kind in one cohort."""

from __future__ import annotations

import base64
import csv
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from harness.config.spec import Split
from harness.data.check import KINDS, Checked, RoiFacts, check_cohort
from harness.data.cohort import read_cohort
from harness.data.manifest import COLUMNS
from harness.data.phantom import Phantom, synthesize
from harness.data.relations import judge_pairs, notice_lines, related_pairs, split_defects
from harness.data.splits import roles_of
from harness.data.tiger import Roi

from .conftest import REPOSITORY, tissue, write_png

MASK = np.repeat(np.arange(1, 5, dtype=np.uint8), 24)[None].repeat(96, axis=0)  # 96 x 96: four stripes
ROLES = {"T": "train", "V": "validation", "X": "test"}


class Table:
    """A folder with a manifest.csv that grows row by row."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[list[str]] = []

    def add(self, stem: str, patient: str, seed: int, *, image: np.ndarray | None = None) -> tuple[Path, Path]:
        """Write a good pair and its row; returns image and mask."""
        picture = tissue(96, 96, seed) if image is None else image
        mask = cv2.resize(MASK, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        self.rows.append([f"i/{stem}.png", f"m/{stem}.png", patient, "", "0.5"])
        return write_png(self.root / f"i/{stem}.png", picture), write_png(self.root / f"m/{stem}.png", mask)

    def checked(self) -> Checked:
        """What the check of single files says."""
        with (self.root / "manifest.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([COLUMNS, *self.rows])
        return check_cohort(read_cohort(self.root))


def resaved(picture: np.ndarray) -> np.ndarray:
    """Smaller, recoloured, JPEG quality 80: what a copy goes through on its way."""
    smaller = cv2.resize(picture, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    tinted = np.clip(smaller * np.array([1.03, 0.97, 1.03]), 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", tinted, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)


def _palette(path: Path) -> None:
    image = Image.fromarray(MASK)
    image.putpalette([0, 0, 0, 76, 76, 76, 150, 150, 150, 29, 29, 29])
    image.save(path)


def _spoil(which: int, spoil: Callable[[Path], object]) -> Callable[[Table], Path]:
    """Plants a pair whose image (0) or mask (1) is spoilt; returns the file that must be named."""

    def plant(table: Table) -> Path:
        pair = table.add(f"spoilt{len(table.rows)}", "T", 100 + len(table.rows))
        spoil(pair[which])
        return pair[which]

    return plant


def _duplicate(table: Table) -> Path:
    table.add("one", "T", 51)
    return table.add("two", "T", 51)[0]


def _near_duplicate(table: Table) -> Path:
    table.add("copy", "V", 0, image=resaved(tissue(96, 96, 61)))
    return table.add("picture", "T", 61)[0]


def _unsafe(table: Table) -> Path:
    table.add("unsafe", "T", 52)
    table.rows[-1][1] = "../elsewhere.png"
    return table.root / "../elsewhere.png"


def _slide_of_two(table: Table) -> Path:
    table.add("S1_[0, 0, 96, 96]", "V", 53)
    return table.add("S1_[200, 0, 296, 96]", "T", 54)[0]


def _overlap(table: Table) -> Path:
    table.add("S2_[0, 0, 96, 96]", "V", 55)
    return table.add("S2_[48, 48, 144, 144]", "T", 56)[0]


# One plant for each kind: a new kind without one fails the test below.
PLANTS: dict[str, Callable[[Table], Path]] = {
    "missing_partner": _spoil(1, Path.unlink),
    "unreadable": _spoil(0, lambda path: path.write_bytes(path.read_bytes()[:-40])),
    "absurd_size": _spoil(1, lambda path: write_png(path, MASK[:4, :4])),
    "image_mode": _spoil(0, lambda path: Image.new("RGBA", (96, 96)).save(path)),
    "mask_mode": _spoil(1, _palette),
    "size_mismatch": _spoil(1, lambda path: write_png(path, MASK[:, :80])),
    "unknown_label": _spoil(1, lambda path: write_png(path, MASK + 5)),
    "undefined_mask": _spoil(1, lambda path: write_png(path, MASK * 0)),
    "duplicate": _duplicate,
    "unsafe_name": _unsafe,
    "patient_in_two_splits": _slide_of_two,
    "near_duplicate": _near_duplicate,
    "overlap": _overlap,
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checked, dict[str, Path]]:
    """Two good regions and every kind of defect in one table, judged with T training and V validating."""
    table = Table(tmp_path_factory.mktemp("planted"))
    table.add("good", "T", 1)
    table.add("fine", "V", 2)
    files = {kind: plant(table) for kind, plant in PLANTS.items()}
    return judge_pairs(table.checked(), ROLES), files


@pytest.mark.parametrize("kind", KINDS)
def test_every_numbered_kind_planted_in_one_cohort_is_found_and_its_file_named(
    planted: tuple[Checked, dict[str, Path]], kind: str
) -> None:
    """With its number; overlapping regions of two patients also share a slide, so that file has two defects."""
    checked, files = planted
    expected = {files[kind], files["overlap"]} if kind == "patient_in_two_splits" else {files[kind]}
    found = [defect for defect in checked.defects if defect.kind == kind]
    assert {defect.file for defect in found} == expected
    assert {defect.number for defect in found} == {KINDS[kind][0]}
    assert checked.notices == ()


def test_only_good_regions_and_the_validation_side_of_pairs_stay(planted: tuple[Checked, dict[str, Path]]) -> None:
    """Of a pair across roles the training region goes."""
    names = {roi.image.stem for roi in planted[0].rois}
    assert names == {"good", "fine", "one", "copy", "S1_[0, 0, 96, 96]", "S2_[0, 0, 96, 96]"}
    assert set(planted[0].facts) == {roi.name for roi in planted[0].rois}


def test_the_documentation_lists_every_kind() -> None:
    """Number, name and meaning, in the table of docs/data.md."""
    text = (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+?) \|$", text, re.MULTILINE)
    assert [(kind, (int(number), meaning)) for number, kind, meaning in rows] == list(KINDS.items())


@pytest.mark.parametrize("roles", [{}, {"T": "train", "V": "train"}, {"T": "train"}])
def test_inside_one_role_or_without_roles_pairs_are_notices(tmp_path: Path, roles: dict[str, str]) -> None:
    """Nothing is left out, and the line for people counts them."""
    table = Table(tmp_path)
    _near_duplicate(table)
    _overlap(table)
    checked = table.checked()
    judged = judge_pairs(checked, roles)
    assert judged.defects == ()
    assert judged.rois == checked.rois
    assert judged.data_hash == checked.data_hash
    assert sorted(notice.number for notice in judged.notices) == [11, 11, 12, 13]
    assert notice_lines(judged.notices)[1] == "pairs of regions with nearly the same picture, none across roles: 1"


def test_between_validation_and_test_the_validation_region_goes(tmp_path: Path) -> None:
    """Roles keep their regions in the order train, validation, test: the last word is the cleanest."""
    table = Table(tmp_path)
    table.add("a", "X", 0, image=resaved(tissue(96, 96, 61)))
    table.add("b", "V", 61)
    judged = judge_pairs(table.checked(), ROLES)
    assert [roi.image.stem for roi in judged.rois] == ["a"]
    assert "V is in validation, X in test" in judged.defects[0].message


@pytest.mark.parametrize(
    ("folder", "second", "share"),
    [
        ("tissue-cells", "[50, 50, 90, 90]", "100%"),
        ("tissue-bcss", "[96, 0, 192, 96]", None),
        ("tissue-bcss", "[95, 0, 191, 96]", "1%"),
    ],
)
def test_boxes_of_one_slide_overlap_by_their_pixels(cohort, folder: str, second: str, share: str | None) -> None:
    """A tissue-cells region inside a tissue-bcss one; neighbours that touch do not; one column does."""
    cohort.add("TCGA-A2-A0D2-DX1_[0, 0, 96, 96]", MASK, seed=1)
    cohort.add(f"TCGA-A2-A0D2-DX1_{second}", MASK, seed=2, folder=folder)
    cohort.add("TCGA-A2-A0D3-DX1_[0, 0, 96, 96]", MASK, seed=3)
    checked = check_cohort(read_cohort(cohort.root))
    pairs = related_pairs(checked.rois, checked.facts)
    assert [pair.kind for pair in pairs] == (["overlap"] if share else [])
    assert all(f"shares {share} of" in pair.what for pair in pairs)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> list[Roi]:
    """H&E-like regions, no two of the same tissue."""
    root = synthesize(tmp_path_factory.mktemp("alike") / "phantom", Phantom(patients=12, roi_px=192))
    return list(read_cohort(root))


def _pixels(roi: Roi) -> np.ndarray:
    return np.asarray(Image.open(roi.image))


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG quality 80": lambda a: cv2.imdecode(cv2.imencode(".jpg", a, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 1),
    "colours +3 %": lambda a: np.clip(a * 1.03, 0, 255).astype(np.uint8),
    "colours -3 %": lambda a: (a * [0.97, 1.0, 0.97]).astype(np.uint8),
    "90 % of the size": lambda a: cv2.resize(a, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA),
    "4 px cut off": lambda a: a[4:, 4:],
    "all at once": lambda a: resaved(a[4:, 4:]),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_regions_are_found_and_nothing_else(phantom: list[Roi], tmp_path: Path, copy: str) -> None:
    """Every region with its copy: as many pairs as regions, each of the two that belong together."""
    table = Table(tmp_path)
    for number, roi in enumerate(phantom):
        table.add(f"{number}-original", "T", 0, image=_pixels(roi))
        table.add(f"{number}-copy", "T", 0, image=COPIES[copy](_pixels(roi)))
    checked = table.checked()
    assert checked.defects == ()
    pairs = related_pairs(checked.rois, checked.facts)
    found = sorted(tuple(roi.image.stem.split("-")[0] for roi in (pair.first, pair.second)) for pair in pairs)
    assert found == sorted((str(number), str(number)) for number in range(len(phantom)))


def test_tiles_of_real_regions_are_no_copies_of_each_other(real_data: Path, tmp_path: Path) -> None:
    """Neighbouring tiles of one slide are as alike as different tissue gets."""
    table = Table(tmp_path)
    for number, roi in enumerate(read_cohort(real_data)):
        pixels = _pixels(roi)
        for y in range(0, pixels.shape[0] - 255, 256):
            for x in range(0, pixels.shape[1] - 255, 256):
                table.add(f"{number}-{y}-{x}", "T", 0, image=pixels[y : y + 256, x : x + 256])
    checked = table.checked()
    assert len(checked.rois) > 80
    assert related_pairs(checked.rois, checked.facts) == []


def test_ten_thousand_regions_are_compared_in_seconds(phantom: list[Roi]) -> None:
    """Fifty million pairs; one of them is a copy."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (10_000, 12, 12), dtype=np.uint8)
    pictures = [cv2.resize(one, (32, 32), interpolation=cv2.INTER_CUBIC) for one in coarse]
    pictures[9_000] = np.clip(pictures[77] * 0.97 + 3, 0, 255).astype(np.uint8)
    rois = [replace(phantom[0], name=str(number), box=None) for number in range(len(pictures))]
    facts = {
        str(number): RoiFacts(32, 32, "", "", "", {}, base64.b64encode(picture.tobytes()).decode())
        for number, picture in enumerate(pictures)
    }
    began = time.process_time()
    (pair,) = related_pairs(rois, facts)
    assert {pair.first.name, pair.second.name} == {"9000", "77"}
    assert time.process_time() - began < 20


def test_a_split_file_that_names_a_patient_twice_is_defect_eleven(tmp_path: Path) -> None:
    """The file and both roles are named."""
    split = Split(train=("A", "B"), validation=("B",))
    (defect,) = split_defects(tmp_path / "split.json", split)
    assert (defect.number, defect.file) == (11, tmp_path / "split.json")
    assert "'B' is named more than once: train, validation" in defect.message
    assert roles_of(split) == {"A": "train", "B": "validation"}
