"""Runs in MLflow.

Only `MlflowClient`, never the fluent API: that one keeps a current run per thread and registers exit hooks.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from harness.errors import Refused
from harness.files import written_aside
from harness.tracking.artifacts import put, read_back
from harness.tracking.store import Store, printable, sqlite_uri
from harness.tracking.tracker import (
    DatasetUse,
    Identity,
    Model,
    Point,
    RunRecord,
    SeenRun,
    Shelf,
    Status,
    StoreAway,
    StoreDeclines,
    model_name,
)

Answer = TypeVar("Answer")

# MLflow's own limits for one log_batch.
_MAX_ENTITIES, _MAX_PARAMS_OR_TAGS, _MAX_VALUE_CHARACTERS = 1000, 100, 6000
_CAUSES = {
    "NewConnectionError": "connection refused",
    "ReadTimeoutError": "no answer in time",
    "ConnectTimeoutError": "no connection in time",
    "NameResolutionError": "unknown host",
    "ResponseError": "server error",
}
LOGIN_WANTED = "it wants another login: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
# Otherwise the UI greets with the pages for language-model applications.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
# Answers of MLflow that asking again will not change.
_FINAL_CODES = {
    "INVALID_PARAMETER_VALUE",
    "RESOURCE_DOES_NOT_EXIST",
    "BAD_REQUEST",
    "INVALID_STATE",
    "NOT_FOUND",
}


class MlflowTracker:
    """Runs in an MLflow store. The first one on a new SQLite file makes its tables (2 to 8 s)."""

    def __init__(self, store: Store) -> None:
        # A loader option in MLflow's table definitions; on stderr it would tear the progress line.
        warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)
        from mlflow import MlflowClient  # 2 s: only where MLflow is really talked to

        self._store = store
        self._opened: tuple[Shelf, Any] | None = None  # the last one: files come shelf by shelf
        if store.artifact_root is None:
            self._client = self._ask(MlflowClient, store.uri, store.uri)
            return
        # Two processes that make the tables of one SQLite file at once spoil it; the second waits here.
        store.artifact_root.mkdir(parents=True, exist_ok=True)
        with FileLock(store.artifact_root.parent / "mlflow.lock", timeout=60):
            self._ask(_make_tables, store.artifact_root.parent / "mlflow.db")
            self._client = self._ask(MlflowClient, store.uri, store.uri)

    @property
    def remote(self) -> bool:
        return not self._store.embedded

    def experiment(self, name: str) -> str:
        found = self._ask(self._client.get_experiment_by_name, name)
        if found is None:
            root = self._store.artifact_root
            location = root.as_uri() if root else None
            try:
                answer = self._ask(
                    self._client.create_experiment, name, artifact_location=location, tags=_EXPERIMENT_TAGS
                )
                return str(answer)
            except (StoreAway, StoreDeclines):
                # Another process may have been faster.
                found = self._ask(self._client.get_experiment_by_name, name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            # Thrown away by hand while the folders, the truth, are still there; its runs come back with it.
            self._ask(self._client.restore_experiment, found.experiment_id)
        return str(found.experiment_id)

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._ask(self._client.set_experiment_tag, experiment_id, key, value)

    def delete_experiment(self, name: str) -> int:
        """Move an experiment to MLflow's trash and free its name; the number of runs that it held."""
        found = self._ask(self._client.get_experiment_by_name, name)
        if found is None or found.lifecycle_stage == "deleted":
            return 0
        runs, token = 0, None
        while True:
            page = self._ask(self._client.search_runs, [found.experiment_id], max_results=1000, page_token=token)
            runs, token = runs + len(page), page.token
            if not token:
                break
        # The trash keeps names: without another one, no new sweep could ever be called so again.
        trashed = f"{name} (deleted, {found.experiment_id})"
        self._ask(self._client.rename_experiment, found.experiment_id, trashed)
        self._ask(self._client.delete_experiment, found.experiment_id)
        return runs

    def runs_of(self, experiment: str) -> list[SeenRun]:
        """All runs of an experiment that are not in the trash, oldest first; none when there is no experiment."""
        found = self._ask(self._client.get_experiment_by_name, experiment)
        if found is None:
            return []
        runs, token = [], None
        while True:
            order, ids = ["attributes.start_time ASC"], [found.experiment_id]
            page = self._ask(self._client.search_runs, ids, max_results=1000, order_by=order, page_token=token)
            for run in page:
                steps = {metric.key: metric.step for metric in run.data._metric_objs}
                runs.append(SeenRun(run.info.run_id, run.info.status, run.data.tags, steps))
            if not (token := page.token):
                return runs

    def delete_run(self, run_id: str) -> None:
        """Move a run to MLflow's trash."""
        self._ask(self._client.delete_run, run_id)

    def run(self, experiment_id: str, *, identity: Identity, name: str, tags: Mapping[str, str], start_ms: int) -> str:
        found = self._ask(
            self._client.search_runs,
            [experiment_id],
            filter_string=_tag_filter(identity),
            max_results=1,
            order_by=["attributes.start_time ASC"],
        )
        if found:
            return str(found[0].info.run_id)
        all_tags = {**tags, identity[0]: identity[1]}
        run = self._ask(self._client.create_run, experiment_id, start_time=start_ms, tags=all_tags, run_name=name[:250])
        return str(run.info.run_id)

    def log(self, run_id: str, *, params: Mapping[str, str], points: Sequence[Point], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        left_params = iter([Param(key, value[:_MAX_VALUE_CHARACTERS]) for key, value in params.items()])
        left_tags = iter([RunTag(key, value[:_MAX_VALUE_CHARACTERS]) for key, value in tags.items()])
        left_metrics = iter([Metric(p.key, p.value, p.time_ms, p.step) for p in points])
        while True:
            # 800 + 100 + 100 is the most that one request may carry.
            some_params = list(islice(left_params, _MAX_PARAMS_OR_TAGS))
            some_tags = list(islice(left_tags, _MAX_PARAMS_OR_TAGS))
            some_metrics = list(islice(left_metrics, _MAX_ENTITIES - len(some_params) - len(some_tags)))
            if not (some_params or some_tags or some_metrics):
                return
            self._ask(self._client.log_batch, run_id, metrics=some_metrics, params=some_params, tags=some_tags)

    def log_datasets(self, run_id: str, datasets: Sequence[DatasetUse]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(use.name, use.digest, "local", use.source, profile=use.profile),
                [InputTag("mlflow.data.context", use.context)],
            )
            for use in datasets
        ]
        self._ask(self._client.log_inputs, run_id, datasets=inputs)

    def log_file(self, shelf: Shelf, file: Path, folder: str) -> None:
        self._ask(put, self._repository(shelf), file, folder)

    def stored_sha256(self, shelf: Shelf, path: str, *, size_bytes: int) -> str | None:
        return self._ask(read_back, self._repository(shelf), path, size_bytes)

    def model(self, experiment_id: str, run_id: str, *, identity: Identity, name: str) -> Model:
        found = self._ask(self._client.search_logged_models, [experiment_id], filter_string=_tag_filter(identity))
        model = found[0] if found else None
        if model is None:
            model = self._ask(
                self._client.create_logged_model,
                experiment_id,
                name=model_name(name),
                source_run_id=run_id,
                tags=dict([identity]),
                model_type="segmentation",
            )
        return Model(str(model.model_id), ready=model.status.name == "READY")

    def finish_model(self, model_id: str, run_id: str, *, points: Sequence[Point]) -> None:
        from mlflow.entities import LoggedModelOutput, Metric

        if model_id not in _models_of(self._ask(self._client.get_run, run_id)):
            # MLflow declines the second time, so a lost answer would keep the model from ever being finished.
            self._ask(self._client.log_outputs, run_id, models=[LoggedModelOutput(model_id, 0)])
        metrics = [Metric(p.key, p.value, p.time_ms, p.step, model_id=model_id) for p in points]
        self._ask(self._client.log_batch, run_id, metrics=metrics)
        self._ask(self._client.finalize_logged_model, model_id, "READY")

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        if status in ("RUNNING", "SCHEDULED"):
            self._ask(self._client.update_run, run_id, status=status)
        else:
            self._ask(self._client.set_terminated, run_id, status=status, end_time=end_ms)

    def read(self, run_id: str) -> RunRecord:
        run = self._ask(self._client.get_run, run_id)
        contexts = [
            (
                use.dataset.name,
                use.dataset.digest,
                {t.key: t.value for t in use.tags}.get("mlflow.data.context", ""),
            )
            for use in (run.inputs.dataset_inputs if run.inputs else ())
        ]
        return RunRecord(
            run_id=run_id,
            name=run.info.run_name,
            status=run.info.status,
            params=run.data.params,
            tags=run.data.tags,
            metrics=run.data.metrics,
            datasets=tuple(sorted(contexts)),
            files=tuple(sorted(self._files(run_id, None))),
            models=tuple(sorted(_models_of(run))),
        )

    def curve(self, run_id: str, key: str) -> tuple[Point, ...]:
        history = self._ask(self._client.get_metric_history, run_id, key)
        points = (Point(m.key, m.value, m.step, m.timestamp) for m in history)
        return tuple(sorted(points, key=lambda p: (p.step, p.time_ms)))

    def _repository(self, shelf: Shelf) -> Any:
        """MLflow's own access to the files of a run or a model."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        if self._opened is None or self._opened[0] != shelf:
            if shelf.of == "run":
                uri = self._ask(self._client.get_run, shelf.id).info.artifact_uri
            else:
                uri = self._ask(self._client.get_logged_model, shelf.id).artifact_location
            self._opened = shelf, self._ask(get_artifact_repository, uri, tracking_uri=self._store.uri)
        return self._opened[1]

    def _files(self, run_id: str, folder: str | None) -> Iterator[str]:
        for info in self._ask(self._client.list_artifacts, run_id, folder):
            if info.is_dir:
                yield from self._files(run_id, info.path)
            else:
                yield info.path

    def _ask(self, question: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
        """Call MLflow; what it raises becomes StoreAway or StoreDeclines: one line, no passwords."""
        from mlflow.exceptions import MlflowException

        try:
            return question(*args, **kwargs)
        except MlflowException as error:
            line = _one_line(error)
            if error.error_code in _FINAL_CODES or line == LOGIN_WANTED:
                raise StoreDeclines(line) from None
            raise StoreAway(line) from None
        except Exception as error:  # drivers, sockets and disks raise what they like
            raise StoreAway(f"{type(error).__name__}: {_one_line(error)}") from None


def _models_of(run: Any) -> set[str]:
    return {model.model_id for model in run.outputs.model_outputs} if run.outputs else set()


def _make_tables(file: Path) -> None:
    """MLflow's tables in a new SQLite file, which is there with all of them or not at all.

    MLflow makes them one by one, and after a kill in between never opens the file again ("table already exists").
    """
    if file.exists():
        return
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    with written_aside(file) as aside:
        engine = create_sqlalchemy_engine(sqlite_uri(aside))  # type: ignore[no-untyped-call]
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
        engine.dispose()


def delete_experiment(store: Store, name: str) -> int:
    """Move a sweep's runs to MLflow's trash; how many there were. Refused when the store does not answer."""
    if store.artifact_root is not None and not (store.artifact_root.parent / "mlflow.db").exists():
        return 0  # nothing was ever tracked, and looking would make the tables
    try:
        return MlflowTracker(store).delete_experiment(name)
    except (StoreAway, StoreDeclines) as error:
        raise Refused(f"MLflow at {store.printable} does not answer, try again later: {error}") from None


def _tag_filter(identity: Identity) -> str:
    key, value = identity
    quoted = value.replace("'", "")
    return f"tags.`{key}` = '{quoted}'"


def _one_line(error: Exception) -> str:
    """An error of MLflow's for a progress line: 400 characters of nested connection errors become their cause."""
    text = " ".join(str(error).split())
    cause = re.search(r"Caused by (?:\w+: )?(\w+)\(", text)
    if cause is not None:
        text = _CAUSES.get(cause[1], cause[1])
    if "error code 401" in text:
        return LOGIN_WANTED
    return printable(text if len(text) <= 300 else f"{text[:297]}...")
