"""The controller's word on each trial, in `trial.json` of its folder: what it is, and how it stands."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from harness.config.base import Frozen
from harness.files import read_json, safe_name, write_json
from harness.sweep.layout import GenerationFolder
from harness.trial.folder import Attempt, TrialFolder

State = Literal["waiting", "running", "paused", "complete", "pruned", "failed"]
FINAL: frozenset[str] = frozenset({"complete", "pruned", "failed"})


class Record(Frozen):
    """One trial as the controller sees it."""

    uid: str
    sweep: str
    generation: int
    stratum: str
    number: int  # 0, 1, ... within the stratum
    state: State = "waiting"
    cause: str | None = None
    message: str | None = None
    parameters: dict[str, Any]  # strata axes and parameters; null where inactive
    baseline: bool = False
    baseline_row: int | None = None  # which of the stratum's baselines it is
    mark: str | None = None
    replicate_of: str | None = None
    seed: int
    fingerprint: str
    accepted_attempt: int | None = None
    value: float | None = None
    pruned_epoch: int | None = None  # of a paused trial: the epoch after which it is pruned if it does not go on
    rung: int = 0  # where it is to pause, or did (see harness.sweep.rungs)
    rungs: tuple[float | None, ...] = ()  # the best objective up to each rung that it reached
    created: str
    finished: str | None = None
    halved: int = 0  # how often its batch was cut into twice as many parts, for want of memory
    adopted_from: str | None = None  # `g1/trials/<uid>`: trained there, kept here (see harness.sweep.adopt)

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self.state in FINAL


def trial_uid(stratum: str, number: int) -> str:
    """A trial's name within its generation, safe as a folder name: `unicorn3.all.0003`."""
    return f"{safe_name(stratum.replace('/', '.'))}.{number:04d}"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_record(folder: TrialFolder, record: Record) -> None:
    """Replace the trial's record."""
    write_json(folder.state_file, record.model_dump(mode="json"))


def read_records(generation: GenerationFolder) -> dict[str, Record]:
    """{uid: record} of every trial whose folder is whole; a folder without a record was never submitted."""
    records = {}
    for folder in generation.trial_folders():
        if folder.state_file.exists():
            record = Record.model_validate(read_json(folder.state_file))
            records[record.uid] = record
    return records


def search_runs(records: Iterable[Record]) -> list[Record]:
    """Without replicates."""
    return [record for record in records if record.replicate_of is None]


def objectives(folder: TrialFolder) -> dict[int, float]:
    """{epoch: objective} over all attempts; a later attempt's word stands."""
    reported: dict[int, float] = {}
    for attempt in folder.attempts():
        for event in attempt.read_events():
            value = event.get("objective")
            if event["event"] == "epoch" and isinstance(value, float) and math.isfinite(value):
                reported[int(event["epoch"])] = value
    return reported


def completed(record: Record, folder: TrialFolder) -> Record:
    """The record of a trial whose result was accepted; a result without a finite objective is a failure."""
    result = read_json(folder.result)
    value, metric = result["objective"]["value"], result["objective"]["metric"]
    accepted = read_json(folder.manifest)["attempt"]
    update: dict[str, Any] = {"accepted_attempt": accepted, "finished": now(), "pruned_epoch": None}
    if value is None or not math.isfinite(value):
        update |= {"state": "failed", "cause": "nan", "message": f"{metric} has no finite value"}
    else:
        update |= {"state": "complete", "value": value, "cause": None, "message": None}
    return record.model_copy(update=update)


def paused(record: Record, folder: TrialFolder) -> Record:
    """The record of a trial that reached its rung."""
    at = last_epoch(folder.attempts()[-1])  # of the one that paused: another one, now void, may have gone further
    epochs = {epoch: value for epoch, value in objectives(folder).items() if epoch <= at}
    better = max if folder.read_spec().objective.goal == "maximize" else min
    reached = (*record.rungs[: record.rung], better(epochs.values(), default=None))
    return record.model_copy(update={"state": "paused", "rungs": reached, "pruned_epoch": at})


def last_epoch(attempt: Attempt) -> int:
    """The last one that an attempt trained, or went on from; 0 before there is one."""
    return max((int(event.get("epoch", event.get("resumed_epoch", 0))) for event in attempt.read_events()), default=0)


def seconds_trained(folder: TrialFolder) -> float:
    """Of all epochs of all attempts."""
    events = (event for attempt in folder.attempts() for event in attempt.read_events())
    return sum(float(event["seconds"]) for event in events if event["event"] == "epoch")
