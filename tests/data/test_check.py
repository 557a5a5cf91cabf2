"""Every numbered defect is found, and its file named."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.data.check import KINDS, check_cohort
from harness.data.cohort import read_cohort

MASK = np.repeat(np.arange(1, 5, dtype=np.uint8), 12)[None].repeat(32, axis=0)  # 32 x 48: four stripes of 12
GOOD, BAD = "100B_[0, 0, 48, 32]", "114S_[0, 0, 48, 32]"


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def _rewrite(pixels: np.ndarray) -> Callable[[Path], None]:
    content = cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()
    return lambda path: path.write_bytes(content)


PLANTED = {
    "mask missing": ("missing_partner", "mask", Path.unlink, "has no mask"),
    "image missing": ("missing_partner", "image", Path.unlink, "has no image"),
    "truncated": ("unreadable", "image", _truncate, "truncated"),
    "bit flipped": ("unreadable", "mask", _flip_bit, "checksum"),
    "not a png": ("unreadable", "mask", lambda path: path.write_bytes(b"nothing"), "not a PNG"),
    "tiny": ("absurd_size", "mask", _rewrite(np.ones((4, 4), np.uint8)), "4 x 4 px"),
    "grey image": ("image_mode", "image", _rewrite(MASK), "8-bit RGB"),
    "colour mask": ("mask_mode", "mask", _rewrite(np.zeros((32, 48, 3), np.uint8)), "8-bit grey"),
    "other size": ("size_mismatch", "mask", _rewrite(np.ones((32, 40), np.uint8)), "40 x 32"),
    "unknown id": ("unknown_label", "mask", _rewrite(np.full((32, 48), 9, np.uint8)), r"9 \(1,536 px\)"),
    "undefined": ("undefined_mask", "mask", _rewrite(np.zeros((32, 48), np.uint8)), "every pixel is 0"),
}


@pytest.mark.parametrize("case", PLANTED)
def test_a_planted_defect_is_found_and_its_file_named(cohort, case: str) -> None:
    """The other region stays usable; the defect has its number, kind, file and reason."""
    kind, which, plant, reason = PLANTED[case]
    cohort.add(GOOD, MASK, seed=1)
    image, mask = cohort.add(BAD, MASK, seed=2)
    plant({"image": image, "mask": mask}[which])
    checked = check_cohort(read_cohort(cohort.root))
    (defect,) = checked.defects
    assert (defect.kind, defect.number) == (kind, KINDS[kind][0])
    # Of half a pair, the half that is there is named.
    named = {"image": mask, "mask": image} if kind == "missing_partner" else {"image": image, "mask": mask}
    assert defect.file == named[which]
    assert re.search(reason, str(defect))
    assert [roi.slide for roi in checked.rois] == ["100B"]
    assert set(checked.facts) == {checked.rois[0].name}


def test_the_same_picture_saved_twice_is_a_duplicate_even_when_its_bytes_differ(cohort) -> None:
    """The first by name stays; the other names it."""
    first, _ = cohort.add(GOOD, MASK, seed=1)
    second, _ = cohort.add(BAD, MASK, seed=1)
    pixels = cv2.imread(str(first))
    second.write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())
    assert first.read_bytes() != second.read_bytes()
    checked = check_cohort(read_cohort(cohort.root))
    (defect,) = checked.defects
    assert (defect.kind, defect.file) == ("duplicate", second)
    assert str(first) in defect.message
    assert [roi.image for roi in checked.rois] == [first]


@pytest.mark.parametrize("name", ["../100B.png", "a\\b.png", "a\nb.png"])
def test_names_that_leave_the_folder_are_not_opened(cohort, name: str) -> None:
    """A path part, a backslash (a path part elsewhere) or a line break in the name."""
    cohort.add(GOOD, MASK)
    (roi,) = read_cohort(cohort.root)
    checked = check_cohort([replace(roi, image=roi.image.parent / name)])
    (defect,) = checked.defects
    assert (defect.number, defect.kind) == (10, "unsafe_name")
    assert checked.rois == ()


def test_symbolic_links_are_fine(cohort, tmp_path: Path) -> None:
    """Data often lie on another disk."""
    image, _ = cohort.add(GOOD, MASK)
    elsewhere = image.rename(tmp_path / "elsewhere.png")
    image.symlink_to(elsewhere)
    assert check_cohort(read_cohort(cohort.root)).defects == ()


def test_both_halves_of_a_pair_are_judged_at_once(cohort) -> None:
    """Nobody wants to mend one file to be told about the next."""
    image, mask = cohort.add(BAD, MASK)
    _truncate(image)
    _flip_bit(mask)
    assert [defect.file for defect in check_cohort(read_cohort(cohort.root)).defects] == [image, mask]


def test_label_pixels_are_counted(cohort) -> None:
    """Four stripes of 12 columns and 32 rows."""
    cohort.add(GOOD, MASK)
    (facts,) = check_cohort(read_cohort(cohort.root)).facts.values()
    assert (facts.height_px, facts.width_px) == (32, 48)
    assert facts.label_counts == {1: 384, 2: 384, 3: 384, 4: 384}


def test_ids_that_a_label_map_ignores_are_known(cohort) -> None:
    """The caller says which ids may occur."""
    cohort.add(GOOD, np.full((32, 48), 8, np.uint8))
    assert check_cohort(read_cohort(cohort.root)).defects[0].kind == "unknown_label"
    assert check_cohort(read_cohort(cohort.root), known_ids=frozenset(range(9))).defects == ()


def test_data_hash_follows_content_and_not_place(cohort, tmp_path: Path) -> None:
    """Moving the data changes nothing; a mask's pixel, a patient or a centre does."""
    _, mask = cohort.add(GOOD, MASK, seed=1)
    rois = read_cohort(cohort.root)
    before = check_cohort(rois).data_hash
    moved = cohort.root.rename(tmp_path / "moved")
    assert check_cohort(read_cohort(moved)).data_hash == before
    rois = read_cohort(moved)
    assert check_cohort([replace(rois[0], patient="other")]).data_hash != before
    assert check_cohort([replace(rois[0], centre="other")]).data_hash != before
    _rewrite(MASK[:, ::-1])(moved / mask.relative_to(cohort.root))
    assert check_cohort(read_cohort(moved)).data_hash != before


