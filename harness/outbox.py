"""An outbox: a thread that tells somebody who may be away (a server, a database) what happened, and catches up later.

What waits is a name and a way to bring the other side up to date about it, so a name waits once however often it
changes, and a job may be repeated. The caller is never blocked and never sees an exception.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Job = Callable[[], None]


class Outbox:
    """Runs jobs one after the other; all methods may be called by any thread.

    `whom`: the other side, as people are told of it. `away`: the reason, for an error that means it does not answer
    (the job is tried again, ever more seldom, and those behind it wait), or None for one that is the job's own failure
    (said in `failures`, not tried again until the name changes). `every_s`: changes gather so long.
    """

    def __init__(
        self,
        whom: str,
        *,
        away: Callable[[Exception], str | None],
        reason: Callable[[Exception], str],
        every_s: float = 2.0,
        first_delay_s: float = 1.0,
        longest_delay_s: float = 60.0,
    ) -> None:
        self._whom, self._away, self._reason = whom, away, reason
        self._every_s, self._first_delay_s, self._longest_delay_s = every_s, first_delay_s, longest_delay_s
        self._changed = threading.Condition()
        self._waiting: dict[str, Job] = {}
        self._busy = self._closed = self._in_a_hurry = False
        self._problem: str | None = None
        self._next_try = 0.0
        self._failures: dict[str, str] = {}
        self._thread = threading.Thread(target=self._run, name=f"outbox: {whom}", daemon=True)
        self._thread.start()

    def put(self, name: str, job: Job) -> None:
        """What this name stands for has changed."""
        with self._changed:
            self._waiting[name] = job
            self._changed.notify_all()

    @property
    def status(self) -> str | None:
        """One line while the other side does not answer, else None."""
        with self._changed:
            if self._problem is None:
                return None
            left_s = self._next_try - time.monotonic()
            when = f"next try in {left_s:.0f} s" if left_s >= 0.5 else "trying"
            return f"{self._whom} does not answer, {self._count()} updates waiting, {when} ({self._problem})"

    @property
    def failures(self) -> tuple[str, ...]:
        """What could not be told and will not be tried again until it changes, one line each."""
        with self._changed:
            return tuple(f"{name}: {reason}" for name, reason in self._failures.items())

    def drain(self, timeout_s: float) -> bool:
        """Wait until all is told; False when it took too long."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._in_a_hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._count(), timeout=max(deadline - time.monotonic(), 0))
            self._in_a_hurry = False
            return done

    def close(self, timeout_s: float = 3.0) -> None:
        """End the thread after its present job; what still waits is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _count(self) -> int:
        return len(self._waiting) + self._busy

    def _run(self) -> None:
        delay_s = self._first_delay_s
        while (work := self._next()) is not None:
            name, job = work
            away = self._do(name, job)
            with self._changed:
                self._busy = False
                self._problem = away
                if away is None:
                    delay_s = self._first_delay_s
                else:
                    # Back to the head of the queue, unless a newer job of that name took its place meanwhile.
                    self._waiting = {name: self._waiting.get(name, job), **self._waiting}
                    self._rest(delay_s)
                    delay_s = min(2 * delay_s, self._longest_delay_s)
                self._changed.notify_all()

    def _next(self) -> tuple[str, Job] | None:
        """The next job; waits for one, and a little longer so that changes gather. None: closed."""
        with self._changed:
            if not self._waiting:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._changed.wait_for(lambda: self._in_a_hurry or self._closed, timeout=self._every_s)
            if self._closed:
                return None
            name = next(iter(self._waiting))
            self._busy = True
            return name, self._waiting.pop(name)

    def _do(self, name: str, job: Job) -> str | None:
        """Run one job; the reason when nobody answers. Anything else is the job's own failure."""
        try:
            job()
        except Exception as error:
            away = self._away(error)
            if away is not None:
                return away
            with self._changed:
                self._failures[name] = " ".join(self._reason(error).split())[:300]
        else:
            with self._changed:
                self._failures.pop(name, None)
        return None

    def _rest(self, delay_s: float) -> None:
        """Wait before the next try (a drain: at once, then once a second). Called with the lock held."""
        hurried = self._in_a_hurry
        delay_s = min(delay_s, 1.0) if hurried else delay_s
        self._next_try = time.monotonic() + delay_s
        self._changed.wait_for(lambda: self._closed or (self._in_a_hurry and not hurried), timeout=delay_s)
