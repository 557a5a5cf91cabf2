"""A tracker in this process's memory: for tests, and for sweeps that are not to be tracked."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.tracking.tracker import DatasetUse, Identity, Model, Point, RunRecord, Shelf, Status, StoreDeclines


@dataclass
class _MemoryRun:
    name: str
    experiment_id: str
    tags: dict[str, str]
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    points: dict[Point, None] = field(default_factory=dict)
    datasets: dict[tuple[str, str], str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    models: set[str] = field(default_factory=set)


@dataclass
class _MemoryModel:
    identity: Identity
    experiment_id: str
    ready: bool = False
    files: dict[str, bytes] = field(default_factory=dict)


class MemoryTracker:
    """A dictionary of runs and one of models, open to look at; `remote` as a server is."""

    def __init__(self, *, remote: bool = False) -> None:
        self.remote = remote
        self.runs: dict[str, _MemoryRun] = {}
        self.models: dict[str, _MemoryModel] = {}
        self.experiment_tags: dict[str, dict[str, str]] = {}
        self._experiments: dict[str, str] = {}

    def experiment(self, name: str) -> str:
        return self._experiments.setdefault(name, str(len(self._experiments) + 1))

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        self.experiment_tags.setdefault(experiment_id, {}).update(tags)

    def run(self, experiment_id: str, *, identity: Identity, name: str, tags: Mapping[str, str], start_ms: int) -> str:
        for run_id, run in self.runs.items():
            if run.experiment_id == experiment_id and run.tags.get(identity[0]) == identity[1]:
                return run_id
        run_id = f"run-{len(self.runs) + 1}"
        self.runs[run_id] = _MemoryRun(name, experiment_id, {**tags, identity[0]: identity[1]})
        return run_id

    def log(self, run_id: str, *, params: Mapping[str, str], points: Sequence[Point], tags: Mapping[str, str]) -> None:
        run = self._get(run_id)
        for key, value in params.items():
            if run.params.setdefault(key, value) != value:
                raise StoreDeclines(f"parameter {key!r} is {run.params[key]!r} already")
        run.points |= dict.fromkeys(points)
        run.tags |= tags

    def log_datasets(self, run_id: str, datasets: Sequence[DatasetUse]) -> None:
        for use in datasets:
            self._get(run_id).datasets.setdefault((use.name, use.digest), use.context)

    def log_file(self, shelf: Shelf, file: Path, folder: str) -> None:
        if folder and folder != posixpath.normpath(folder):
            raise StoreDeclines(f"{folder!r} is not a clean path")  # as MLflow says
        self._files(shelf)[posixpath.join(folder, file.name)] = file.read_bytes()

    def stored_sha256(self, shelf: Shelf, path: str, *, size_bytes: int) -> str | None:
        content = self._files(shelf).get(path)
        return None if content is None else hashlib.sha256(content).hexdigest()

    def model(self, experiment_id: str, run_id: str, *, identity: Identity, name: str) -> Model:
        for model_id, model in self.models.items():
            if model.experiment_id == experiment_id and model.identity == identity:
                return Model(model_id, model.ready)
        model_id = f"model-{len(self.models) + 1}"
        self.models[model_id] = _MemoryModel(identity, experiment_id)
        return Model(model_id, ready=False)

    def finish_model(self, model_id: str, run_id: str, *, points: Sequence[Point]) -> None:
        run = self._get(run_id)
        run.points |= dict.fromkeys(points)
        run.models.add(model_id)
        self.models[model_id].ready = True

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        self._get(run_id).status = status

    def read(self, run_id: str) -> RunRecord:
        run = self._get(run_id)
        in_order = sorted(run.points, key=lambda p: (p.step, p.time_ms))
        return RunRecord(
            run_id=run_id,
            name=run.name,
            status=run.status,
            params=dict(run.params),
            tags=dict(run.tags),
            metrics={point.key: point.value for point in in_order},
            datasets=tuple(sorted((*key, context) for key, context in run.datasets.items())),
            files=tuple(sorted(run.files)),
            models=tuple(sorted(run.models)),
        )

    def curve(self, run_id: str, key: str) -> tuple[Point, ...]:
        points = (point for point in self._get(run_id).points if point.key == key)
        return tuple(sorted(points, key=lambda p: (p.step, p.time_ms)))

    def _get(self, run_id: str) -> _MemoryRun:
        if run_id not in self.runs:
            raise StoreDeclines(f"there is no run {run_id!r}")
        return self.runs[run_id]

    def _files(self, shelf: Shelf) -> dict[str, bytes]:
        if shelf.of == "run":
            return self._get(shelf.id).files
        if shelf.id not in self.models:
            raise StoreDeclines(f"there is no model {shelf.id!r}")
        return self.models[shelf.id].files
