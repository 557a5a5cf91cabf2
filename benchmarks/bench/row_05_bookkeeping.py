"""Row 5: what a trial of 50 epochs costs that trains nothing: 8 metrics an epoch, matrices, an artifact of 200 kB.

Slot blocked: wall time from one trial's handing out to the next one's on the same slot. Ours is what a worker does
around `fit` (events and checkpoints after every epoch, outputs written) in a process of its own, and what the
controller does before the slot gets its next trial (the record, the acceptance, the next proposal). Theirs is a trial
of `study.optimize`: a run, `log_metrics` and `trial.report` per epoch, `log_dict` of the matrices, `log_artifact`, on
SQLite files as in both quickstarts; with one log_batch the epochs go to MLflow in one call at the end. No side trains.

Controller CPU: processor seconds per trial of the process that keeps the databases, until MLflow and Optuna have it
all. No side's imports, tables or first trial are counted. Theirs survives a kill as far as its databases do: no
checkpoint is asked of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bench.row import Comparison, Row, Side
from harness.execute.base import Executor, Job, Message
from harness.trial.folder import TrialFolder

EPOCHS, METRICS = 50, 8
TRIALS = 5  # that count, after one that does not
WEIGHTS = 50_000  # float32 values: the artifact of 200 kB
PATIENTS, CLASSES = 10, 4

SPACE = f"""name: bookkeeping
seed: 3
data: {{root: phantom, phantom: {{patients: 4, roi_px: 128, tiny_share: 0.0}}, split: {{validation: 0.34, seed: 1}}}}
labels: {{unicorn3: builtin}}
parameters:
  architecture: {{value: unet_plain}}
  decoder_channels: {{value: [4, 4, 4, 4, 4]}}
  patch_px: {{value: 32}}
  learning_rate: {{min: 1e-5, max: 1e-2, log: true}}
train: {{epochs: {EPOCHS}, batch_size: 16, stop_patience: null, augment: none}}
method: random
budget: {{trials: {TRIALS + 1}}}
export: none
"""


def values(epoch: int) -> dict[str, float]:
    """The metrics of an epoch."""
    return {f"val/metric_{number}": 1 / (epoch + number + 1) for number in range(METRICS - 1)} | {
        "val/iou": epoch / EPOCHS
    }


def matrices() -> dict[str, list[list[int]]]:
    """An epoch's source matrix of each patient."""
    one = [[1000 * row + column for column in range(CLASSES)] for row in range(8)]
    return {f"patient {number}": one for number in range(PATIENTS)}


class ZeroWork(Executor):
    """One slot: a process that does a worker's bookkeeping. Notes when jobs were handed out."""

    def __init__(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._job: Job | None = None
        self.submitted: list[float] = []
        self.before_second: Callable[[], None] = lambda: None

    @property
    def slots(self) -> int:
        return 1

    def free(self) -> int:
        return int(self._job is None)

    def submit(self, job: Job) -> None:
        if len(self.submitted) == 1:
            self.before_second()
        self.submitted.append(time.perf_counter())
        self._job = job
        if job.task == "train":
            self._pipe.send(job)

    def messages(self, timeout_s: float) -> list[Message]:
        job = self._job
        assert job is not None
        if job.task != "train":
            self._job = None
            return [Message(job, {"event": "sketched", "message": None})]
        found: list[Message] = []
        while self._job is not None and self._pipe.poll(0 if found else timeout_s):
            found.append(Message(job, self._pipe.recv()))
            if found[-1].event["event"] == "finished":
                self._job = None
        return found

    def stop(self, job: Job) -> None:
        """Nothing is pruned."""

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)


def _work(pipe: Connection) -> None:
    """Do jobs until the pipe closes."""
    with contextlib.suppress(EOFError):
        while True:
            _bookkeeping(pipe.recv(), pipe.send)


def _bookkeeping(job: Job, emit: Callable[[dict[str, Any]], None]) -> None:
    """What `run_trial` does of a trial, but for training, evaluating and drawing."""
    import safetensors.torch
    import torch

    from harness.checkpoint import Checkpoint, Progress, rng_states
    from harness.files import settle_tree, write_bytes, write_json, write_text
    from harness.trial.environment import Gauge, environment
    from harness.trial.saving import Saving

    folder = TrialFolder(job.folder)
    spec, attempt, device = folder.read_spec(), folder.attempt(job.attempt), torch.device("cpu")
    saving = Saving(attempt)

    def record(event: dict[str, Any]) -> None:
        event["time"] = time.time()
        saving.event(event)
        emit(event)

    record({"event": "started", "attempt": 1, "patches": {}, "resumed_epoch": 0})
    gauge = Gauge()
    weights, progress = {"weights": torch.zeros(WEIGHTS)}, Progress()
    for epoch in range(1, EPOCHS + 1):
        found = values(epoch)
        progress.epoch = progress.best_epoch = epoch
        progress.history.append(found)
        progress.patients.append(matrices())
        progress.seconds.append(0.0)
        record({"event": "epoch", "epoch": epoch, "seconds": 0.0, "objective": found["val/iou"], "data_seconds": 0.0,
                "values": {**found, **gauge.read()}})  # fmt: skip
        state = Checkpoint(progress, weights, weights, {}, None, rng_states(device))
        saving.checkpoint(state, fingerprint=spec.fingerprint, keep=False)
    outputs = attempt.outputs
    write_json(outputs / "environment.json", environment(device), settle=False)
    write_json(outputs / "model.json", {}, settle=False)
    write_bytes(outputs / "weights.safetensors", safetensors.torch.save(weights), settle=False)
    write_text(outputs / "scores.json", json.dumps(progress.patients, allow_nan=False), settle=False)
    objective = {"metric": "val/iou", "goal": "maximize", "value": 1.0}
    write_json(
        outputs / "result.json",
        {"objective": objective, "scores": values(EPOCHS), "best_epoch": EPOCHS, "seconds": 0.0},
        settle=False,
    )
    settle_tree(outputs)
    record({"event": "finished", "state": "complete", "cause": None, "message": None})
    for file in attempt.states:
        file.unlink()


