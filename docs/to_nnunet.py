"""The lists of `harness data export-split` -> a raw dataset for nnU-Net v2: python to_nnunet.py SPLIT RAW MAP.

SPLIT is the folder of lists, RAW the dataset's folder (such as nnUNet_raw/Dataset501_Tissue), MAP a label map. A class
keeps its value; a pixel without a class becomes nnU-Net's ignore label, which has to be the highest value.
"""

import csv
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

split, raw, label_map = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
classes = json.loads((split / "labels.json").read_text())["maps"][label_map]["classes"]
ignore = len(classes) + 1
value_of = np.full(256, ignore, np.uint8)
for row in classes:
    value_of[row["source_ids"]] = row["value"]

for folder in ("imagesTr", "labelsTr", "imagesTs"):
    (raw / folder).mkdir(parents=True, exist_ok=True)
cases = 0
with (split / "split.csv").open(newline="") as stream:
    for region in csv.DictReader(stream):
        images = "imagesTs" if region["role"] == "test" else "imagesTr"
        shutil.copyfile(region["image"], raw / images / f"{region['roi']}_0000.png")
        if images == "imagesTr":
            ids = cv2.imread(region["mask"], cv2.IMREAD_UNCHANGED)
            cv2.imwrite(str(raw / "labelsTr" / f"{region['roi']}.png"), value_of[ids])
            cases += 1
(raw / "dataset.json").write_text(
    json.dumps({
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, **{row["class"]: row["value"] for row in classes}, "ignore": ignore},
        "numTraining": cases,
        "file_ending": ".png",
    }, indent=1)
)  # fmt: skip
print(f"{cases} cases in {raw}; put {split / 'splits_final.json'} into nnUNet_preprocessed/{raw.name}/")
