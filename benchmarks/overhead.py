"""What safety costs an epoch: python benchmarks/overhead.py [--patients 24] [--epochs 4] [--rounds 2]

The same trial twice per round, one after the other: by `harness sweep` with a worker (events and checkpoints fsynced,
beats, Optuna, an outbox to MLflow), and by the bare training loop (`fit` with nothing saved and nobody told). An epoch
is the time from the end of one to the end of the next, so what happens in between counts; the first is left out, since
it holds the imports. Weights must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np

from harness.files import sha256_file
from harness.trial.folder import TrialFolder

SPACE = """name: overhead
seed: 3
data: {root: phantom, phantom: {patients: PATIENTS, roi_px: 320}}
labels: {unicorn3: builtin}
parameters:
  architecture: {value: unet}
  encoder: {value: efficientnet-b0}
  encoder_weights: {value: random}
  patch_px: {value: 128}
train: {epochs: EPOCHS, batch_size: 8, stop_patience: null}
method: grid
budget: {trials: 1}
export: none
"""

BARE = """
import sys, time, json
from pathlib import Path
import safetensors.torch
import torch
from harness.trial.folder import TrialFolder
from harness.train import fit, initial_model
from harness.trial.run import cohort, open_data, settle

spec = TrialFolder(Path(sys.argv[1])).read_spec()
device = torch.device("cpu")
settle(device)
data = open_data(spec, cohort(spec), Path(sys.argv[2]))
ends = []
result = fit(spec, data, initial_model(spec), device=device, save=lambda checkpoint: None,
             on_epoch=lambda report: ends.append(time.time()), should_stop=lambda: False)
Path(sys.argv[3]).write_bytes(safetensors.torch.save(result.weights))
print(json.dumps(ends))
"""


def harness_ends(folder: Path, patients: int, epochs: int) -> tuple[list[float], TrialFolder]:
    """The times at which epochs ended, by `harness sweep`, and the trial."""
    folder.mkdir()
    text = SPACE.replace("PATIENTS", str(patients)).replace("EPOCHS", str(epochs))
    (folder / "overhead.yaml").write_text(text)
    command = [sys.executable, "-m", "harness.cli", "sweep", "overhead.yaml", "--home", "home", "--workers", "1"]
    subprocess.run([*command, "--device", "cpu"], cwd=folder, check=True, capture_output=True)
    (trial,) = (TrialFolder(path) for path in (folder / "home/sweeps/overhead/g1/trials").iterdir())
    events = [event for event in trial.attempt(1).read_events() if event["event"] == "epoch"]
    # Told before the checkpoint is saved: the last epoch's saving is not in it, that of all others is.
    return [event["time"] for event in events], trial


def bare_ends(trial: TrialFolder, folder: Path) -> tuple[list[float], Path]:
    """The same for the loop alone, in a fresh process, and its weights."""
    weights = folder / "bare.safetensors"
    command = [sys.executable, "-c", BARE, str(trial.path), str(folder / "home/stores"), str(weights)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]), weights


def main() -> None:
    """A line per round, then the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    ours: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory(prefix="overhead-") as name:
        for number in range(args.rounds):
            folder = Path(name) / str(number)
            ends, trial = harness_ends(folder, args.patients, args.epochs)
            ends_bare, weights = bare_ends(trial, folder)
            ours += [after - before for before, after in pairwise(ends)]
            bare += [after - before for before, after in pairwise(ends_bare)]
            same = sha256_file(weights) == sha256_file(trial.weights)
            print(f"round {number + 1}: {ours[-1]:.2f} s, bare {bare[-1]:.2f} s; weights equal: {same}", flush=True)
    with_harness, alone = float(np.median(ours)), float(np.median(bare))
    more = with_harness - alone
    print(f"epoch, median of {len(ours)}: {with_harness:.2f} s by harness, {alone:.2f} s bare")
    print(f"{more:+.2f} s, {100 * more / alone:+.1f} %; of an epoch of 60 s {100 * more / 60:+.1f} %")


if __name__ == "__main__":
    main()
