"""A generation's trials, read again and again while another process writes them: only what changed is opened.

Of 1,000 trials a second look costs one `stat` each; a trial that ended is not looked into again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.files import read_json
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record
from harness.trial.folder import Attempt, TrialFolder


@dataclass(slots=True)
class AttemptSeen:
    """What one start of a worker has written so far. Times in unix seconds."""

    read_bytes: int = 0
    device: str | None = None
    began: float | None = None
    last: float | None = None
    epoch: int = 0  # the last one that ended
    epochs_trained: int = 0
    epoch_seconds: float = 0.0
    objective: float | None = None
    # Epochs that say how long they waited for data; those of an older version do not.
    timed_seconds: float = 0.0
    data_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """From its first to its last word."""
        return 0.0 if self.began is None or self.last is None else self.last - self.began

    def take(self, event: dict[str, Any]) -> None:
        """Add one event."""
        self.last = event.get("time", self.last)
        if event.get("event") == "started":
            self.began, self.device = event.get("time"), event.get("device")
            self.epoch = event.get("resumed_epoch", 0)
        elif event.get("event") == "epoch":
            self.epoch, self.objective = event["epoch"], event.get("objective")
            self.epochs_trained += 1
            self.epoch_seconds += event.get("seconds") or 0.0
            if event.get("data_seconds") is not None:
                self.timed_seconds += event["seconds"]
                self.data_seconds += event["data_seconds"]


@dataclass
class TrialSeen:
    """One trial: its record, and what its attempts have written."""

    folder: TrialFolder
    record: Record
    stamp: tuple[int, int, int]
    attempts: dict[int, AttemptSeen] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Over all attempts."""
        return sum(attempt.seconds for attempt in self.attempts.values())

    @property
    def epochs_trained(self) -> int:
        """Over all attempts."""
        return sum(attempt.epochs_trained for attempt in self.attempts.values())

    @property
    def latest(self) -> AttemptSeen | None:
        """The attempt that started last."""
        return self.attempts[max(self.attempts)] if self.attempts else None

    @cached_property
    def epochs(self) -> int:
        """How many epochs it may train at most."""
        return self.folder.read_spec().train.epochs

    def read_attempts(self) -> None:
        """Take in what was appended since the last look."""
        for attempt in self.folder.attempts():
            seen = self.attempts.setdefault(attempt.number, AttemptSeen())
            for event in _appended(attempt, seen):
                seen.take(event)


class Follower:
    """The trials of one generation; `look` brings them up to date."""

    def __init__(self, generation: GenerationFolder) -> None:
        self.generation = generation
        self.trials: dict[str, TrialSeen] = {}

    def look(self) -> dict[str, TrialSeen]:
        """{uid: trial} as the folders say it now, in the order of their names."""
        for folder in self.generation.trial_folders():
            known = self.trials.get(folder.uid)
            stamp = _stamp(folder.state_file)
            if stamp is None:
                continue  # made, but not submitted yet
            if known is not None and known.stamp == stamp and known.record.is_final:
                continue
            if known is None or known.stamp != stamp:
                record = Record.model_validate(read_json(folder.state_file))
                known = TrialSeen(folder, record, stamp, known.attempts if known else {})
                self.trials[folder.uid] = known
            known.read_attempts()
        return self.trials


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Changes whenever the file is replaced; None: there is none."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _appended(attempt: Attempt, seen: AttemptSeen) -> Iterator[dict[str, Any]]:
    """The whole events after those already read; a line still being written waits for the next look."""
    try:
        with attempt.events.open("rb") as stream:
            stream.seek(seen.read_bytes)
            whole = stream.read().rpartition(b"\n")
    except FileNotFoundError:
        return
    seen.read_bytes += len(whole[0]) + len(whole[1])
    for line in whole[0].split(b"\n"):
        if line:
            yield json.loads(line)
