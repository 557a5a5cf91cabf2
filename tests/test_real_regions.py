"""It learns on real tissue: three BCSS regions, one patient held out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[1]
REGIONS = Path(os.environ.get("HARNESS_REAL_DATA", REPO.parent / "shared" / "data" / "bcss-tumor"))


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REGIONS.is_dir(), reason="needs real regions (HARNESS_REAL_DATA)"),
]


def rows_of(home: Path, *choices: str) -> list[dict[str, Any]]:
    """The leaderboard of docs/real_regions.yaml with these overrides, without models for MLflow."""
    command = [sys.executable, "-m", "harness.cli", "sweep", "docs/real_regions.yaml", "--data", str(REGIONS)]
    command += ["--home", str(home / "home"), "--out", str(home)]
    command += [part for choice in (*choices, "export=none") for part in ("--set", choice)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads((home / "real-regions/leaderboard.json").read_text())["rows"]
    return rows


@pytest.mark.long
def test_a_small_unet_leaves_the_majority_class_behind_on_real_regions(tmp_path: Path) -> None:
    """Pooled macro Dice of tumor against other on the held-out patient: at least .60 after three epochs, where always
    answering the majority class gives .35."""
    (row,) = rows_of(tmp_path, "parameters.encoder={value: tu-test_efficientnet}", "budget.trials=1")
    assert row["scores"]["dice"] >= 0.60
    assert row["scores"]["yardstick"] is None  # `other` holds stroma and rest
    pixels = row["support"]
    majority = max(pixels.values()) / sum(pixels.values())
    assert majority / (1 + majority) == pytest.approx(0.35, abs=0.01)


def test_pretrained_beats_random_on_real_regions(tmp_path: Path) -> None:
    """ImageNet weights from the installed package, no hub: after one epoch their Dice on the held-out patient is at
    least .70 and .05 above that of the same network, decoder and order of patches from random weights. (Measured:
    docs/pretrained.md.)"""
    encoder = "parameters.encoder={value: tu-tf_efficientnet_lite0}"
    weights = "parameters.encoder_weights={values: [imagenet-package, random]}"
    rows = rows_of(tmp_path, encoder, weights, "train.epochs=1")
    dice = {row["parameters"]["encoder_weights"]: row["scores"]["dice"] for row in rows}
    assert dice["imagenet-package"] >= 0.70
    assert dice["imagenet-package"] > dice["random"] + 0.05
