"""It learns on real tissue: three BCSS regions, one patient held out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
REGIONS = Path(os.environ.get("HARNESS_REAL_DATA", REPO.parent / "shared" / "data" / "bcss-tumor"))


@pytest.mark.slow
@pytest.mark.skipif(not REGIONS.is_dir(), reason="needs real regions (HARNESS_REAL_DATA)")
def test_a_small_unet_leaves_the_majority_class_behind_on_real_regions(tmp_path: Path) -> None:
    """Pooled macro Dice of tumor against other on the held-out patient: at least .60 after three epochs, where always
    answering the majority class gives .35."""
    choices = ["parameters.encoder={value: tu-test_efficientnet}", "budget.trials=1", "export=none"]
    command = [sys.executable, "-m", "harness.cli", "sweep", "docs/real_regions.yaml", "--data", str(REGIONS)]
    command += ["--home", str(tmp_path / "home"), "--out", str(tmp_path), "--workers", "1"]
    command += [part for choice in choices for part in ("--set", choice)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "real-regions/leaderboard.json").read_text())["rows"]
    assert row["scores"]["dice"] >= 0.60
    assert row["scores"]["yardstick"] is None  # `other` holds stroma and rest
    pixels = row["support"]
    majority = max(pixels.values()) / sum(pixels.values())
    assert majority / (1 + majority) == pytest.approx(0.35, abs=0.01)
