"""What a sweep does with data that are not TIGER's, not sound, or not as separate as they look."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from harness.cli import main
from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.data.cohort import read_cohort
from harness.data.phantom import Phantom, synthesize
from harness.errors import BadInput
from harness.sweep.layout import Home
from harness.sweep.prepare import Prepared, prepare_data
from harness.sweep.progress import Screen
from harness.sweep.vocabulary import CHECKS

from .conftest import REPOSITORY

OURS = "ours: {tumor: [1, 3], rest: [2, 4, 5, 6, 7]}"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """The phantom's regions behind a table like that of docs/data.md; returns its folder."""
    rois = read_cohort(synthesize(tmp_path / "phantom", Phantom(patients=6, roi_px=128, tiny_share=0)))
    folder = tmp_path / "ours"
    example = re.search(r"```csv\n(.+?)\n", (REPOSITORY / "docs" / "data.md").read_text(encoding="utf-8"))
    assert example
    rows = [example[1].split(",")]
    for number, roi in enumerate(rois):
        names = [f"{what}/case-{roi.patient}_{number}.png" for what in ("images", "masks")]
        for name, source in zip(names, (roi.image, roi.mask), strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(source.read_bytes())
        rows.append([*names, roi.patient, roi.centre, str(roi.mpp)])
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return folder


def space_of(folder: Path, data: dict[str, Any], *, labels: str = OURS, more: str = "") -> SearchSpace:
    """A search space over this folder, with every check of a sweep."""
    file = folder.parent / "space.yaml"
    section = json.dumps({"root": str(folder), "split": {"validation": 0.34}, **data})
    parameters = "parameters: {architecture: {value: unet_plain}}"
    file.write_text(f"name: small\ndata: {section}\nlabels: {{{labels}}}\n{parameters}\n{more}\n")
    return load_space(file, checks=CHECKS)


def prepared(folder: Path, **data: Any) -> Prepared:
    """The folder's data, prepared for a sweep."""
    return prepare_data(space_of(folder, data), Home(folder.parent / "runs"), Screen())


def test_a_table_is_prepared_like_tigers_folders(table: Path) -> None:
    """Patients, centres and roles from the table; ids that are not known to be TIGER's."""
    made = prepared(table)
    assert made.summary["patients"] == 6
    assert made.facts.source == "other"
    assert made.facts.source_ids == tuple(range(8))
    assert len(made.facts.split.validation) == 2
    assert made.summary["quarantined"] == []
    assert prepared(table / "manifest.csv").facts.data_hash == made.facts.data_hash


def test_builtin_maps_and_the_yardstick_need_the_word_that_ids_are_tigers(table: Path) -> None:
    """Two lines, both with the way out; with `source_ids: tiger` nothing is wrong."""
    yardstick = "objective: {metric: val/yardstick}"
    with pytest.raises(BadInput) as caught:
        space_of(table, {}, labels="unicorn3: builtin", more=yardstick)
    assert [bool(re.search("source ids are not TIGER's", line)) for line in caught.value.problems] == [False, True]
    assert "labels.unicorn3" in caught.value.problems[0]
    assert "data.source_ids: tiger" in caught.value.problems[0]
    told = space_of(table, {"source_ids": "tiger"}, labels="unicorn3: builtin", more=yardstick)
    assert prepare_data(told, Home(table.parent / "runs"), Screen()).facts.source == "tiger"


def test_quarantine_leaves_a_region_out_and_records_its_hashes(table: Path) -> None:
    """The truncated image still has a hash; the mask that is gone has none. The default stops."""
    first, second, *_ = read_cohort(table)
    first.image.write_bytes(first.image.read_bytes()[:-40])
    second.mask.unlink()
    with pytest.raises(BadInput, match="on_defect: quarantine") as caught:
        prepared(table)
    assert len(caught.value.problems) == 3
    made = prepared(table, on_defect="quarantine")
    truncated, half = made.summary["quarantined"]
    assert truncated["image_sha256"] == hashlib.sha256(first.image.read_bytes()).hexdigest()
    assert (half["name"], half["mask_sha256"]) == (second.name, None)
    assert [defect["kind"] for defect in (*truncated["defects"], *half["defects"])] == ["unreadable", "missing_partner"]
    assert made.facts.quarantined == (first.name, second.name)
    assert any("quarantined" in flag for flag in made.summary["flags"])
    json.dumps(made.summary, allow_nan=False)


def _with_copy(table: Path) -> tuple[dict[str, list[str]], Path]:
    """The first patient's first image, brighter, under the last patient; the split parts the two."""
    rois = read_cohort(table)
    first, last = rois[0], next(roi for roi in rois[::-1] if roi.patient != rois[0].patient)
    pixels = np.asarray(Image.open(first.image))
    cv2.imwrite(str(last.image), np.clip(pixels[..., ::-1] * 1.03, 0, 255).astype(np.uint8))
    cv2.imwrite(str(last.mask), np.asarray(Image.open(first.mask)))
    others = sorted({roi.patient for roi in rois} - {first.patient, last.patient})
    return {"train": [first.patient, *others[:2]], "validation": [last.patient, others[2]]}, first.image


def test_a_copy_across_roles_stops_the_sweep_and_quarantine_drops_the_training_one(table: Path) -> None:
    """Inside one role it is a remark. The patient that the split does not name is a remark, too."""
    split, image = _with_copy(table)
    file = table.parent / "split.json"
    file.write_text(json.dumps(split))
    rule = {"split": {"file": str(file)}}
    with pytest.raises(BadInput, match="defect 12, near_duplicate") as caught:
        prepared(table, **rule)
    assert caught.value.problems[0].startswith(f"{image}: ")
    assert "data.split.file" in caught.value.problems[-1]
    made = prepared(table, **rule, on_defect="quarantine")
    assert [row["image"] for row in made.summary["quarantined"]] == [str(image)]
    assert "patients in no role, because data.split.file does not name them: 1" in made.summary["flags"]

    both = {"train": [*split["train"], split["validation"][0]], "validation": split["validation"][1:]}
    file.write_text(json.dumps(both))
    flags = prepared(table, **rule).summary["flags"]
    assert "pairs of regions with nearly the same picture, none across roles: 1" in flags


def test_a_split_may_name_patients_whose_regions_were_all_quarantined(table: Path) -> None:
    """They leave the roles; a role that is empty then is refused."""
    rois = read_cohort(table)
    patients = sorted({roi.patient for roi in rois})
    file = table.parent / "split.json"
    file.write_text(json.dumps({"train": patients[:4], "validation": patients[4:]}))
    for roi in rois:
        if roi.patient in (patients[0], patients[5]):
            roi.mask.unlink()
    rule = {"split": {"file": str(file)}, "on_defect": "quarantine"}
    split = prepared(table, **rule).facts.split
    assert (split.train, split.validation) == (tuple(patients[1:4]), (patients[4],))
    for roi in rois:
        if roi.patient == patients[4]:
            roi.mask.unlink()
    with pytest.raises(BadInput, match="nobody with a usable region is in 'validation'"):
        prepared(table, **rule)


def test_data_check_tells_notices_from_defects_by_the_split(table: Path) -> None:
    """Exit 0 without it; with it exit 2, the copy named, and the split's own mistakes listed beside it."""
    split, image = _with_copy(table)
    file = table.parent / "split.json"
    file.write_text(json.dumps({**split, "test": [split["train"][1], "nobody"]}))
    runner = CliRunner()
    alone = runner.invoke(main, ["data", "check", str(table)])
    assert alone.exit_code == 0
    assert "pairs of regions with nearly the same picture, none across roles: 1" in alone.stdout
    judged = runner.invoke(main, ["data", "check", str(table), "--split", str(file), "--json"])
    assert judged.exit_code == 2
    document = json.loads(judged.stdout)
    assert [(row["number"], row["file"]) for row in document["defects"]] == [(11, str(file)), (12, str(image))]
    assert "not in the data: nobody" in document["split_problems"][0]
    assert len(document["patients_without_role"]) == 1
    assert document["notices"] == []


def test_many_defects_of_one_kind_are_all_listed_under_one_heading(table: Path) -> None:
    """Sixty rows whose files are not there: every file on a line of its own."""
    rows = "".join(f"{number}.png,masks/a.png,P{number},,0.5\n" for number in range(60))
    (table / "manifest.csv").write_text(f"image,mask,patient,centre,mpp\n{rows}")
    (table / "masks" / "a.png").write_bytes(b"")
    result = CliRunner().invoke(main, ["data", "check", str(table)])
    assert result.exit_code == 2
    assert "60 times defect 1, missing_partner" in result.stdout
    assert all(f"{table}/{number}.png: is not there" in result.stdout for number in range(60))
