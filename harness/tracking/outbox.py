"""The outbox: a thread that keeps a tracker up to date with a sweep's folders, and catches up after outages.

Nothing is queued but names, since the folders are the truth; a name waits once however often it changes. The
caller is never blocked and never sees an exception.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness.tracking.content import SweepView, TrialFiles
from harness.tracking.project import Projection, store_key
from harness.tracking.store import Store, client_settings, printable
from harness.tracking.tracker import StoreAway, StoreDeclines, Tracker

Job = Callable[[Projection], None]


def mlflow_tracker(store: Store) -> Tracker:
    """Connect to MLflow; imports it, which takes 2 s of one core."""
    from harness.tracking.client import MlflowTracker

    return MlflowTracker(store)


class Projector:
    """Copies one generation of a sweep into a tracker; all methods may be called by any thread."""

    def __init__(
        self,
        generation: Path,
        store: Store,
        *,
        connect: Callable[[Store], Tracker] = mlflow_tracker,
        every_s: float = 2.0,
        first_delay_s: float = 1.0,
        longest_delay_s: float = 60.0,
    ) -> None:
        # Before MLflow is imported, and for workers too, which inherit them.
        os.environ.update(client_settings(os.environ))
        self._generation, self._store, self._connect = generation, store, connect
        self._every_s, self._first_delay_s, self._longest_delay_s = every_s, first_delay_s, longest_delay_s
        self._changed = threading.Condition()
        self._waiting: dict[str, Job] = {}
        self._busy = self._closed = self._in_a_hurry = False
        self._problem: str | None = None
        self._next_try = 0.0
        self._failures: dict[str, str] = {}
        self._projection: Projection | None = None
        self._thread = threading.Thread(target=self._run, name="tracking", daemon=True)
        self._thread.start()

    def touch(self, files: TrialFiles) -> None:
        """This trial's folder has changed."""
        self._put(str(files.path), lambda projection: projection.trial_changed(files))

    def sweep_changed(self, state: str) -> None:
        """The sweep is now running, finished, stopped or failed."""
        self._put("sweep", lambda projection: projection.sweep_changed(state))

    def attach(self, folder: Path, name: str = "report") -> None:
        """Copy a folder to the sweep's own run."""
        self._put(f"attach {folder}", lambda projection: projection.attach(folder, name))

    @property
    def status(self) -> str | None:
        """One line while the store does not answer, else None."""
        with self._changed:
            if self._problem is None:
                return None
            left_s = self._next_try - time.monotonic()
            when = f"next try in {left_s:.0f} s" if left_s >= 0.5 else "trying"
            return f"MLflow store does not answer, {self._count()} updates waiting, {when} ({self._problem})"

    @property
    def failures(self) -> tuple[str, ...]:
        """What could not be copied and will not be tried again until it changes, one line each."""
        with self._changed:
            return tuple(f"{name}: {reason}" for name, reason in self._failures.items())

    def drain(self, timeout_s: float) -> bool:
        """Wait until all is copied; False when it took too long (the sweep's next run goes on with it)."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._in_a_hurry = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._count(), timeout=max(deadline - time.monotonic(), 0))
            self._in_a_hurry = False
            return done

    def close(self, timeout_s: float = 3.0) -> None:
        """End the thread after its present request; what still waits stays for the sweep's next run."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _put(self, name: str, job: Job) -> None:
        with self._changed:
            self._waiting[name] = job
            self._changed.notify_all()

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
        """Run one job; the reason when the store is away. Anything else is the job's own failure."""
        try:
            job(self._projected())
        except StoreAway as error:
            return str(error)
        except StoreDeclines as error:
            reason = f"MLflow declines: {error}"
        except Exception as error:
            reason = printable(f"{type(error).__name__}: {error}")
        else:
            with self._changed:
                self._failures.pop(name, None)
            return None
        with self._changed:
            self._failures[name] = " ".join(reason.split())[:300]
        return None

    def _projected(self) -> Projection:
        if self._projection is None:
            sweep = SweepView.read(self._generation)
            tracker = self._connect(self._store)
            self._projection = Projection(tracker, store_key(self._store.uri), sweep)
        return self._projection

    def _rest(self, delay_s: float) -> None:
        """Wait before the next try (a drain: at once, then once a second). Called with the lock held."""
        hurried = self._in_a_hurry
        delay_s = min(delay_s, 1.0) if hurried else delay_s
        self._next_try = time.monotonic() + delay_s
        self._changed.wait_for(lambda: self._closed or (self._in_a_hurry and not hurried), timeout=delay_s)
