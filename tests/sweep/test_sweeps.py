"""Whole sweeps through the command line: real data, real workers, real Optuna and MLflow, real kills."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import optuna
import psutil
import pytest

from harness.tracking.store import tracking_store
from harness.trial.folder import TrialFolder
from tests.sweep.conftest import Lab

pytestmark = pytest.mark.slow


def wait_for(condition: Callable[[], object], timeout_s: float = 90) -> None:
    """Poll until true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def optuna_states(lab: Lab) -> list[str]:
    """States of every durable trial."""
    storage = f"sqlite:///{lab.home / 'optuna.db'}"
    names = optuna.get_all_study_names(storage)
    return sorted(
        trial.state.name for name in names for trial in optuna.load_study(study_name=name, storage=storage).trials
    )


def mlflow_states(lab: Lab) -> list[tuple[str, str]]:
    """(trial, status) of every run but the parent."""
    client = mlflow.MlflowClient(tracking_store(lab.home, {}).uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=1000)
    return sorted(
        (run.data.tags["harness.trial_uid"], run.info.status) for run in runs if "harness.trial_uid" in run.data.tags
    )


def test_a_sweep_ends_with_agreeing_records_and_a_report_and_running_it_again_trains_nothing(
    lab: Lab, phantom: Path
) -> None:
    """Folder, Optuna and MLflow say the same; the second run is 0 epochs, the same exit code, the same report."""
    space = lab.write(phantom, more="export: top:1\n")
    first = lab.run("sweep", space, "--workers", "2")
    assert first.returncode == 0, first.stderr
    records = lab.records()
    assert sorted(records) == ["tiger7.0000", "tiger7.0001", "unicorn3.0000", "unicorn3.0001"]
    assert {record["state"] for record in records.values()} == {"complete"}
    assert optuna_states(lab) == ["COMPLETE"] * 4
    assert [status for _, status in mlflow_states(lab)] == ["FINISHED"] * 4
    folders = [TrialFolder(lab.home / "sweeps/small/g1/trials" / uid) for uid in records]
    assert [folder.damaged() for folder in folders] == [[]] * 4
    assert sum(folder.mlflow_model.exists() for folder in folders) == 2
    assert "Warning" not in first.stderr

    second = lab.run("sweep", space, "--workers", "2")
    assert second.returncode == 0, second.stderr
    assert "0 epochs" in second.stderr
    assert lab.records() == records
    assert len(mlflow_states(lab)) == 4

    rows = json.loads((lab.path / "reports/small/leaderboard.json").read_text())["rows"]
    assert [row["state"] for row in rows] == ["complete"] * 4
    best = {uid: record["value"] for uid, record in records.items()}
    for row in rows:
        assert row["scores"]["iou"] == pytest.approx(best[Path(row["folder"]).name], abs=1e-12)

    status = json.loads(lab.run("status", "--json").stdout)
    assert status["epochs_trained"] == 4
    assert [(stratum["name"], stratum["complete"]) for stratum in status["strata"]] == [("tiger7", 2), ("unicorn3", 2)]

    again = lab.run("trial", folders[0].path, "--out", lab.path / "alone")
    assert again.returncode == 0, again.stderr
    assert TrialFolder(lab.path / "alone").weights.read_bytes() == folders[0].weights.read_bytes()

    removed = lab.run("rm", "small", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert not (lab.home / "sweeps/small").exists()
    assert optuna_states(lab) == []
    assert mlflow_states(lab) == []


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="ctrl-c", marks=pytest.mark.long),
        pytest.param(signal.SIGKILL, -9, id="kill -9"),
    ],
)
def test_a_stopped_sweep_continues_without_repeating_a_finished_epoch(
    lab: Lab, phantom: Path, number: signal.Signals, code: int
) -> None:
    """After Ctrl-C: clean within 10 s. After kill -9: at most the running epoch is trained again. No stray workers."""
    space = lab.write(phantom, epochs=12, trials=1)
    sweep = lab.start("sweep", space, "--workers", "1")
    wait_for(lambda: sum(len(lab.epochs(uid)) for uid in lab.records()) >= 2)
    children = psutil.Process(sweep.pid).children(recursive=True)
    sent = time.monotonic()
    os.kill(sweep.pid, number)
    assert sweep.wait(timeout=20) == code
    assert time.monotonic() - sent < 10
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    before = {uid: lab.epochs(uid) for uid in lab.records()}
    assert any(before.values())

    assert lab.run("sweep", space, "--workers", "1").returncode == 0
    for uid, record in lab.records().items():
        trained = lab.epochs(uid)
        assert record["state"] == "complete"
        assert sorted(set(trained)) == list(range(1, 13))
        assert len(trained) - 12 <= 1
    assert optuna_states(lab) == ["COMPLETE"] * 2
    assert [status for _, status in mlflow_states(lab)] == ["FINISHED"] * 2


