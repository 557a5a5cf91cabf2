"""The split of a sweep as files: what other tools train on is what the trials were trained on."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from harness.config.load import load_space
from harness.data.splits import ROLES
from harness.files import read_json
from harness.report.queries import read_sweep
from harness.scoring.regions import regions_of_space
from harness.scoring.split_files import write_split_files
from harness.sweep.prepare import open_generation
from tests.scoring.conftest import SILENT, SPACE, Made

REPOSITORY = Path(__file__).resolve().parents[2]


def test_another_sweep_reads_the_split_back_and_has_the_same_validation_pixels(made: Made, tmp_path: Path) -> None:
    """split.json as data.split.file of a space with another share: same patients, same data hash, so same boards."""
    write_split_files(made.regions, tmp_path / "split")
    root, split = json.dumps(str(made.regions.prepared.facts.root)), json.dumps(str(tmp_path / "split/split.json"))
    file = tmp_path / "second.yaml"
    text = SPACE.replace("PHANTOM", root).replace("{validation: 0.34, seed: 1}", f"{{file: {split}}}")
    file.write_text(text.replace("name: small", "name: second"))
    space = load_space(file)
    second = regions_of_space(space, made.home, SILENT)
    assert second.split == made.regions.split
    assert second.prepared.facts.data_hash == made.regions.prepared.facts.data_hash
    generation = open_generation(made.home.sweep("second"), space, second.prepared, yaml=text, command=["harness"])
    (tmp_path / "split/split.json").unlink()  # the sweep keeps its own copy
    again = Made(made.home, generation, file, second)
    again.score(again.perfect(tmp_path / "pred"), on="unicorn3")
    (row,) = again.rows().values()
    trial = next(t for t in read_sweep(made.generation.path).trials if t.stratum == "unicorn3")
    assert row.scored and trial.scored and row.scored.group == trial.scored.group


def test_the_lists_agree_with_each_other(made: Made, tmp_path: Path) -> None:
    """A row per region; its role by its patient; nnU-Net's `train` and `val` are train.txt and validation.txt."""
    files = {file.name: file for file in write_split_files(made.regions, tmp_path)}
    rows = list(csv.DictReader(io.StringIO(files["split.csv"].read_text())))
    split = read_json(files["split.json"])
    assert {row["roi"] for row in rows} == {roi.name for roi in made.regions.every}
    for row in rows:
        assert row["patient"] in split[row["role"]]
        height, width = made.truth(next(roi for roi in made.regions.every if roi.name == row["roi"])).shape
        assert (int(row["width_px"]), int(row["height_px"])) == (width, height)
        assert Path(row["image"]).is_file()
    names = {role: files[f"{role}.txt"].read_text().split() for role in ROLES}
    assert names == {role: [row["roi"] for row in rows if row["role"] == role] for role in ROLES}
    assert read_json(files["splits_final.json"]) == [{"train": names["train"], "val": names["validation"]}]
    assert read_json(files["labels.json"])["maps"]["unicorn3"] == {
        "classes": [
            {"value": 1, "class": "tumor", "source_ids": [1, 3]},
            {"value": 2, "class": "stroma", "source_ids": [2, 6]},
            {"value": 3, "class": "rest", "source_ids": [4, 5, 7]},
        ],
        "undefined": [0],
    }


def test_the_worked_example_makes_labels_that_score_one(made: Made, tmp_path: Path) -> None:
    """docs/to_nnunet.py: predicting its own labels is perfect, the ignored pixels being no one's."""
    write_split_files(made.regions, tmp_path / "split")
    script, raw = REPOSITORY / "docs" / "to_nnunet.py", tmp_path / "raw" / "Dataset501_Tissue"
    subprocess.run([sys.executable, script, tmp_path / "split", raw, "unicorn3"], check=True, timeout=60)
    document = read_json(raw / "dataset.json")
    assert document["labels"] == {"background": 0, "tumor": 1, "stroma": 2, "rest": 3, "ignore": 4}
    splits = read_json(tmp_path / "split/splits_final.json")[0]
    assert sorted(path.stem for path in (raw / "labelsTr").iterdir()) == sorted(splits["train"] + splits["val"])
    assert document["numTraining"] == len(list((raw / "imagesTr").iterdir())) == len(splits["train"] + splits["val"])
    pred = tmp_path / "pred"
    pred.mkdir()
    for name in splits["val"]:
        labels = cv2.imread(str(raw / "labelsTr" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(pred / f"{name}.png"), np.where(labels == 4, 0, labels))
    made.score(pred, on="unicorn3")
    (row,) = made.rows().values()
    assert row.scored and row.result
    assert (row.scored.scores["val/iou"], row.result["flags"]) == (1.0, [])
