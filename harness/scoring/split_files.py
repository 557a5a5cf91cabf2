"""The split of a sweep as files, for tools that train on the same regions."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from harness.config.labels import UNDEFINED, LabelMap
from harness.data.splits import ROLES, write_split
from harness.files import write_json, write_text
from harness.scoring.regions import Regions

COLUMNS = ("role", "roi", "patient", "centre", "image", "mask", "mpp", "width_px", "height_px")


def write_split_files(regions: Regions, out: Path) -> tuple[Path, ...]:
    """Write all lists into `out`, each in one step; their paths."""
    out.mkdir(parents=True, exist_ok=True)
    names = {role: [roi.name for roi in regions.of_role(role)] for role in ROLES}
    write_text(out / "split.csv", split_csv(regions))
    for role in ROLES:
        write_text(out / f"{role}.txt", "".join(f"{name}\n" for name in names[role]))
    write_split(out / "split.json", regions.split)
    write_json(out / "splits_final.json", [{"train": names["train"], "val": names["validation"]}])
    write_json(out / "labels.json", labels_document(regions.label_maps))
    write_text(out / "README.txt", readme(regions))
    files = ("split.csv", *(f"{role}.txt" for role in ROLES), "split.json", "splits_final.json", "labels.json")
    return tuple(out / file for file in (*files, "README.txt"))


def split_csv(regions: Regions) -> str:
    """A row per region with a role, by role and name; absolute paths, sizes in pixels."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for role in ROLES:
        for roi in regions.of_role(role):
            size = regions.size_px(roi)
            writer.writerow([role, roi.name, roi.patient, roi.centre, roi.image, roi.mask, roi.mpp, *size])
    return stream.getvalue()


def labels_document(label_maps: tuple[LabelMap, ...]) -> dict[str, Any]:
    """Each label map's classes with their value in a mask, and the source ids that are in none."""
    return {
        "schema": "harness.labels/1",
        "maps": {
            labels.name: {
                "classes": [
                    {"value": value, "class": name, "source_ids": list(ids)}
                    for value, (name, ids) in enumerate(labels.classes.items(), start=1)
                ],
                "undefined": [UNDEFINED, *labels.ignore_ids],
            }
            for labels in label_maps
        },
    }


def readme(regions: Regions) -> str:
    """What each file is, and which names and values masks must have."""
    counts = ", ".join(f"{len(regions.of_role(role))} {role}" for role in ROLES if regions.of_role(role))
    several = len(regions.label_maps) > 1
    maps = "\n".join(
        f"  {labels.name}: " + ", ".join(f"{value} {name}" for value, name in enumerate(labels.class_names, start=1))
        for labels in regions.label_maps
    )
    return f"""The split of {regions.sweep}: {counts} regions, data {regions.prepared.facts.data_hash[:12]}.

split.csv          a row per region: role, name, patient, centre, image, mask, um per pixel, size in pixels
train.txt, ...     names of the regions, one a line
split.json         patients by role; data.split.file of another search space reads it
splits_final.json  the same regions for nnU-Net v2: train and val by case (the test regions are in neither)
labels.json        for each label map the value of every class in a mask, and its ids in the masks of split.csv
                   ("undefined": ids without a class, to be left out of the loss)

Train on the train regions. Choose nothing by the validation regions that the trials of the sweep did not choose by
them. Then predict one mask for each name in validation.txt:

  <name>.png or <name>.tif, the size of its region, one whole number a pixel (grey, 8 or 16 bits, or palette):
{maps}
  0 is no class, and counts as wrong wherever the truth has one. Or the ids themselves, with --labels source.

  harness score {regions.sweep} --pred FOLDER --name TOOL{" --map MAP" if several else ""}
"""
