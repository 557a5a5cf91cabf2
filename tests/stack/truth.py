"""What must be true of a disturbed sweep: in its folders, in PostgreSQL, in MLflow and in the S3 store."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from deploy.services import TABLE
from deploy.stack import Stack
from harness.files import read_json, sha256_file
from harness.trial.folder import TrialFolder
from tests.execute.executors import environment
from tests.faults.real import epochs_of
from tests.processes import is_worker


def differences(home: Path, embedded: Path, stack: Stack, *, trials: int, repeated: int) -> list[str]:
    """Everything that is not as in the undisturbed home; `repeated`: how many epochs may have been trained twice."""
    with environment(**stack.environment(), MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"):
        return [
            *_folders(home, embedded, trials, repeated),
            *_optuna(home, os.environ["HARNESS_STORAGE"], trials),
            *_mlflow(home, trials),
        ]


def folders_of(home: Path) -> dict[str, TrialFolder]:
    """{uid: its folder}."""
    return {path.name: TrialFolder(path) for path in sorted((home / "sweeps/disturbed/g1/trials").glob("*.0*"))}


def _folders(home: Path, embedded: Path, trials: int, repeated: int) -> Iterator[str]:
    found, truth = folders_of(home), folders_of(embedded)
    states = Counter(read_json(folder.state_file)["state"] for folder in found.values())
    if states != {"complete": trials} or set(found) != set(truth):
        yield f"states are {dict(states)}, of {len(found)} trials"
        return
    twice = 0
    for uid, folder in found.items():
        yield from (f"{uid}: {name} differs from the manifest" for name in folder.damaged())
        if folder.read_spec().fingerprint != truth[uid].read_spec().fingerprint:
            yield f"{uid}: another spec"
        for name in ("weights", "scores"):
            if sha256_file(getattr(folder, name)) != sha256_file(getattr(truth[uid], name)):
                yield f"{uid}: other {name} than undisturbed"
        twice += len(epochs_of(folder)) - folder.read_spec().train.epochs
    if twice > repeated:
        yield f"{twice} epochs were trained twice, after faults that explain {repeated}"


def _optuna(home: Path, url: str, trials: int) -> Iterator[str]:
    rows_of = (
        "select a.value_json, t.state, v.value from trials t join trial_user_attributes a on a.trial_id = t.trial_id "
        "left join trial_values v on v.trial_id = t.trial_id where a.key = 'uid'"
    )
    with create_engine(url, poolclass=NullPool).connect() as database:
        rows = database.execute(text(rows_of)).fetchall()
    if Counter(str(state) for _, state, _ in rows) != {"COMPLETE": trials}:
        yield f"Optuna has {dict(Counter(str(state) for _, state, _ in rows))}"
        return
    told = {uid.strip('"'): value for uid, _, value in rows}
    for uid, folder in folders_of(home).items():
        if told.get(uid) != read_json(folder.state_file)["value"]:
            yield f"Optuna has {told.get(uid)} for {uid}"


def _mlflow(home: Path, trials: int) -> Iterator[str]:
    from mlflow import MlflowClient

    client, found = MlflowClient(), folders_of(home)
    experiment = client.get_experiment_by_name("disturbed")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    of_trials = {run.data.tags["harness.trial_uid"].rsplit("/", 1)[-1]: run for run in runs
                 if "harness.trial_uid" in run.data.tags}  # fmt: skip
    if len(runs) != trials + 1 or set(of_trials) != set(found):
        yield f"MLflow has {len(runs)} runs, for {trials} trials and their sweep"
        return
    if states := {run.info.status for run in runs} - {"FINISHED"}:
        yield f"MLflow has runs that are {states}"
    for uid, run in of_trials.items():
        epochs = found[uid].read_spec().train.epochs
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "val/iou")]
        if sorted(steps) != list(range(1, epochs + 1)):
            yield f"MLflow has the epochs {sorted(steps)} of {uid}"
        yield from _artifacts(client, run.info.run_id, found[uid])


def _artifacts(client: object, run_id: str, folder: TrialFolder) -> Iterator[str]:
    """Weights and scores as the S3 store gives them back, by way of the server."""
    from mlflow.artifacts import download_artifacts

    for file in (folder.weights, folder.scores, folder.result):
        try:
            back = Path(download_artifacts(run_id=run_id, artifact_path=file.name))
        except Exception as error:
            yield f"{folder.uid}: {file.name} is not in the store: {type(error).__name__}"
            continue
        if hashlib.sha256(back.read_bytes()).hexdigest() != sha256_file(file):
            yield f"{folder.uid}: {file.name} in the store is another file"


def left_running(stack: Stack, folder: str) -> list[str]:
    """Workers and controllers of a sweep in `folder` that still run; Ray's idle processes are the cluster's own."""
    own = {process.pid for name in TABLE if not name.startswith("ray") for process in stack.members(name)}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = " ".join(process.cmdline())
            if process.pid in own or process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if ("harness.cli" in words and folder in words) or (is_worker(process) and _is_ours(process, stack)):
                found.append(f"process {process.pid}: {words[:100]}")
    return found


def _is_ours(process: psutil.Process, stack: Stack) -> bool:
    """Whether a worker belongs to a node of this stack's Ray cluster."""
    nodes = {member.pid for name in ("ray-head", "ray-node") for member in stack.members(name)}
    return any(parent.pid in nodes for parent in process.parents())