def test_the_cache_spares_the_pixels_of_unchanged_files(cohort, tmp_path: Path) -> None:
    """A planted fact comes back, so nothing was read; a changed file is read again."""
    cache = tmp_path / "checked.json"
    _, mask = cohort.add(GOOD, MASK)
    rois = read_cohort(cohort.root)
    assert check_cohort(rois, cache=cache) == check_cohort(rois, cache=cache)
    cache.write_text(cache.read_text().replace('"2": 384', '"2": 999'))
    (facts,) = check_cohort(rois, cache=cache).facts.values()
    assert facts.label_counts[2] == 999
    _rewrite(MASK[:, ::-1])(mask)
    (facts,) = check_cohort(rois, cache=cache).facts.values()
    assert facts.label_counts[2] == 384


def test_a_file_changed_under_its_old_modification_time_is_read_again(cohort, tmp_path: Path) -> None:
    """Copying tools set times back; the size alone would not tell."""
    cache = tmp_path / "checked.json"
    _, mask = cohort.add(GOOD, MASK)
    rois = read_cohort(cohort.root)
    check_cohort(rois, cache=cache)
    before = mask.stat()
    _flip_bit(mask)
    os.utime(mask, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert mask.stat().st_size == before.st_size
    assert check_cohort(rois, cache=cache).defects[0].kind == "unreadable"


@pytest.mark.parametrize("content", ["", "[]", '{"version": 1, "files": {}}', '{"version": 1, "files": 3}'])
def test_a_broken_cache_only_costs_time(cohort, tmp_path: Path, content: str) -> None:
    """The result is the same as without one."""
    cohort.add(GOOD, MASK)
    rois = read_cohort(cohort.root)
    (tmp_path / "checked.json").write_text(content)
    assert check_cohort(rois, cache=tmp_path / "checked.json") == check_cohort(rois)


def test_defects_do_not_enter_the_cache(cohort, tmp_path: Path) -> None:
    """Known ids may differ from call to call; what is wrong is judged each time."""
    cache = tmp_path / "checked.json"
    cohort.add(GOOD, np.full((32, 48), 9, np.uint8))
    rois = read_cohort(cohort.root)
    assert check_cohort(rois, cache=cache).defects == check_cohort(rois, cache=cache).defects != ()


def test_progress_counts_every_region(cohort) -> None:
    """Good or bad."""
    cohort.add(GOOD, MASK, seed=1)
    image, _ = cohort.add(BAD, MASK, seed=2)
    image.unlink()
    seen: list[tuple[int, int]] = []
    check_cohort(read_cohort(cohort.root), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


def test_numbers_of_kinds_are_those_of_the_documentation() -> None:
    """People refer to them: a number never changes its meaning."""
    assert {kind: number for kind, (number, _) in KINDS.items()} == {
        "missing_partner": 1, "unreadable": 2, "absurd_size": 3, "image_mode": 4, "mask_mode": 5,
        "size_mismatch": 6, "unknown_label": 7, "undefined_mask": 8, "duplicate": 9, "unsafe_name": 10,
        "patient_in_two_splits": 11, "near_duplicate": 12, "overlap": 13,
    }  # fmt: skip


def test_real_regions_have_no_defect(real_data: Path) -> None:
    """Labels 1 and 7 only, every pixel counted."""
    checked = check_cohort(read_cohort(real_data))
    assert checked.defects == ()
    for facts in checked.facts.values():
        assert set(facts.label_counts) == {1, 7}
        assert sum(facts.label_counts.values()) == facts.height_px * facts.width_px
