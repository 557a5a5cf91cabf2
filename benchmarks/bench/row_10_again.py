"""Row 10: the same sweep again after one value in the YAML was changed, against all of it in a fresh home.

The sweep is a grid of three learning rates and two losses on synthetic tissue; one learning rate is changed, so that
two of the six cells are new. `seconds` is the whole command, from its start to the report; `epochs` those that it
trained, by the trials' own events; `surplus_epochs` those beyond the new cells'. With cells of seconds, as here, the
time of both sides is mostly what every sweep costs (imports, report); the epochs are what grows with the work.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench.row import Comparison, Figures, Row, Side

EPOCHS, CELLS, NEW_CELLS = 2, 6, 2
SPACE = f"""name: again
seed: 3
data: {{root: phantom, split: {{by: patient, validation: 0.4, seed: 11}}}}
labels: {{tiger7: builtin}}
parameters:
  architecture: {{value: unet_plain}}
  decoder_channels: {{value: [16, 16, 8, 8, 4]}}
  patch_px: {{value: 64}}
  learning_rate: {{values: [LEARNING_RATES]}}
  loss: {{values: [cross_entropy, dice]}}
train: {{epochs: {EPOCHS}, batch_size: 8, stop_patience: null, augment: none}}
method: grid
budget: {{trials: {CELLS}}}
export: none
"""
BEFORE, AFTER = "1e-3, 3e-3, 1e-2", "1e-3, 3e-3, 2e-2"


def again() -> Figures:
    """The second run in a home where the first one ended."""
    with tempfile.TemporaryDirectory(prefix="again-") as name:
        folder = _with_data(Path(name))
        _swept(folder, BEFORE)
        seconds, epochs = _swept(folder, AFTER)
    return {"seconds": seconds, "epochs": epochs, "surplus_epochs": epochs - NEW_CELLS * EPOCHS}


def full() -> Figures:
    """The changed sweep in a home of its own; the data are there."""
    with tempfile.TemporaryDirectory(prefix="again-") as name:
        seconds, epochs = _swept(_with_data(Path(name)), AFTER)
    return {"seconds": seconds, "epochs": epochs, "surplus_epochs": epochs - NEW_CELLS * EPOCHS}


def _with_data(folder: Path) -> Path:
    from harness.data.phantom import Phantom, synthesize

    synthesize(folder / "regions", Phantom(patients=8, roi_px=256, tiny_share=0.0))
    return folder


def _swept(folder: Path, learning_rates: str) -> tuple[float, int]:
    """Run the sweep to its report: seconds, and epochs trained since it began."""
    file = folder / "again.yaml"
    file.write_text(SPACE.replace("LEARNING_RATES", learning_rates), encoding="utf-8")
    command = [sys.executable, "-m", "harness.cli", "sweep", file.name, "--data", "regions", "--home", "home"]
    began, clock = time.time(), time.perf_counter()
    subprocess.run([*command, "--device", "cpu", "--workers", "2"], cwd=folder, check=True)
    seconds = time.perf_counter() - clock
    files = (folder / "home" / "sweeps" / "again").glob("g*/trials/*/attempts/*/events.jsonl")
    lines = [line for events in files for line in events.read_text(encoding="utf-8").splitlines()]
    # A kept trial's events are older; its epochs were trained before.
    return seconds, sum(event["event"] == "epoch" and event["time"] >= began for event in map(json.loads, lines))


ROW = Row(
    number=10,
    work=f"again after one changed value: {NEW_CELLS} of {CELLS} cells new, {EPOCHS} epochs each",
    sides=(Side("again", again), Side("full rerun", full)),
    comparisons=(
        Comparison("again", None, "surplus_epochs", goal=0),
        Comparison("again", "full rerun", "epochs", goal=CELLS / NEW_CELLS),
        Comparison("again", "full rerun", "seconds"),
    ),
    timeout_s=1800,
)
