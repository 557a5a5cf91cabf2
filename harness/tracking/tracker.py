"""What a tracker is: a store of runs, every operation of which may be repeated without effect.

A caller that never saw the answer simply asks again. Runs and models are found by a tag before they are made;
points carry their own time, and a point that is there already is not stored twice.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from harness.errors import HarnessError

Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
Identity = tuple[str, str]  # a tag that only one run, or one model, carries: (key, value)


class StoreAway(HarnessError):
    """The store gives no usable answer now; asking later may help."""


class StoreDeclines(HarnessError):
    """The store declines this one request for good (a run deleted by hand, a changed parameter)."""


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a curve. `time_ms` comes from the event, so that sending it twice stores it once."""

    key: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """A dataset that a run read: `context` is training or validation, `digest` at most 36 characters."""

    name: str
    digest: str
    context: str
    source: str
    profile: str = "{}"


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where files lie in a store: with a run, or with a model."""

    of: Literal["run", "model"]
    id: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model in a store; until it is `ready` its files may be missing."""

    model_id: str
    ready: bool


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a store knows of a run; `metrics` are the latest values."""

    run_id: str
    name: str
    status: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    datasets: tuple[tuple[str, str, str], ...]  # (name, digest, context)
    files: tuple[str, ...]
    models: tuple[str, ...]  # ids


@dataclass(frozen=True, slots=True)
class SeenRun:
    """What a list of runs tells of each: enough to compare it with its folder."""

    run_id: str
    status: str
    tags: Mapping[str, str]
    last_steps: Mapping[str, int]  # of each metric, the step of its latest value


class Tracker(Protocol):
    """A store of runs. Methods raise StoreAway or StoreDeclines; calling one again changes nothing."""

    @property
    def remote(self) -> bool:
        """Whether files go over a line to a server, so that what arrived has to be read back to be sure of it."""

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made if there is none."""

    def tag_experiment(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of the experiment; others stay."""

    def run(self, experiment_id: str, *, identity: Identity, name: str, tags: Mapping[str, str], start_ms: int) -> str:
        """The id of the run that carries the tag `identity` (key, value), made if there is none."""

    def log(self, run_id: str, *, params: Mapping[str, str], points: Sequence[Point], tags: Mapping[str, str]) -> None:
        """Add parameters, points of curves and tags."""

    def log_datasets(self, run_id: str, datasets: Sequence[DatasetUse]) -> None:
        """Add dataset inputs."""

    def log_file(self, shelf: Shelf, file: Path, folder: str) -> None:
        """Copy one file to the shelf, into `folder` ("" is the top)."""

    def stored_sha256(self, shelf: Shelf, path: str, *, size_bytes: int) -> str | None:
        """Hex sha256 of what the store has under that path, read back; None when it has nothing there.

        `size_bytes` is about how much it should be: a large file is waited for longer.
        """

    def model(self, experiment_id: str, run_id: str, *, identity: Identity, name: str) -> Model:
        """The model that carries the tag `identity`, made without files if there is none."""

    def finish_model(self, model_id: str, run_id: str, *, points: Sequence[Point]) -> None:
        """All files of the model are there: it belongs to the run with these values, and `models:/<id>` loads it."""

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        """Say how a run stands; `end_ms` for one that has ended."""

    def read(self, run_id: str) -> RunRecord:
        """What is stored of a run."""

    def curve(self, run_id: str, key: str) -> tuple[Point, ...]:
        """All points of one metric, by step and time."""


def storable_key(name: str) -> str:
    """`name` as MLflow accepts it: letters, digits, `_-. :/`, and a clean relative path."""
    path = posixpath.normpath(re.sub(r"[^\w.\- :/]", "_", name)).lstrip("/")
    return path.replace("../", "")[:250]


def model_name(name: str) -> str:
    """`name` as MLflow accepts it for a model, which may not hold / : . % or quotes."""
    return re.sub(r"[^\w\-]+", "-", name).strip("-")[:200] or "model"
