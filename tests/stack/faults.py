"""A sweep on the whole stack while everything around it fails, against the same sweep undisturbed in an embedded home.

python -m tests.stack.faults [--trials 40] [--epochs 30] [--away 300] [--network light]

A worker, a node and the controller are killed; PostgreSQL is killed and stays away for a while; the S3 store is cut in
the middle of an upload; MLflow's server is killed. In the end every trial must be there exactly once, with the weights
and the scores of the undisturbed run, in the folders, in PostgreSQL, in MLflow and, byte by byte, in the S3 store.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deploy.stack import Stack
from harness.data.phantom import Phantom, synthesize
from harness.trial.folder import TrialFolder
from tests.faults.real import Outcome, epochs_of, shown, wait_for
from tests.stack import fresh_stack
from tests.stack.truth import differences, left_running

SPACE = """name: disturbed
seed: 3
data: {root: ROOT, split: {validation: 0.34, seed: 1}}
labels: {unicorn3: builtin}
parameters:
NETWORK
  patch_px: {value: 32}
  learning_rate: {values: [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01]}
  batch_size: {values: [8, 16]}
  augment: {values: [none, paper]}
train: {epochs: EPOCHS, stop_patience: null}
method: grid
budget: {trials: TRIALS}
export: top:1
"""
NETWORKS = {
    "unet": "  architecture: {value: unet_plain}\n  decoder_channels: {value: [32, 16, 16, 8, 8]}",
    "light": "  architecture: {value: {import: slow:build, name: slow}}",
}
# Sleeps in place of computing: a slice then takes as long on a busy machine as on a fast one, and faults meet trials.
SLOW = """import time
from torch import nn

class Slow(nn.Sequential):
    def forward(self, images):
        if self.training:
            time.sleep(0.06)
        return super().forward(images)

def build(classes):
    return Slow(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, classes, 3, padding=1))
