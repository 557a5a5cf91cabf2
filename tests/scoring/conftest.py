"""A sweep on synthetic tissue whose trials were never trained: their predictions are the truth with noise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from harness import scores
from harness.config.cells import resolve
from harness.config.load import load_space
from harness.data.phantom import Phantom, synthesize
from harness.data.png import read_mask
from harness.data.targets import target_table
from harness.data.tiger import Roi
from harness.files import write_json
from harness.report.queries import Trial, read_sweep
from harness.scoring.regions import Regions, regions_of_space, regions_of_sweep
from harness.scoring.score import Submission, chosen_maps, score
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.ledger import trial_uid
from harness.sweep.prepare import open_generation
from harness.sweep.progress import Screen
from harness.trial.folder import TrialFolder

SPACE = """name: small
seed: 3
data: {root: PHANTOM, split: {validation: 0.34, seed: 1}}
labels: {tiger7: builtin, unicorn3: builtin}
strata: {labels: [tiger7, unicorn3]}
parameters: {architecture: {value: unet_plain}, patch_px: {value: 64}}
budget: {trials: 1}
"""
SILENT = Screen(Console(quiet=True))


@dataclass(frozen=True)
class Made:
    """A generation with a trial for each label map, and what it was made from."""

    home: Home
    generation: GenerationFolder
    space_file: Path
    regions: Regions

    @property
    def validation(self) -> tuple[Roi, ...]:
        """Its validation regions."""
        return self.regions.of_role("validation")

    def truth(self, roi: Roi) -> NDArray[np.uint8]:
        """Source ids of a region."""
        return read_mask(roi.mask)[0]

    def perfect(self, folder: Path, label_map: str = "unicorn3") -> Path:
        """A folder with right masks in classes 1..K; undefined truth is called class 1."""
        labels = next(labels for labels in self.regions.label_maps if labels.name == label_map)
        table = np.maximum(target_table(labels, "as_paper"), 1)
        folder.mkdir(exist_ok=True)
        for roi in self.validation:
            cv2.imwrite(str(folder / f"{roi.name}.png"), table[self.truth(roi)])
        return folder

    def score(self, folder: Path, name: str = "other", *, values: str = "classes", on: str | None = None) -> None:
        """As `harness score` does, without its report."""
        regions = regions_of_sweep(self.generation, self.home, SILENT)
        kind = "source" if values == "source" else "classes"
        maps = chosen_maps(regions, kind, on)
        score(Submission(folder, name, kind, maps), regions, self.generation, SILENT)

    def rows(self) -> Mapping[str, Trial]:
        """{uid: row} of other tools, as a report reads them."""
        return {row.uid: row for row in read_sweep(self.generation.path).external}


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic patients."""
    return synthesize(tmp_path_factory.mktemp("data") / "phantom", Phantom(patients=6, roi_px=160, tiny_share=0.2))


@pytest.fixture
def made(tmp_path: Path, phantom: Path) -> Made:
    """A small sweep over tiger7 and unicorn3."""
    file = tmp_path / "small.yaml"
    file.write_text(SPACE.replace("PHANTOM", json.dumps(str(phantom))))
    home = Home(tmp_path / "home")
    space = load_space(file)
    regions = regions_of_space(space, home, SILENT)
    generation = open_generation(home.sweep("small"), space, regions.prepared, yaml=SPACE, command=["harness", "sweep"])
    for number, labels in enumerate(regions.label_maps):
        spec = resolve(space, regions.prepared.facts, {"labels": labels.name, "architecture": "unet_plain"}, seed=3)
        _write_trial(TrialFolder(generation.trials / trial_uid(labels.name, 0)), labels.name, number, regions, spec)
    return Made(home, generation, file, regions)


def _write_trial(folder: TrialFolder, stratum: str, number: int, regions: Regions, spec) -> None:  # type: ignore[no-untyped-def]
    """One completed trial: its predictions are right but for a share of pixels."""
    rng = np.random.default_rng(number)
    labels = spec.dataset.labels
    scheme = scores.Scheme(spec.dataset.source_ids, labels)
    rois = []
    for roi in regions.of_role("validation"):
        truth = read_mask(roi.mask)[0]
        right = np.maximum(target_table(labels, "as_paper"), 1)[truth]
        noise = rng.integers(1, len(labels.classes) + 1, truth.shape)
        said = np.where(rng.random(truth.shape) < 0.3, noise, right).astype(np.uint8)
        matrix = scores.source_matrix(truth, said, scheme)
        rois.append(scores.RoiMatrices(roi.name, roi.patient, roi.centre, False, matrix, matrix))
        folder.predictions.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder.predictions / f"{roi.name}.png"), said)
    folder.write_spec(spec)
    said_of_it = {"uid": folder.uid, "stratum": stratum, "number": 0, "state": "complete", "seed": 3,
                  "parameters": {"labels": labels.name, "architecture": "unet_plain"}}  # fmt: skip
    write_json(folder.state_file, said_of_it)
    write_json(folder.scores, scores.scores_document(rois, scheme, epoch=1, epochs=[]))
    write_json(folder.environment, {"device": "cpu"})
    write_json(folder.result, {"flags": []})
