"""A real `harness sweep` with real workers in a folder of its own, and what must be true of it in the end."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from harness.files import sha256_file
from harness.trial.folder import TrialFolder
from tests.processes import is_worker

TRIALS = 2
SPACE = """name: real
seed: 3
data: {root: ROOT, split: {validation: 0.34, seed: 1}}
labels: {unicorn3: builtin}
parameters:
  architecture: {value: unet_plain}
  decoder_channels: {value: [8, 8, 4, 4, 4]}
  patch_px: {value: 32}
  learning_rate: {values: [0.003, 0.01]}
train: {epochs: EPOCHS, batch_size: 8, stop_patience: null, augment: none}
method: grid
budget: {trials: 2}
export: none
"""


@dataclass(frozen=True)
class Outcome:
    """One fault that was tried: what went wrong (nothing: passed), and what was measured."""

    name: str
    problems: list[str]
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """The space, the home and a way to run the command there."""

    path: Path
    epochs: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Of the command."""
        return self.path / "home"

    @property
    def said(self) -> str:
        """All that the command has said so far."""
        return (self.path / "said").read_text(encoding="utf-8", errors="replace")

    def command(self, *more: str) -> list[str]:
        """The command line of the sweep."""
        return [sys.executable, "-m", "harness.cli", "sweep", "real.yaml", "--home", str(self.home), *more]

    def start(self, *more: str, limits: Mapping[int, int] | None = None) -> subprocess.Popen[bytes]:
        """Start the command, or start it again; `limits`: {resource.RLIMIT_...: bytes}."""
        return self.run(self.command(*more), limits or {})

    def run(self, command: Sequence[str], limits: Mapping[int, int]) -> subprocess.Popen[bytes]:
        """Start any command there; what it says is added to what was said."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "HARNESS_"))}

        def limited() -> None:
            for what, size in limits.items():
                resource.setrlimit(what, (size, size))

        with (self.path / "said").open("ab") as said:
            return subprocess.Popen(
                command, cwd=self.path, env=kept | self.environment, stdout=said, stderr=said,
                stdin=subprocess.DEVNULL, preexec_fn=limited,
            )  # fmt: skip

    def finish(self, timeout_s: float = 180) -> int:
        """Run the command to its end; its exit code."""
        return self.start().wait(timeout_s)

    def folders(self) -> list[TrialFolder]:
        """Of all trials, by name."""
        return [TrialFolder(path) for path in sorted((self.home / "sweeps/real/g1/trials").glob("*.0*"))]

    def records(self) -> dict[str, dict[str, Any]]:
        """{uid: trial.json}."""
        return {f.uid: json.loads(f.state_file.read_text()) for f in self.folders() if f.state_file.exists()}

    def trained(self, uid: str | None = None) -> list[int]:
        """Every epoch told of, repeated ones included; of one trial or of all."""
        return [event["epoch"] for f in self.folders() if uid in (None, f.uid) for event in epochs_of(f)]


def bench(path: Path, data: Path, *, epochs: int, **environment: str) -> Bench:
    """A folder ready for its first command."""
    path.mkdir(parents=True)
    text = SPACE.replace("ROOT", json.dumps(str(data))).replace("EPOCHS", str(epochs))
    (path / "real.yaml").write_text(text, encoding="utf-8")
    return Bench(path, epochs, environment)


def regions(folder: Path) -> Path:
    """Four synthetic patients."""
    from harness.data.phantom import Phantom, synthesize

    return synthesize(folder, Phantom(patients=4, roi_px=128, tiny_share=0.0))


def epochs_of(folder: TrialFolder) -> list[dict[str, Any]]:
    """The `epoch` events of all attempts."""
    return [event for attempt in folder.attempts() for event in attempt.read_events() if event["event"] == "epoch"]


def problems(there: Bench, *, weights: dict[str, str] | None, kills: int, database: Path | None = None) -> list[str]:
    """What is not as it must be after the command's end; `kills` allows as many repeated epochs.

    `weights`: uid -> sha256 after an undisturbed run. `database`: MLflow's, if it is not the home's.
    """
    return [
        *_of_folders(there, weights, kills),
        *_of_optuna(there.home / "optuna.db"),
        *_of_mlflow(there, database or there.home / "mlflow.db"),
    ]


def weights_of(there: Bench) -> dict[str, str]:
    """{uid: sha256 of its weights}."""
    return {folder.uid: sha256_file(folder.weights) for folder in there.folders()}


def _of_folders(there: Bench, weights: dict[str, str] | None, kills: int) -> Iterator[str]:
    records = there.records()
    states = [record["state"] for record in records.values()]
    if states != ["complete"] * TRIALS:
        yield f"states are {states}: {[record['message'] for record in records.values()]}"
        return
    if weights is not None and weights_of(there) != weights:
        yield "other weights than undisturbed"
    for folder in there.folders():
        yield from (f"{folder.uid}: {name} differs from the manifest" for name in folder.damaged())
        if set(there.trained(folder.uid)) != set(range(1, there.epochs + 1)):
            yield f"{folder.uid}: epochs are missing"
    repeated = len(there.trained()) - TRIALS * there.epochs
    if repeated > kills:
        yield f"{repeated} epochs were trained twice after {kills} kills"


def _of_optuna(file: Path) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        rows = database.execute(
            "select t.number, t.state, a.value_json from trials t left join trial_user_attributes a "
            "on a.trial_id = t.trial_id and a.key = 'supersedes'"
        ).fetchall()
    replaced = {int(number) for *_, number in rows if number is not None}
    states = [state for number, state, _ in rows if number not in replaced]
    if states != ["COMPLETE"] * TRIALS:
        yield f"Optuna has {states}"


def _of_mlflow(there: Bench, file: Path) -> Iterator[str]:
    """One finished run per trial, and each of its epochs once on every curve."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        runs = database.execute(
            "select r.run_uuid, t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'harness.trial_uid'"
        ).fetchall()
        parents = database.execute("select count(*) from tags where key = 'harness.sweep_uid'").fetchone()[0]
        running = database.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]
        # The sweep's own run counts trials by their states: after a second try it has a later word on the same step.
        points = database.execute(
            "select m.run_uuid, m.key, m.step from metrics m join tags t on t.run_uuid = m.run_uuid "
            "where t.key = 'harness.trial_uid'"
        ).fetchall()
    uids = Counter(uid.rsplit("/", 1)[-1] for _, uid, _ in runs)
    if uids != Counter(list(there.records())):
        yield f"MLflow has runs {dict(uids)}"
    if parents != 1 or running:
        yield f"MLflow has {parents} runs of the sweep, and {running} that are RUNNING"
    yield from (f"MLflow has a run that is {status}" for *_, status in runs if status != "FINISHED")
    doubled = [point for point, count in Counter(points).items() if count > 1]
    if doubled:
        yield f"MLflow has {len(doubled)} points twice, such as {doubled[0][1:]}"
    for run, uid, _ in runs:
        steps = {step for owner, key, step in points if owner == run and key == "val/iou"}
        if steps != set(range(1, there.epochs + 1)):
            yield f"MLflow lacks epochs of {uid}: it has {sorted(steps)}"


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Its worker processes."""
    return [child for child in psutil.Process(process.pid).children(recursive=True) if is_worker(child)]


def wait_for(condition: Callable[[], object], timeout_s: float = 90) -> bool:
    """Poll until true; False when it never was."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def shown(outcomes: Callable[[Path], Iterable[Outcome]]) -> int:
    """Run them in a folder of their own, a line each; how many failed."""
    failed = passed = 0
    with TemporaryDirectory(prefix="faults ") as folder:
        for outcome in outcomes(Path(folder)):
            failed, passed = failed + bool(outcome.problems), passed + (not outcome.problems)
            figures = ", ".join(f"{name} {value:.4g}" for name, value in outcome.measured.items())
            print("FAILED" if outcome.problems else "passed", outcome.name, f"({figures})", flush=True)
            for problem in outcome.problems:
                print(f"    {problem}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return failed
