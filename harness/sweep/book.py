"""The records of a generation's trials, written as they change, with counts that are kept instead of counted.

Every proposal asks how many trials there are; with 8,000 of them counting took a third of the controller's time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from harness.config.spec import TrialSpec
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record, read_records, write_record
from harness.trial.folder import TrialFolder


class Book:
    """Read once, then changed by `save` alone, which also tells `touched` whose folder changed."""

    def __init__(self, generation: GenerationFolder, touched: Callable[[TrialFolder], None]) -> None:
        self.records: dict[str, Record] = {}
        self.begun: Counter[str] = Counter()  # trials of the search, by stratum
        self.left: Counter[str] = Counter()  # of those, the ones that are not over
        self.paused: Counter[str] = Counter()  # of those, the ones that pause
        self.unfinished = 0  # trials that are not over, replicates too
        self._generation, self._touched = generation, touched
        for record in read_records(generation).values():
            self._put(record)

    def folder(self, uid: str) -> TrialFolder:
        """A trial's folder."""
        return TrialFolder(self._generation.trials / uid)

    def save(self, record: Record) -> None:
        """Write a record and count it."""
        write_record(self.folder(record.uid), record)
        self._put(record)
        self._touched(self.folder(record.uid))

    def begin(self, record: Record, spec: TrialSpec) -> None:
        """Make a trial's folder; the record comes last, so that there is none without a spec."""
        folder = self.folder(record.uid)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_spec(spec)
        self.save(record)

    def change(self, uid: str, **values: object) -> Record:
        """Save a trial's record with other values."""
        record = self.records[uid].model_copy(update=values)
        self.save(record)
        return record

    def _put(self, record: Record) -> None:
        before = self.records.get(record.uid)
        if before is not None:
            self._count(before, -1)
        self.records[record.uid] = record
        self._count(record, 1)

    def _count(self, record: Record, by: int) -> None:
        self.unfinished += by * (not record.is_final)
        if record.replicate_of is None:
            self.begun[record.stratum] += by
            self.left[record.stratum] += by * (not record.is_final)
            self.paused[record.stratum] += by * (record.state == "paused")
