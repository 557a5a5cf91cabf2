"""Jobs around the trials: what must go well before the first one, and models and pictures afterwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.config.space import SearchSpace
from harness.errors import BadInput, HarnessError, Refused
from harness.execute.base import Event, Job
from harness.sweep.exports import to_export
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record
from harness.trial.folder import TrialFolder


@dataclass(frozen=True, slots=True)
class Ended:
    """What the end of a side job means: a line for people, and what stops the sweep, if anything does."""

    note: str | None = None
    fatal: HarnessError | None = None


class SideJobs:
    """Which side job comes next; each is handed out once per start."""

    def __init__(self, space: SearchSpace, generation: GenerationFolder, first: Sequence[Job]) -> None:
        self._space, self._generation = space, generation
        self._first, self._preparing = deque(first), 0
        self._exported: set[str] = set()
        self._sketched = False

    @property
    def before_trials(self) -> bool:
        """Whether trials have to wait for weights or parts that any of them needs."""
        return bool(self._first or self._preparing)

    def next_before(self) -> Job | None:
        """The next job that trials wait for."""
        if not self._first:
            return None
        self._preparing += 1
        return self._first.popleft()

    def next_after(self, records: Iterable[Record], *, searching: bool, trained: bool) -> Job | None:
        """The next model to export, then the sweep's own pictures.

        `searching`: whether trials of the search run now, so that nobody knows the top; `trained`: whether any epoch
        was trained since the start.
        """
        complete = [record for record in records if record.state == "complete"]
        return self._next_export(complete, searching) or self._sketch(complete, searching, trained)

    def ended(self, job: Job, event: Event, title: str) -> Ended:
        """A side job is over, or its worker died."""
        message, lost = event["message"], event["event"] == "lost"
        if job.task in ("fetch", "try"):
            self._preparing -= 1
            kind = HarnessError if lost else Refused if job.task == "fetch" else BadInput
            return Ended(fatal=None if message is None else kind(message))
        what = f"export  {title}" if job.task == "export" else "figures of data and networks"
        return Ended(note=None if message is None else f"{what}: {message}")

    def _next_export(self, complete: Sequence[Record], searching: bool) -> Job | None:
        """Under `top:k` once the search is over, under `all` as soon as slots are free."""
        if self._space.export != "all" and searching:
            return None
        for record in to_export(self._space, complete):
            folder = TrialFolder(self._generation.trials / record.uid)
            if record.uid not in self._exported and not folder.mlflow_model.exists():
                self._exported.add(record.uid)
                return Job(folder.path, task="export")
        return None

    def _sketch(self, complete: Sequence[Record], searching: bool, trained: bool) -> Job | None:
        drawn = self._generation.figures.is_dir() and not trained
        if self._sketched or searching or drawn or not complete:
            return None
        self._sketched = True
        return Job(self._generation.path, task="sketch")