def test_a_second_sweep_of_the_same_name_is_refused_and_stop_ends_the_first(lab: Lab, phantom: Path) -> None:
    """Exit 3, naming the holder; `harness stop` ends it like Ctrl-C."""
    space = lab.write(phantom, epochs=1000, trials=1)
    first = lab.start("sweep", space, "--workers", "1")
    wait_for(lambda: (lab.home / "sweeps/small/holder.json").exists())
    second = lab.run("sweep", space)
    assert second.returncode == 3
    assert f"process {first.pid}" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    wait_for(lambda: any(lab.epochs(uid) for uid in lab.records()))
    stopped = lab.run("stop", "small")
    assert stopped.returncode == 0
    assert first.wait(timeout=20) == 130
    assert lab.run("stop", "small").returncode == 3


def test_a_diverging_trial_fails_with_its_cause_and_is_never_complete(lab: Lab, phantom: Path) -> None:
    """SGD with rate 99 and decay 10 multiplies weights by -989 a step: failed, cause nan, exit 5; FAIL in Optuna."""
    space = lab.write(phantom, trials=1)
    overrides = ["train.optimizer=sgd", "train.loss=cross_entropy", "parameters.learning_rate={value: 99.0}"]
    overrides += ["train.weight_decay=10", "train.epochs=30", "strata={labels: [tiger7]}"]
    done = lab.run("sweep", space, "--workers", "1", *(part for text in overrides for part in ("--set", text)))
    (record,) = lab.records().values()
    assert (record["state"], record["cause"]) == ("failed", "nan"), done.stderr
    assert done.returncode == 5
    assert optuna_states(lab) == ["FAIL"]
    assert [status for _, status in mlflow_states(lab)] == ["FAILED"]


def test_halving_prunes_and_a_pruned_trial_does_not_rank(lab: Lab, phantom: Path) -> None:
    """Two trials without learning after one that learns: halving ends them at its first rung, epoch 6."""
    more = "prune: {type: halving, min_epochs: 6, eta: 3}\n"
    space = lab.write(phantom, epochs=9, trials=3, more=more)
    overrides = [
        "strata={labels: [unicorn3]}",
        "parameters.learning_rate={values: [0.003, 1e-6, 1e-7]}",
        "baselines=[{learning_rate: 0.003}]",
        "train.loss={cross_entropy: 1, dice: 1}",
        "train.schedule=cosine",
    ]
    done = lab.run("sweep", space, "--workers", "1", *(part for text in overrides for part in ("--set", text)))
    assert done.returncode == 0, done.stderr
    assert sorted(record["state"] for record in lab.records().values()) == ["complete", "pruned", "pruned"]
    rows = json.loads((lab.path / "reports/small/leaderboard.json").read_text())["rows"]
    assert all(row["rank"] is None for row in rows if row["state"] == "pruned")
    pruned = next(record for record in lab.records().values() if record["state"] == "pruned")
    assert max(lab.epochs(pruned["uid"])) < 9


def test_a_trial_killed_while_being_accepted_is_accepted_at_the_next_start(lab: Lab, phantom: Path) -> None:
    """The worker had finished; nothing is trained again, whether some files were moved or none."""
    space = lab.write(phantom, trials=1)
    inline = ("--executor", "inline", "--set", "strata={labels: [unicorn3]}")
    assert lab.run("sweep", space, *inline).returncode == 0
    (uid,) = lab.records()
    folder = TrialFolder(lab.home / "sweeps/small/g1/trials" / uid)
    folder.manifest.unlink()
    outputs = folder.attempt(1).outputs
    folder.result.rename(outputs / "result.json")
    (outputs / "predictions").mkdir()
    record = json.loads(folder.state_file.read_text())
    folder.state_file.write_text(json.dumps({**record, "state": "running", "value": None, "accepted_attempt": None}))
    again = lab.run("sweep", space, *inline)
    assert again.returncode == 0, again.stderr
    assert lab.epochs(uid) == [1]
    assert lab.records()[uid]["value"] == record["value"]


def test_a_used_up_budget_stops_training_exports_and_says_so(lab: Lab, phantom: Path) -> None:
    """Two seconds of wall time: what runs is kept for a larger budget, a second start trains nothing."""
    space = lab.write(phantom, epochs=500, trials=1, more="export: top:1\n")
    local = ("--workers", "1", "--set", "strata={labels: [unicorn3]}")
    first = lab.run("sweep", space, *local, "--set", "budget.wall=6s")
    assert first.returncode == 5
    assert "budget is used up" in first.stderr
    (record,) = lab.records().values()
    trained = lab.epochs(record["uid"])
    assert record["state"] == "waiting"
    second = lab.run("sweep", space, *local, "--set", "budget.wall=6s")
    assert "budget is used up" in second.stderr
    assert "nothing left to train" not in second.stderr
    assert lab.epochs(record["uid"]) == trained


def test_passwords_reach_no_file(lab: Lab, phantom: Path) -> None:
    """A storage URL with a password is masked wherever the command is written down."""
    space = lab.write(phantom, trials=1)
    secret = f"sqlite:///{lab.path / 'other.db'}?password=s3cret-canary"
    lab.run("sweep", space, "--executor", "inline", "--set", "strata={labels: [unicorn3]}", "--storage", secret)
    written = [file for file in lab.path.rglob("*") if file.is_file() and file.name != "small.yaml"]
    assert len(written) > 20
    assert not [file for file in written if b"s3cret-canary" in file.read_bytes()]
