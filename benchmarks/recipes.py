"""The source's recipe against ours, small enough for two cores: same encoder, weights, epochs, patients and seeds.

    python benchmarks/recipes.py phantom
    python benchmarks/recipes.py data/bcss-tumor --split docs/real_regions_split.json

Runs search_spaces/recipes.yaml with its claim at 64 px with EfficientNet-lite0 (ImageNet weights of the extra `lite0`);
the report opens with the verdict. Where patients are too few for one, all four rows are trained with three fresh seeds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

SPACE = Path(__file__).resolve().parents[1] / "search_spaces" / "recipes.yaml"
PATCH_PX = 64
PHANTOM = {"patients": 30, "roi_px": 256}
TUMOR_ONLY = {"tumor2": {"tumor": [1], "other": [2, 3, 4, 5, 6, 7]}}


def small_space(data: str, split: Path | None, *, epochs: int) -> dict[str, Any]:
    """recipes.yaml with a small network and small patches; for regions where only tumor is labelled, two classes."""
    space: dict[str, Any] = YAML(typ="safe").load(SPACE.read_text(encoding="utf-8"))
    space |= {"name": f"recipes-{'phantom' if data == 'phantom' else 'real'}"}
    space["data"] = {"root": data, "phantom": PHANTOM, "split": {**space["data"]["split"], "validation": 0.5}}
    if split is not None:
        space["data"]["split"] = {"file": str(split.resolve())}
        space |= {"labels": TUMOR_ONLY, "objective": {"metric": "val/dice", "goal": "maximize"}}
        space["claims"] = [claim.replace("val/yardstick", "val/dice") for claim in space["claims"]]
        space["replicate"] = {"top": 4, "seeds": [101, 102, 103]}
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="phantom, or a folder of regions")
    parser.add_argument("--split", type=Path, help="split file of regions where only tumor is labelled")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/recipes"))
    given = parser.parse_args()
    space = small_space(given.data, given.split, epochs=given.epochs)
    given.folder.mkdir(parents=True, exist_ok=True)
    file = given.folder / f"{space['name']}.yaml"
    with file.open("w", encoding="utf-8") as stream:
        YAML(typ="safe").dump(space, stream)
    folders = ["--home", str(given.folder / "runs"), "--out", str(given.folder / "reports")]
    return subprocess.run([sys.executable, "-m", "harness.cli", "sweep", str(file), *folders], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
