"""Trials in the controller's own process, one after the other: for debugging, and for the smallest machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from harness.execute.base import Event, Executor, Job, Message
from harness.execute.work import Workplace, do_job, warm_up


class InlineExecutor(Executor):
    """Runs a job to its end inside `messages`; its events are seen afterwards, so nothing is pruned midway."""

    def __init__(self, place: Workplace, interrupted: Callable[[], bool]) -> None:
        self._place, self._interrupted = place, interrupted
        self._waiting: deque[Job] = deque()
        warm_up()

    @property
    def slots(self) -> int:
        return 1

    def free(self) -> int:
        return 1 - len(self._waiting)

    def submit(self, job: Job) -> None:
        self._waiting.append(job)

    def messages(self, timeout_s: float) -> list[Message]:
        if not self._waiting:
            return []
        job, events = self._waiting.popleft(), list[Event]()
        do_job(job, self._place, events.append, self._interrupted)
        return [Message(job, event) for event in events]

    def stop(self, job: Job) -> None:
        self._waiting = deque(waiting for waiting in self._waiting if waiting != job)

    def close(self) -> None:
        self._waiting.clear()
