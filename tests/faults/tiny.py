"""The tiny sweep that every fault is tried on: two trials of two epochs, in this process, seconds when warm."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

from rich.console import Console

from harness.config.load import load_space
from harness.data.phantom import Phantom, synthesize
from harness.report.page import write_report
from harness.report.queries import read_sweep
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.progress import Screen
from harness.sweep.run import Outcome, Request, run_sweep
from harness.sweep.vocabulary import CHECKS

EPOCHS, TRIALS = 2, 2
SPACE = """name: tiny
seed: 3
data: {root: ROOT, split: {validation: 0.34, seed: 1}}
labels: {unicorn3: builtin}
parameters:
  architecture: {value: unet_plain}
  decoder_channels: {value: [4, 4, 4, 4, 4]}
  patch_px: {value: 32}
  learning_rate: {values: [0.003, 0.01]}
train: {epochs: 2, batch_size: 16, stop_patience: null, augment: none}
method: grid
budget: {trials: 2}
"""


class Place:
    """A folder with the sweep's file, its home and its reports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = Home(path / "home")

    @property
    def generation(self) -> GenerationFolder:
        """The sweep's only generation."""
        return GenerationFolder(self.home.sweep("tiny").path / "g1")

    def run(self) -> Outcome:
        """Run the sweep, or continue it, as `harness sweep` does."""
        file = self.path / "tiny.yaml"
        space = load_space(file, checks=CHECKS)
        request = Request(yaml=file.read_text(), command=["harness", "sweep", "tiny.yaml"], executor="inline")
        said = Console(file=io.StringIO(), force_terminal=False)
        return run_sweep(space, self.home, request, Screen(said), self.report)

    def report(self, generation: GenerationFolder) -> Path:
        """Write the report."""
        return write_report(read_sweep(generation.path), self.path / "reports")


def prepared(folder: Path, regions: Path) -> Place:
    """A home as it is before the first trial: MLflow's and Optuna's tables made, nothing in them."""
    (folder / "home").mkdir(parents=True)
    (folder / "tiny.yaml").write_text(SPACE.replace("ROOT", json.dumps(str(regions))))
    place = Place(folder)
    from harness.study import open_storage
    from harness.tracking.client import MlflowTracker
    from harness.tracking.store import client_settings, tracking_store

    os.environ.update(client_settings(os.environ))
    MlflowTracker(tracking_store(place.home.path, {}))
    open_storage(place.home.optuna_url)
    return place


def phantom(folder: Path) -> Path:
    """Six synthetic patients, one small region each."""
    return synthesize(folder, Phantom(patients=6, roi_px=128, tiny_share=0.0))


def copied(place: Place, folder: Path) -> Place:
    """A real copy: a linked database would be written by all."""
    shutil.copytree(place.path, folder)
    return Place(folder)
