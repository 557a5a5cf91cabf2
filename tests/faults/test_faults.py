"""The slice of `make faults` that every run of the tests can afford."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.memory import MemoryTracker
from harness.tracking.outbox import Projector
from harness.tracking.store import Store
from harness.tracking.tracker import StoreAway, Tracker
from tests.faults.real import bench, problems, regions, wait_for
from tests.faults.signals import CLEAN_S, outcome_with_a_hung_worker
from tests.tracking.sweeps import complete, make_generation, make_trial, start, train_epoch

# The outbox's retry clock runs 1,000 times as fast: its first delay is 1 ms, its longest 60 ms, 30 minutes are 1.8 s.
FASTER = 1000
OUTAGE_S = 30 * 60


class Away:
    """A tracker that is away in every way a line can be: before the request, or after it, before its answer."""

    def __init__(self) -> None:
        self.tracker, self.back, self.tries = MemoryTracker(), False, 0

    def __getattr__(self, name: str) -> Any:
        question = getattr(self.tracker, name)

        def ask(*args: Any, **kwargs: Any) -> Any:
            self.tries += not self.back
            if not self.back and self.tries % 2:
                raise StoreAway("connection refused")
            answer = question(*args, **kwargs)
            if not self.back:
                raise StoreAway("connection reset")
            return answer

        return ask


def test_thirty_minutes_without_the_tracking_server_lose_and_double_nothing(tmp_path: Path) -> None:
    """With another outbox from the middle on, as after a kill of the controller: every epoch is there once."""
    line, generation = Away(), make_generation(tmp_path, name="away")
    folder = make_trial(generation)
    start(folder)
    projector = _projector(line, generation)
    for epoch in range(1, 19):
        train_epoch(folder, epoch)
        began = time.perf_counter()
        projector.touch(folder)
        assert time.perf_counter() - began < 0.05  # never in the training's way
        time.sleep(OUTAGE_S / FASTER / 18)
        if epoch == 9:
            projector.close()
            projector = _projector(line, generation)
            projector.touch(folder)
    complete(folder)
    projector.touch(folder)
    assert line.tries >= 20  # it never gave up: 1,800 s / 60 s = 30 tries at the longest delay
    line.back = True
    assert projector.drain(60 / FASTER * 20)
    projector.close()
    (run_id,) = [run_id for run_id, run in line.tracker.runs.items() if "harness.trial_uid" in run.tags]
    assert [point.step for point in line.tracker.curve(run_id, "val/iou")] == list(range(1, 19))
    assert line.tracker.read(run_id).status == "FINISHED"
    assert len(line.tracker.runs) == 2  # the sweep's and the trial's


def _projector(line: Away, generation: Path) -> Projector:
    def connect(_: Store) -> Tracker:
        return line  # type: ignore[return-value]  # by its attributes

    return Projector(
        generation, Store("away"), connect=connect, every_s=2 / FASTER, first_delay_s=1 / FASTER,
        longest_delay_s=60 / FASTER,
    )  # fmt: skip


@pytest.mark.slow
def test_a_kill_while_mlflow_makes_its_tables_leaves_no_file_that_it_cannot_open(tmp_path: Path) -> None:
    """MLflow alone would say `table assessments already exists` for ever; here they are made aside."""
    from harness.tracking.client import _make_tables

    file = tmp_path / "mlflow.db"
    code = (
        "import sys, pathlib; from harness.tracking.client import _make_tables; _make_tables(pathlib.Path(sys.argv[1]))"
    )
    making = subprocess.Popen([sys.executable, "-c", code, str(file)], stderr=subprocess.DEVNULL)
    assert wait_for(lambda: any(aside.stat().st_size > 100_000 for aside in tmp_path.glob(".mlflow.db*.db")))
    os.kill(making.pid, signal.SIGKILL)
    assert making.wait() == -signal.SIGKILL
    assert not file.exists()
    _make_tables(file)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("select count(*) from alembic_version").fetchone() == (1,)
        assert database.execute("select count(*) from runs").fetchone() == (0,)


@pytest.mark.slow
def test_ctrl_c_ends_a_sweep_within_ten_seconds_even_if_a_worker_hangs(tmp_path: Path) -> None:
    """The stopped worker is ended from outside; no record says `running`; nothing is left behind."""
    there = bench(tmp_path / "sweep", regions(tmp_path / "data"), epochs=100_000)
    outcome = outcome_with_a_hung_worker(there)
    assert outcome.problems == []
    assert outcome.measured["s"] < CLEAN_S


def test_the_checks_of_a_real_sweep_see_what_is_wrong(tmp_path: Path) -> None:
    """An epoch trained again after no kill, a run too many, a point twice, an epoch that MLflow lacks: each a line."""
    there = bench(tmp_path / "sweep", tmp_path, epochs=2)
    for name in ("default.0000", "default.0001"):
        folder = there.home / "sweeps/real/g1/trials" / name
        attempt = folder / "attempts/1"
        attempt.mkdir(parents=True)
        (folder / "trial.json").write_text('{"state": "complete", "message": null}')
        (folder / "manifest.json").write_text('{"attempt": 1, "sha256": {}}')
        lines = [json.dumps({"event": "epoch", "epoch": epoch}) + "\n" for epoch in (1, 2, 2)]
        (attempt / "events.jsonl").write_text("".join(lines))
    with closing(sqlite3.connect(there.home / "optuna.db")) as database:
        database.executescript(
            """create table trials (trial_id, number, state);
            create table trial_user_attributes (trial_id, key, value_json);
            insert into trials values (1, 0, 'COMPLETE'), (2, 1, 'RUNNING'), (3, 2, 'FAIL'), (4, 3, 'COMPLETE');
            insert into trial_user_attributes values (4, 'supersedes', '2'), (4, 'uid', '"x"');
            """
        )
        database.commit()
    with closing(sqlite3.connect(there.home / "mlflow.db")) as database:
        database.executescript(
            """create table runs (run_uuid, status); create table tags (run_uuid, key, value);
            create table metrics (run_uuid, key, step);
            insert into runs values ('a', 'FINISHED'), ('b', 'RUNNING'), ('c', 'FINISHED');
            insert into tags values ('a', 'harness.trial_uid', 's/default.0000'),
              ('b', 'harness.trial_uid', 's/default.0000'), ('c', 'harness.trial_uid', 's/default.0001');
            insert into metrics values ('a', 'val/iou', 1), ('a', 'val/iou', 2),
              ('c', 'val/iou', 1), ('c', 'val/iou', 1);
            """
        )
        database.commit()
    found = "\n".join(problems(there, weights=None, kills=0))
    for part in (
        "2 epochs were trained twice after 0 kills",
        "Optuna has ['COMPLETE', 'RUNNING', 'COMPLETE']",
        "MLflow has runs {'default.0000': 2, 'default.0001': 1}",
        "0 runs of the sweep, and 1 that are RUNNING",
        "1 points twice, such as ('val/iou', 1)",
        "MLflow lacks epochs of s/default.0001: it has [1]",
    ):
        assert part in found
    assert problems(there, weights=None, kills=2)[0] != found.splitlines()[0]
