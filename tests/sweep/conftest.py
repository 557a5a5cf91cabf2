"""A small real sweep: synthetic tissue, a narrow network, seconds per trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SPACE = """name: small
seed: 3
data: {root: PHANTOM, split: {validation: 0.34, seed: 1}}
labels: {tiger7: builtin, unicorn3: builtin}
strata: {labels: [tiger7, unicorn3]}
parameters:
  architecture: {value: unet_plain}
  decoder_channels: {value: [16, 16, 8, 8, 8]}
  patch_px: {value: 64}
  learning_rate: {values: [0.001, 0.003, 0.01]}
train: {epochs: EPOCHS, batch_size: 8, stop_patience: null, augment: none}
budget: {trials: TRIALS}
"""


@dataclass(frozen=True)
class Lab:
    """A folder with a space, a home and a way to run the command there."""

    path: Path
    sweep: str = "small"

    @property
    def home(self) -> Path:
        """A path with a space, a quote and another alphabet in it, as people have them."""
        return self.path / "it's a h\N{LATIN SMALL LETTER O WITH DIAERESIS}me \N{CYRILLIC CAPITAL LETTER ZHE}"

    def write(self, phantom: Path, *, epochs: int = 1, trials: int = 2, more: str = "") -> Path:
        """The space file."""
        file = self.path / "small.yaml"
        text = SPACE.replace("PHANTOM", json.dumps(str(phantom))).replace("EPOCHS", str(epochs))
        file.write_text(text.replace("TRIALS", str(trials)) + more)
        return file

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line for `harness ...` with this home."""
        home = ["--home", str(self.home)] if arguments[0] not in ("models", "init", "data") else []
        return [sys.executable, "-m", "harness.cli", *map(str, arguments), *home]

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start the command; what it says goes to `said`."""
        with (self.path / "said").open("ab") as said:
            environment = clean_environment()
            return subprocess.Popen(self.command(*arguments), cwd=self.path, env=environment, stdout=said, stderr=said)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=200,
        )

    def records(self, generation: int = 1) -> dict[str, dict[str, Any]]:
        """{uid: trial.json}."""
        files = (self.home / "sweeps" / self.sweep / f"g{generation}/trials").glob("*/trial.json")
        return {file.parent.name: json.loads(file.read_text()) for file in files}

    def epochs(self, uid: str) -> list[int]:
        """Every epoch trained, over all attempts, in order."""
        attempts = (self.home / "sweeps" / self.sweep / "g1/trials" / uid / "attempts").glob("*/events.jsonl")
        events = [json.loads(line) for file in sorted(attempts) for line in file.read_text().splitlines()]
        return [event["epoch"] for event in events if event["event"] == "epoch"]


def clean_environment() -> dict[str, str]:
    """Without the settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HARNESS_"))}


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six synthetic patients."""
    from harness.data.phantom import Phantom, synthesize

    return synthesize(tmp_path_factory.mktemp("data") / "phantom", Phantom(patients=6, roi_px=160, tiny_share=0.2))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty place to work."""
    return Lab(tmp_path)
