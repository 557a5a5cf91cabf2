"""Recompute the exact scores of a trial's best epoch from its scores.json: python docs/scores_from_json.py FOLDER"""

import json
import sys
from pathlib import Path

import numpy as np

document = json.loads((Path(sys.argv[1]) / "scores.json").read_text())
names, first = list(document["labels"]), len(document["classes"]) - len(document["labels"])


def scores(matrices):
    pooled = np.sum(matrices, axis=0)
    folded = np.array([pooled[[document["source_ids"].index(i) for i in document["labels"][n]]].sum(0) for n in names])
    hit, truth, said = np.diagonal(folded[:, first:]), folded.sum(1), folded[:, first:].sum(0)
    present = [name for name, pixels in zip(names, truth, strict=True) if pixels]  # without a true pixel: n/a
    hit, truth, said = hit[truth > 0], truth[truth > 0], said[truth > 0]
    dice, iou = 2 * hit / (truth + said), hit / (truth + said - hit)
    both = (("iou", iou), ("dice", dice))
    per_class = {f"{kind}_{n}": v for kind, vs in both for n, v in zip(present, vs, strict=True)}
    return {"iou": iou.mean(), "dice": dice.mean(), **per_class}


rois, results = document["rois"], {}
for key, prefix in (("matrix", "val"), ("matrix_non_homogeneous", "val/non_homogeneous")):
    results[prefix] = scores([roi[key] for roi in rois])
for centre in sorted({roi["centre"] for roi in rois}):
    results[f"val/centre/{centre}"] = scores([roi["matrix"] for roi in rois if roi["centre"] == centre])
recorded = json.loads((Path(sys.argv[1]) / "result.json").read_text())["scores"]
for prefix, values in results.items():
    for name, value in values.items():
        difference = abs(value - recorded[f"{prefix}/{name}"])
        print(f"{prefix}/{name:<24} {value:.6f}  difference {difference:.1e}")
        assert difference < 1e-12
