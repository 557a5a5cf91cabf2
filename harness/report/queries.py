"""A generation's folder -> Sweep: everything the report says, read from files. No database, no torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.config.knobs import label_of
from harness.config.spec import TrialSpec
from harness.errors import BadInput
from harness.files import read_json
from harness.report.scored import DOCUMENT_ERRORS, Scored, scored_of
from harness.tracking.project import read_cursor
from harness.trial.folder import TrialFolder

# The life of a trial, in the order tables list them.
STATES = ("complete", "pruned", "failed", "running", "paused", "waiting")

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of a learning curve."""

    number: int
    seconds: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run as its folder tells it, finished or not; or masks of another tool, scored (`external`)."""

    uid: str
    number: int
    stratum: str
    state: str  # one of STATES
    cause: str | None
    message: str | None
    parameters: Mapping[str, Value]  # strata axes and searched ones; inactive = None
    settings: Mapping[str, Value]  # every knob, fixed ones too; empty without a readable spec
    labels_key: str | None
    seed: int
    baseline: bool
    mark: str | None
    replicate_of: str | None
    run_id: str | None
    experiment_id: str | None
    pruned_epoch: int | None
    folder: Path
    epochs: tuple[Epoch, ...]
    epochs_trained: int  # over all attempts: what was paid for
    seconds_trained: float
    started: Mapping[str, Any]  # the last attempt's first event
    result: Mapping[str, Any] | None
    environment: Mapping[str, Any]
    scored: Scored | None  # only for COMPLETE trials whose matrices could be read
    external: str | None = None  # the name that `harness score` was given
    adopted_from: str | None = None  # the trial folder of another generation that this one was taken from
    rungs: Sequence[float | None] = ()  # the best objective up to each rung that it reached

    @property
    def device(self) -> str | None:
        """The device's name, or failing that its kind."""
        found = self.environment.get("device_name") or self.environment.get("device")
        return str(found) if found else None

    def value(self, key: str) -> Value:
        """A parameter's value, searched or fixed; None where it is inactive or unknown."""
        return self.parameters[key] if key in self.parameters else self.settings.get(key)


# One sweep is read once, and equal to itself alone: its boards are kept by that.
@dataclass(frozen=True, slots=True, eq=False)
class Sweep:
    """One generation of a sweep."""

    name: str
    generation: int
    folder: Path
    document: Mapping[str, Any]  # space.json
    trials: tuple[Trial, ...]  # trained here
    external: tuple[Trial, ...]  # masks of other tools, scored on the same regions
    varying: tuple[str, ...]  # parameters that differ between trials, in the order of the file
    problems: tuple[str, ...]  # files that could not be read, one line each
    marked: bool  # some trial has a mark: the sweep reproduces a publication

    @property
    def space(self) -> Mapping[str, Any]:
        """The resolved search space."""
        return dict(self.document.get("space") or {})

    @property
    def data(self) -> Mapping[str, Any]:
        """What the sweep was run on: root, hash, counts, centres, split."""
        return dict(self.document.get("data") or {})

    @property
    def metric(self) -> str:
        """The objective's score, such as `val/iou`."""
        return str((self.space.get("objective") or {}).get("metric", "val/iou"))

    @property
    def minimize(self) -> bool:
        """Whether a smaller objective is better."""
        return (self.space.get("objective") or {}).get("goal") == "minimize"

    @property
    def strata(self) -> tuple[str, ...]:
        """The axes whose combinations are strata."""
        return tuple(self.space.get("strata") or {})

    @property
    def complete(self) -> tuple[Trial, ...]:
        """Trials that were trained to their end: COMPLETE, with readable matrices."""
        return tuple(trial for trial in self.trials if trial.scored is not None)

    @property
    def rankable(self) -> tuple[Trial, ...]:
        """What boards hold: completed trials, and masks of other tools."""
        return (*self.complete, *(row for row in self.external if row.scored is not None))

    @property
    def unfinished(self) -> bool:
        """Whether trials are still running or waiting."""
        return any(trial.state in ("running", "waiting", "paused") for trial in self.trials)


