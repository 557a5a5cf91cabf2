"""What must be true of the tiny sweep after any fault and the same command again; a line for each thing that is not."""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import read_json, sha256_file
from harness.trial.folder import TrialFolder
from tests.faults.tiny import EPOCHS, TRIALS, Place

# Of result.json and of an epoch's values: how long something took, or where.
VARYING = ("seconds", "cost", "ms_per_megapixel", "memory", "time", "system/", "device_name", "peak")


@dataclass(frozen=True)
class Truth:
    """The undisturbed sweep, to which every other is equal."""

    weights: dict[str, str]  # uid -> sha256
    scores: dict[str, Any]
    results: dict[str, Any]
    epochs: dict[str, dict[int, dict[str, float]]]
    points: Counter[tuple[str, str, int]]  # (uid, metric, step) in MLflow


def truth_of(place: Place) -> Truth:
    """Read it from an undisturbed run."""
    folders = list(place.generation.trial_folders())
    return Truth(
        {f.uid: sha256_file(f.weights) for f in folders},
        {f.uid: read_json(f.scores) for f in folders},
        {f.uid: _plain(read_json(f.result)) for f in folders},
        {f.uid: _epochs(f) for f in folders},
        _points(place),
    )


def problems(place: Place, truth: Truth, *, lost_epochs: int = 1) -> list[str]:
    """Everything that is wrong; `lost_epochs`: how many may have been trained twice."""
    try:
        return [*_folders(place, truth, lost_epochs), *_optuna(place), *_mlflow(place, truth)]
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        return [f"cannot be read: {type(error).__name__}: {error}"]


def _folders(place: Place, truth: Truth, lost_epochs: int) -> Iterator[str]:
    folders = list(place.generation.trial_folders())
    records = {folder.uid: read_json(folder.state_file) for folder in folders}
    if Counter(record["state"] for record in records.values()) != {"complete": TRIALS}:
        yield f"states are {[record['state'] for record in records.values()]}"
        return
    settings = Counter(json.dumps([record["parameters"], record["seed"]]) for record in records.values())
    if max(settings.values()) > 1:
        yield "two complete trials have the same parameters and seed"
    repeated = 0
    for folder in folders:
        yield from (f"{folder.uid}: {name} differs from the manifest" for name in folder.damaged())
        if sha256_file(folder.weights) != truth.weights.get(folder.uid):
            yield f"{folder.uid}: other weights"
        if read_json(folder.scores) != truth.scores.get(folder.uid):
            yield f"{folder.uid}: other scores"
        if _plain(read_json(folder.result)) != truth.results.get(folder.uid):
            yield f"{folder.uid}: another result"
        if _epochs(folder) != truth.epochs.get(folder.uid):
            yield f"{folder.uid}: other values in its epochs"
        trained = [e for attempt in folder.attempts() for e in attempt.read_events() if e["event"] == "epoch"]
        repeated += len(trained) - EPOCHS
    if repeated > lost_epochs:
        yield f"{repeated} epochs were trained twice"
    yield from (f"left behind: {path.relative_to(place.home.path)}" for path in _leftovers(place))


def _leftovers(place: Place) -> list[Path]:
    """Files written aside by a process that was killed; attempts are history and may hold some."""
    found = (path for path in place.home.path.rglob(".*") if path.is_file())
    # MLflow writes artifacts aside too, and cleans up after nobody; its own files are not ours to remove.
    apart = (".lock", ".artifact.uploading")
    # What sweeps share has no lock, so nobody may remove there what is a minute old: `harness gc` does a day later.
    history = ("attempts", "checks")
    return [path for path in found if not {*history} & {*path.parts} and not any(word in path.name for word in apart)]


def _optuna(place: Place) -> Iterator[str]:
    with closing(sqlite3.connect(f"file:{place.home.path / 'optuna.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("select state, count(*) from trials group by state").fetchall()
        uids = db.execute(
            "select value_json, count(*) from trial_user_attributes where key = 'uid' group by 1"
        ).fetchall()
        values = sorted(value for (value,) in db.execute("select value from trial_values"))
    if dict(rows) != {"COMPLETE": TRIALS}:
        yield f"Optuna has {dict(rows)}"
    if len(uids) != TRIALS or any(count > 1 for _, count in uids):
        yield f"Optuna knows the uids {uids}"
    records = [read_json(folder.state_file)["value"] for folder in place.generation.trial_folders()]
    if not all(math.isclose(a, b) for a, b in zip(values, sorted(records), strict=False)):
        yield f"Optuna's values are {values}, the records' {records}"


def _mlflow(place: Place, truth: Truth) -> Iterator[str]:
    with closing(_database(place)) as db:
        uids = db.execute("select value, count(*) from tags where key = 'harness.trial_uid' group by 1").fetchall()
        states = Counter(state for (state,) in db.execute("select status from runs"))
    if len(uids) != TRIALS or any(count > 1 for _, count in uids):
        yield f"MLflow has runs of {uids}"
    if set(states) != {"FINISHED"}:
        yield f"MLflow's runs are {dict(states)}"
    points = _points(place)
    if points != truth.points:
        missing, doubled = truth.points - points, points - truth.points
        yield f"MLflow lacks {len(missing)} points and has {len(doubled)} too many: {[*missing, *doubled][:3]}"


def _points(place: Place) -> Counter[tuple[str, str, int]]:
    with closing(_database(place)) as db:
        rows = db.execute(
            "select t.value, m.key, m.step from metrics m join tags t on t.run_uuid = m.run_uuid "
            "where t.key = 'harness.trial_uid'"
        ).fetchall()
    # The first part of a uid names the home: its generation's time of making.
    return Counter((uid.rpartition("/")[2], key, step) for uid, key, step in rows)


def _database(place: Place) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{place.home.path / 'mlflow.db'}?mode=ro", uri=True)


def _epochs(folder: TrialFolder) -> dict[int, dict[str, float]]:
    """{epoch: values} over all attempts; where two words on one epoch differ, so that it differs from the truth."""
    found: dict[int, dict[str, float]] = {}
    for attempt in folder.attempts():
        for event in attempt.read_events():
            if event["event"] == "epoch":
                values = _plain(event["values"])
                if found.setdefault(event["epoch"], values) != values:
                    found[event["epoch"]] = {**values, "contradiction": 1.0}
    return found


def _plain(value: Any) -> Any:
    """Without what varies from run to run."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if not any(word in k for word in VARYING)}
    return [_plain(item) for item in value] if isinstance(value, list) else value
