"""The source's recipe against ours, small enough for two cores: same encoder, weights, epochs, patients and seeds.

    python benchmarks/recipes.py phantom
    python benchmarks/recipes.py data/bcss-tumor --split docs/real_regions_split.json

Runs search_spaces/recipes.yaml at 64 px with EfficientNet-lite0 (ImageNet weights of the extra `lite0`), once per seed,
and prints every score and the differences to the source's recipe with their spread over seeds. Going on after an
interruption trains nothing twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

SPACE = Path(__file__).resolve().parents[1] / "search_spaces" / "recipes.yaml"
PATCH_PX = 64
# Rows of the space, in its order.
ROWS = ("source's recipe", "ours", "source's at 1.0 um/px", "ours at .5 um/px")
PHANTOM = {"patients": 16, "roi_px": 320}
TUMOR_ONLY = {"tumor2": {"tumor": [1], "other": [2, 3, 4, 5, 6, 7]}}


def small_space(data: str, split: Path | None, *, epochs: int, seed: int) -> dict[str, Any]:
    """recipes.yaml with a small network and small patches; for regions where only tumor is labelled, two classes."""
    space: dict[str, Any] = YAML(typ="safe").load(SPACE.read_text(encoding="utf-8"))
    space |= {"name": f"recipes-{'phantom' if data == 'phantom' else 'real'}-{seed}", "seed": seed}
    space["data"] = {"root": data, "phantom": PHANTOM, "split": space["data"]["split"]}
    if split is not None:
        space["data"]["split"] = {"file": str(split.resolve())}
        space |= {"labels": TUMOR_ONLY, "objective": {"metric": "val/dice", "goal": "maximize"}, "claims": []}
    parameters = space["parameters"]
    parameters["encoder"] = {"value": "tu-tf_efficientnet_lite0"}
    parameters["encoder_weights"] = {"value": "imagenet-package"}
    parameters["decoder_channels"] = {"value": [64, 48, 32, 16, 16]}
    parameters["patch_px"] = {"value": PATCH_PX}
    parameters["stride"] = {"values": [PATCH_PX, PATCH_PX // 2]}
    for row in space["baselines"]:
        row["stride"] = PATCH_PX if row["mpp"] == 0.5 else PATCH_PX // 2
    space["train"] |= {"epochs": epochs, "batch_size": 8}
    return space


def run(space: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Sweep it; the scores of its four rows, in the order of the space."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{space['name']}.yaml"
    with file.open("w", encoding="utf-8") as stream:
        YAML(typ="safe").dump(space, stream)
    out = folder / "reports"
    command = ["sweep", str(file), "--home", str(folder / "runs"), "--out", str(out)]
    subprocess.run([sys.executable, "-m", "harness.cli", *command], check=True)
    board = json.loads((out / str(space["name"]) / "leaderboard.json").read_text(encoding="utf-8"))["rows"]
    return [row["scores"] for row in sorted(board, key=lambda row: str(row["trial"]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="phantom, or a folder of regions")
    parser.add_argument("--split", type=Path, help="split file of regions where only tumor is labelled")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--folder", type=Path, default=Path("runs/recipes"))
    given = parser.parse_args()
    metrics = ("dice",) if given.split else ("yardstick", "dice")
    scores = [run(small_space(given.data, given.split, epochs=given.epochs, seed=s), given.folder) for s in given.seeds]
    for metric in metrics:
        print(f"\nval/{metric}, seeds {given.seeds}, {given.epochs} epochs")
        for place, name in enumerate(ROWS):
            values = [one[place][metric] for one in scores]
            behind = [one[place][metric] - one[0][metric] for one in scores]
            spread = f" +- {statistics.stdev(behind):.3f} SD" if len(behind) > 1 else ""
            shown = " ".join(f"{value:.3f}" for value in values)
            print(f"{name:24} {statistics.mean(values):.3f}  ({shown})  {statistics.mean(behind):+.3f}{spread}")


if __name__ == "__main__":
    main()