@lru_cache(maxsize=4096, typed=True)
def canonical(value: Value) -> str:
    """A hashable text for any JSON value; 1 and 1.0 are one value, True and 1 are two."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


Reader = Callable[[Path, Mapping[str, Any], list[str]], list[Trial]]  # a folder of trials, space.json, problems


def read_sweep(folder: Path, *, reader: Reader | None = None) -> Sweep:
    """Read `<home>/sweeps/<sweep>/g<n>`, finished or still running; BadInput when it is no such folder.

    `reader` reads the trials that were trained here (default: every file of every trial; see harness.report.index).
    """
    space_file = folder / "space.json"
    try:
        document = dict(read_json(space_file))
    except FileNotFoundError:
        raise BadInput(f"{folder}: no space.json here; a report reads a sweep's g<n> folder") from None
    except DOCUMENT_ERRORS as error:
        raise BadInput(f"{space_file}: not a sweep's description: {error}") from None
    problems: list[str] = []
    trials = (reader or read_trials)(folder / "trials", document, problems)
    return Sweep(
        name=str(document.get("name", folder.parent.name)),
        generation=int(document.get("generation", 1)),
        folder=folder,
        document=document,
        trials=tuple(sorted(trials, key=lambda t: (t.stratum, t.replicate_of is not None, t.number, t.uid))),
        external=tuple(read_trials(folder / "external", document, problems)),
        varying=_varying(trials),
        problems=tuple(problems),
        marked=any(trial.mark for trial in trials),
    )


def read_trials(folder: Path, _: Mapping[str, Any], problems: list[str]) -> list[Trial]:
    """Every file of every trial in a folder."""
    found = sorted(path for path in folder.glob("*") if (path / "trial.json").is_file())
    return [trial for path in found if (trial := read_trial(TrialFolder(path), problems)) is not None]


def _varying(trials: list[Trial]) -> tuple[str, ...]:
    keys = dict.fromkeys(key for trial in trials for key in trial.parameters if key != "seed")
    return tuple(key for key in keys if len({canonical(trial.parameters.get(key)) for trial in trials}) > 1)


def read_trial(folder: TrialFolder, problems: list[str]) -> Trial | None:
    """One trial; None for one whose record cannot be read. What cannot be read is a line in `problems`."""
    try:
        said = dict(read_json(folder.state_file))
        state = str(said["state"])
        parameters = {str(key): label_of(value) for key, value in dict(said["parameters"]).items()}
        number = int(said["number"])
    except DOCUMENT_ERRORS as error:
        problems.append(f"{folder.state_file}: cannot be read, trial left out ({error})")
        return None
    spec = _spec(folder)
    scored = scored_of(folder, _data(spec, said), problems) if state == "complete" else None
    events = _events(folder, problems)
    accepted = said.get("accepted_attempt")
    copied = read_cursor(folder.path)
    counted = [lines for number, lines in events.items() if accepted is None or number <= accepted]
    paid = [epoch for lines in events.values() for epoch in _epochs(lines)]
    return Trial(
        uid=str(said.get("uid", folder.uid)),
        number=number,
        stratum=str(said.get("stratum", "default")),
        state=state,
        cause=said.get("cause"),
        message=said.get("message"),
        parameters=parameters,
        settings={} if spec is None else {key: label_of(value) for key, value in spec.parameters().items()},
        labels_key=None if spec is None else spec.dataset.labels.key,
        seed=int(said.get("seed", 0)),
        baseline=bool(said.get("baseline", False)),
        mark=said.get("mark"),
        replicate_of=said.get("replicate_of"),
        run_id=None if copied is None else copied.run_id,
        experiment_id=None if copied is None else copied.experiment_id,
        pruned_epoch=said.get("pruned_epoch"),
        folder=folder.path,
        epochs=_curve(counted),
        epochs_trained=len(paid),
        seconds_trained=sum(epoch.seconds for epoch in paid),
        started=_started(counted[-1]) if counted else {},
        result=_optional(folder.result, problems) if scored else None,
        environment=_optional(folder.environment, problems) or {} if scored else {},
        scored=scored,
        external=said.get("external"),
        adopted_from=said.get("adopted_from"),
        rungs=list(said.get("rungs") or ()),
    )


def _data(spec: TrialSpec | None, said: Mapping[str, Any]) -> list[Any] | None:
    """Hash and patients of the data a trial was judged on; masks of another tool have no spec, but say it."""
    if spec is not None:
        split = spec.dataset.split
        return [spec.dataset.data_hash, sorted(split.train), sorted(split.validation), sorted(split.test)]
    data = said.get("data")
    if not data:
        return None
    return [data["hash"], *(sorted(data["split"].get(role) or ()) for role in ("train", "validation", "test"))]


def _spec(folder: TrialFolder) -> TrialSpec | None:
    try:
        return folder.read_spec()
    except BadInput:
        return None  # an older version's spec: the matrices still speak for themselves


def _optional(file: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        return dict(read_json(file))
    except DOCUMENT_ERRORS as error:
        problems.append(f"{file}: cannot be read ({error})")
        return None


def _events(folder: TrialFolder, problems: list[str]) -> dict[int, list[dict[str, Any]]]:
    """The events of every attempt, by its number."""
    events: dict[int, list[dict[str, Any]]] = {}
    for attempt in folder.attempts():
        try:
            events[attempt.number] = attempt.read_events()
        except DOCUMENT_ERRORS as error:
            problems.append(f"{attempt.events}: cannot be read, its epochs are missing here ({error})")
    return events


def _epochs(events: list[dict[str, Any]]) -> list[Epoch]:
    return [
        Epoch(int(event["epoch"]), float(event.get("seconds") or 0), dict(event.get("values") or {}))
        for event in events
        if event.get("event") == "epoch"
    ]


def _curve(attempts: list[list[dict[str, Any]]]) -> tuple[Epoch, ...]:
    """Epochs of the last attempt, with those of earlier attempts it resumed from."""
    curve: dict[int, Epoch] = {}
    for events in attempts:
        started = _started(events)
        if started:
            resumed = int(started.get("resumed_epoch") or 0)
            curve = {number: epoch for number, epoch in curve.items() if number <= resumed}
        curve |= {epoch.number: epoch for epoch in _epochs(events)}
    return tuple(curve[number] for number in sorted(curve))


def _started(events: list[dict[str, Any]]) -> dict[str, Any]:
    return next((event for event in events if event.get("event") == "started"), {})