def ours() -> dict[str, float]:
    """A controller with its two outboxes, and a worker that does the bookkeeping."""
    from rich.console import Console

    from harness.config.cells import strata_of
    from harness.config.load import load_space
    from harness.durable import storage_outbox
    from harness.study import StratumStudy, open_storage
    from harness.sweep.controller import Controller
    from harness.sweep.layout import Home
    from harness.sweep.prepare import open_generation, prepare_data
    from harness.sweep.progress import Screen
    from harness.sweep.vocabulary import CHECKS
    from harness.tracking.outbox import Projector
    from harness.tracking.store import tracking_store

    with TemporaryDirectory(prefix="row 5 ") as name:
        home = Home(Path(name) / "home")
        home.path.mkdir()
        file = Path(name) / "bookkeeping.yaml"
        file.write_text(SPACE, encoding="utf-8")
        space, screen = load_space(file, checks=CHECKS), Screen(Console(file=io.StringIO(), force_terminal=False))
        prepared = prepare_data(space, home, screen)
        generation = open_generation(home.sweep(space.name), space, prepared, yaml=file.read_text(), command=["bench"])
        (stratum,), outbox = strata_of(space), storage_outbox()
        storage = open_storage(home.optuna_url)
        study = StratumStudy(space, stratum, name="bookkeeping/default/g1", storage=storage, outbox=outbox)
        projector = Projector(generation.path, tracking_store(home.path, {}))
        executor = ZeroWork()
        controller = Controller(space, prepared.facts, generation, executor=executor, studies={stratum.name: study},
                                mirror=projector, screen=screen, interrupted=lambda: False)  # fmt: skip
        began: list[float] = []

        def told() -> None:
            assert projector.drain(120) and outbox.drain(120)
            assert not projector.failures and not outbox.failures, (projector.failures, outbox.failures)
            began.append(time.process_time())

        executor.before_second = told
        projector.sweep_changed("running")
        controller.run()
        told()
        executor.close()
        projector.close()
        outbox.close()
        states = [record.state for record in controller.records.values()]
        assert states == ["complete"] * (TRIALS + 1), states
    # The last thing handed out is the sketch, when the last trial's slot is free again.
    blocked = (executor.submitted[-1] - executor.submitted[1]) / TRIALS
    return {"slot_blocked_s": blocked, "controller_cpu_s": (began[1] - began[0]) / TRIALS}


def documented() -> dict[str, float]:
    """Optuna and MLflow, told at every epoch."""
    return _theirs(batched=False)


def one_batch() -> dict[str, float]:
    """The same, but MLflow hears of all epochs at once."""
    return _theirs(batched=True)


def _theirs(*, batched: bool) -> dict[str, float]:
    import logging

    import mlflow
    import optuna
    from mlflow.entities import Metric

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    began: list[tuple[float, float]] = []
    with TemporaryDirectory(prefix="row 5 ") as name:
        artifact = Path(name) / "weights.safetensors"
        artifact.write_bytes(bytes(4 * WEIGHTS))
        mlflow.set_tracking_uri(f"sqlite:///{name}/mlflow.db")
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("row 5", f"file://{name}/artifacts"))

        def objective(trial: optuna.Trial) -> float:
            began.append((time.perf_counter(), time.process_time()))
            rate = trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
            with mlflow.start_run() as run:
                mlflow.log_params({"learning_rate": rate, "architecture": "unet_plain"})
                points = []
                for epoch in range(1, EPOCHS + 1):
                    if not batched:
                        mlflow.log_metrics(values(epoch), step=epoch)
                    points += [Metric(key, value, 0, epoch) for key, value in values(epoch).items()]
                    trial.report(values(epoch)["val/iou"], epoch)
                if batched:
                    mlflow.MlflowClient().log_batch(run.info.run_id, metrics=points)
                mlflow.log_dict({"epochs": [matrices()] * EPOCHS}, "scores.json")
                mlflow.log_artifact(str(artifact))
            return 1.0

        study = optuna.create_study(study_name="row 5", storage=f"sqlite:///{name}/optuna.db", direction="maximize")
        study.optimize(objective, n_trials=TRIALS + 1)
        began.append((time.perf_counter(), time.process_time()))
    wall_s, cpu_s = (after - before for before, after in zip(began[1], began[-1], strict=True))
    return {"slot_blocked_s": wall_s / TRIALS, "controller_cpu_s": cpu_s / TRIALS}


ROW = Row(
    number=5,
    work="zero-work trial: 50 epochs x 8 metrics, matrices, 200 kB, kill-safe",
    sides=(
        Side("ours", ours),
        Side("Optuna + MLflow as documented", documented),
        Side("the same with one log_batch", one_batch),
    ),
    comparisons=(
        Comparison("ours", "Optuna + MLflow as documented", "slot_blocked_s", goal=20.0),
        Comparison("ours", "the same with one log_batch", "slot_blocked_s"),
        Comparison("ours", "the same with one log_batch", "controller_cpu_s", goal=1 / 0.7),
        Comparison("ours", "Optuna + MLflow as documented", "controller_cpu_s"),
    ),
)
