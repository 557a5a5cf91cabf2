"""A generation's trials, read again and again while another process writes them: only what changed is opened.

Of 1,000 trials a second look costs one `stat` each; a trial that ended is not looked into again. What a look found of
trials that ended is kept in a file of columns for the next process (see harness.sweep.columns).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.files import fingerprint, read_json
from harness.sweep.columns import (
    DAMAGE,
    packed,
    read_columns,
    rows_of,
    stamp_of,
    table,
    unpacked,
    worth_writing,
    write_columns,
)
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record
from harness.trial.folder import Attempt, TrialFolder

if TYPE_CHECKING:
    from harness.sweep.columns import Columns

FILE = "index-status.npz"
ATTEMPT = ("number", "read_bytes", "device", "began", "last", "epoch", "epochs_trained", "epoch_seconds", "objective",
           "timed_seconds", "data_seconds")  # fmt: skip


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
    stamp: bytes
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
        self._columns = generation.path / FILE
        self._kept = {seen.folder.uid: seen for seen in self._load()}
        self._held, self._new = len(self._kept), 0  # trials that ended: in the file, and read since

    def look(self) -> dict[str, TrialSeen]:
        """{uid: trial} as the folders say it now, in the order of their names."""
        for folder in self.generation.trial_folders():
            stamp = _stamp(folder)
            if stamp is None:
                continue  # made, but not submitted yet
            kept = self._kept.get(folder.uid)
            known = self.trials.get(folder.uid) or (kept if kept and kept.stamp == stamp else None)
            if known is None or known.stamp != stamp:
                record = Record.model_validate(read_json(folder.state_file))
                known = TrialSeen(folder, record, stamp, known.attempts if known else {})
            elif known.record.is_final:
                self.trials[folder.uid] = known
                continue
            self.trials[folder.uid] = known
            known.read_attempts()
            self._new += known.record.is_final
        self._kept = {}
        if worth_writing(self._held, self._new):
            self._store()
        return self.trials

    def _load(self) -> list[TrialSeen]:
        columns = read_columns(self._columns, _KEY)
        if columns is None:
            return []
        try:
            attempts = rows_of(columns, "attempts")
            rows = zip(
                unpacked(columns["names"]), rows_of(columns, "records"), columns["attempts.of"].tolist(), strict=True
            )
            stamps, found = columns["stamps"].tobytes(), []
            for place, (name, record, count) in enumerate(rows):
                own = {row.pop("number"): AttemptSeen(**row) for row in (next(attempts) for _ in range(count))}
                stamp = stamps[16 * place : 16 * place + 16]
                found.append(
                    TrialSeen(TrialFolder(self.generation.trials / name), Record.model_validate(record), stamp, own)
                )
        except DAMAGE:
            return []
        return found

    def _store(self) -> None:
        import numpy as np  # .1 s that a look at few trials need not spend

        ended = [seen for seen in self.trials.values() if seen.record.is_final]
        attempts = [
            dict(zip(ATTEMPT, (number, *astuple(one)), strict=True))
            for seen in ended
            for number, one in seen.attempts.items()
        ]
        columns: Columns = {
            "names": packed([seen.folder.uid for seen in ended]),
            "stamps": np.frombuffer(b"".join(seen.stamp for seen in ended), dtype=np.uint8),
            "attempts.of": np.array([len(seen.attempts) for seen in ended], dtype=np.int32),
            **table([seen.record.model_dump(mode="json") for seen in ended], "records"),
            **table(attempts, "attempts"),
        }
        write_columns(self._columns, _KEY, columns)
        self._held, self._new = len(ended), 0


# Another set of fields, in a record or an attempt, is another file.
_KEY = fingerprint([list(Record.model_fields), ATTEMPT])


def _stamp(folder: TrialFolder) -> bytes | None:
    """Changes when the record or the manifest is replaced, or an attempt begins; None: there is no record."""
    if not folder.state_file.exists():
        return None
    return stamp_of((folder.state_file, folder.manifest, folder.path / "attempts"))


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