"""
# What a person must have heard of by then, on two cores that the services share.
PATIENCE_S = 240.0


@dataclass
class Disturbed:
    """The sweep's files, its command, and what has happened to it."""

    path: Path
    stack: Stack
    trials: int
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0  # each may cost the epoch of every trial that it meets
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Of the sweep on the stack."""
        return self.path / "shared home"

    def command(self, home: Path, *more: str) -> list[str]:
        """The sweep's."""
        return [sys.executable, "-m", "harness.cli", "sweep", str(self.path / "disturbed.yaml"), "--home", str(home),
                "--out", str(home / "reports"), *more]  # fmt: skip

    def start(self) -> None:
        """The controller, for the first time or again."""
        with (self.path / "said").open("ab") as said:
            self.process = subprocess.Popen(
                self.command(self.home, "--executor", "ray"), env=plain_environment() | self.stack.environment(),
                stdout=said, stderr=said, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def folders(self) -> list[TrialFolder]:
        """Of all trials so far."""
        found = sorted((self.home / "sweeps/disturbed/g1/trials").glob("*.0*"))
        return [TrialFolder(path) for path in found]

    def completed(self) -> int:
        """How many trials are complete."""
        return sum(folder.complete for folder in self.folders())

    def trained(self) -> int:
        """How many epochs ended, repeated ones included."""
        return sum(len(epochs_of(folder)) for folder in self.folders())

    def workers(self) -> list[psutil.Process]:
        """The processes that are training now, by what their attempts say."""
        found = []
        for folder in self.folders():
            for attempt in folder.attempts()[-1:]:
                events = attempt.read_events()
                if events and events[-1]["event"] != "finished" and not folder.complete:
                    with suppress(psutil.NoSuchProcess):
                        found.append(psutil.Process(next(e["pid"] for e in events if e["event"] == "started")))
        return found


def plain_environment() -> dict[str, str]:
    """Without what would lead a command elsewhere."""
    apart = ("MLFLOW_", "HARNESS_", "RAY_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(apart)}
    return kept | {"OMP_NUM_THREADS": "1"}


def undisturbed(sweep: Disturbed, *, workers: int) -> Path:
    """Run the sweep in an embedded home, with workers of this machine; its home."""
    home = sweep.path / "embedded"
    with (sweep.path / "undisturbed").open("wb") as said:
        command = sweep.command(home, "--workers", str(workers))
        subprocess.run(command, env=plain_environment(), stdout=said, stderr=said, check=True)
    return home


def outcomes(folder: Path, *, trials: int, epochs: int, away_s: float, network: str) -> Iterator[Outcome]:
    """Each fault, and then the truth."""
    data = synthesize(folder / "regions", Phantom(patients=4, roi_px=128, tiny_share=0.0))
    text = SPACE.replace("ROOT", f'"{data}"').replace("EPOCHS", str(epochs)).replace("TRIALS", str(trials))
    (folder / "disturbed.yaml").write_text(text.replace("NETWORK", NETWORKS[network]), encoding="utf-8")
    (folder / "slow.py").write_text(SLOW, encoding="utf-8")
    with fresh_stack() as stack:
        sweep, began = Disturbed(folder, stack, trials), time.monotonic()
        embedded = undisturbed(sweep, workers=4 if network == "light" else 2)
        yield Outcome("undisturbed, in an embedded home", [], {"s": time.monotonic() - began})
        began = time.monotonic()
        sweep.start()
        try:
            yield from faults(sweep, away_s)
            yield finished(sweep, began)
            yield Outcome("every trial once, as undisturbed", differences(sweep.home, embedded, stack, trials=trials,
                          repeated=sweep.kills))  # fmt: skip
            yield Outcome("again: nothing left to train", nothing_left(sweep))
            yield Outcome("no process is left behind", left_running(stack, str(folder)))
        finally:
            if sweep.process is not None and sweep.process.poll() is None:
                sweep.process.kill()
                sweep.process.wait()


def faults(sweep: Disturbed, away_s: float) -> Iterator[Outcome]:
    """One after the other, each while trials are training."""
    for name, fault in (
        ("a worker is killed", kill_worker),
        ("S3 is cut in the middle of an upload", cut_s3),
        ("a node is killed, and comes back", kill_node),
        ("MLflow is killed, and comes back", kill_mlflow),
        ("the controller is killed, and started again", kill_controller),
        (f"PostgreSQL is killed, and away for {away_s:g} s", lambda s: kill_postgres(s, away_s)),
    ):
        began = time.monotonic()
        wrong = under_way(sweep) or fault(sweep)
        yield Outcome(name, wrong, {"s": time.monotonic() - began})


def under_way(sweep: Disturbed) -> list[str]:
    """Wait for trials that train; a fault that meets none shows nothing."""
    if not wait_for(lambda: sweep.workers() or sweep.process is None or sweep.process.poll() is not None, PATIENCE_S):
        return ["nothing trains"]
    ended = sweep.process is not None and sweep.process.poll() is not None
    return [f"the sweep ended too early, with {sweep.process.returncode}"] if ended and sweep.process else []


def kill_worker(sweep: Disturbed) -> list[str]:
    """Its trial goes on in another process."""
    victim = sweep.workers()[0]
    sweep.kills += 1
    victim.send_signal(signal.SIGKILL)
    return goes_on(sweep)


def kill_node(sweep: Disturbed) -> list[str]:
    """All processes of one node at once; half a minute later it is there again."""
    sweep.kills += 1
    sweep.stack.kill("ray-node")
    wrong = goes_on(sweep)
    sweep.stack.start("ray-node")
    there = wait_for(lambda: sum(node["alive"] for node in sweep.stack.ray_nodes()) == 2)
    return wrong + ([] if there else ["the node is not back in the cluster"])


def kill_controller(sweep: Disturbed) -> list[str]:
    """Its actors and their workers end with it; the same command goes on."""
    assert sweep.process is not None
    before = sweep.workers()
    sweep.kills += 2
    sweep.process.kill()
    sweep.process.wait()
    gone = wait_for(lambda: not any(process.is_running() for process in before), 60)
    sweep.start()
    return ([] if gone else ["workers outlive their controller by a minute"]) + goes_on(sweep)


def kill_mlflow(sweep: Disturbed) -> list[str]:
    """Training does not notice."""
    sweep.stack.kill("mlflow")
    wrong = goes_on(sweep)
    sweep.stack.start("mlflow")
    return wrong


def kill_postgres(sweep: Disturbed, away_s: float) -> list[str]:
    """Optuna's studies, MLflow's runs and the sweep's lock are all in it."""
    sweep.stack.kill("postgres")
    down, before = time.monotonic(), sweep.trained()
    wrong = goes_on(sweep)
    while time.monotonic() - down < away_s:
        time.sleep(0.5)
    sweep.measured["epochs trained while PostgreSQL was away"] = sweep.trained() - before
    sweep.stack.start("postgres")
    return wrong


def cut_s3(sweep: Disturbed) -> list[str]:
    """Killed while the server is sending to it: seen by a connection between the two, twice."""
    port = sweep.stack.place.ports["s3"]
    for _ in range(2):
        if not wait_for(lambda: sending(sweep.stack, port), PATIENCE_S):
            return ["no upload was seen"]
        sweep.stack.kill("s3")
        time.sleep(2.0)
        sweep.stack.start("s3")
    return goes_on(sweep)


def sending(stack: Stack, port: int) -> bool:
    """Whether MLflow's server has a connection to the store open."""
    for process in stack.members("mlflow"):
        with suppress(psutil.Error):
            for line in process.net_connections("tcp"):
                if line.raddr and line.raddr.port == port and line.status == psutil.CONN_ESTABLISHED:
                    return True
    return False


def goes_on(sweep: Disturbed, more: int = 2) -> list[str]:
    """Whether epochs go on ending."""
    before = sweep.trained()
    on = wait_for(lambda: sweep.trained() >= before + more or sweep.completed() == sweep.trials, PATIENCE_S)
    return [] if on else [f"no epoch ended in {PATIENCE_S:g} s"]


def finished(sweep: Disturbed, began: float) -> Outcome:
    """The command ends by itself, with 0; once more where the databases came back too late for it."""
    assert sweep.process is not None
    wrong = [] if _ends(sweep) else ["the command did not end well"]
    sweep.measured["seconds"] = time.monotonic() - began
    said = (sweep.path / "said").read_text(encoding="utf-8", errors="replace")
    if "is not up to date" in said.rsplit("sweep disturbed:", 1)[-1]:
        sweep.start()
        wrong += [] if _ends(sweep) else ["the same command did not catch up"]
    return Outcome("the sweep ends", [*wrong, *(said.splitlines()[-3:] if wrong else [])], sweep.measured)


def nothing_left(sweep: Disturbed) -> list[str]:
    """The same command once more trains nothing."""
    before = sweep.trained()
    sweep.start()
    wrong = [] if _ends(sweep) else ["it did not end well"]
    return wrong + ([] if sweep.trained() == before else ["it trained again"])


def _ends(sweep: Disturbed) -> bool:
    assert sweep.process is not None
    return sweep.process.wait(1800) == 0


def main() -> int:
    """0 when all is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--away", type=float, default=300.0)
    parser.add_argument("--network", choices=NETWORKS, default="unet")
    given = parser.parse_args()

    def all_outcomes(folder: Path) -> Iterator[Outcome]:
        return outcomes(folder, trials=given.trials, epochs=given.epochs, away_s=given.away, network=given.network)

    return int(bool(shown(all_outcomes)))


if __name__ == "__main__":
    sys.exit(main())
