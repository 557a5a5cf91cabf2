"""Keeps a tracker up to date with a sweep's folders, from a thread, and catches up after outages.

Nothing is queued but names, since the folders are the truth.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.outbox import Outbox
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
        self._projection: Projection | None = None
        self.outbox = Outbox(
            "MLflow store",
            away=lambda error: str(error) if isinstance(error, StoreAway) else None,
            reason=_reason,
            every_s=every_s,
            first_delay_s=first_delay_s,
            longest_delay_s=longest_delay_s,
        )

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
        return self.outbox.status

    @property
    def failures(self) -> tuple[str, ...]:
        """What could not be copied and will not be tried again until it changes, one line each."""
        return self.outbox.failures

    def drain(self, timeout_s: float) -> bool:
        """Wait until all is copied; False when it took too long (the sweep's next run goes on with it)."""
        return self.outbox.drain(timeout_s)

    def close(self, timeout_s: float = 3.0) -> None:
        """End the thread after its present request; what still waits stays for the sweep's next run."""
        self.outbox.close(timeout_s)

    def _put(self, name: str, job: Job) -> None:
        self.outbox.put(name, lambda: job(self._projected()))

    def _projected(self) -> Projection:
        if self._projection is None:
            sweep = SweepView.read(self._generation)
            tracker = self._connect(self._store)
            self._projection = Projection(tracker, store_key(self._store.uri), sweep)
        return self._projection


def _reason(error: Exception) -> str:
    if isinstance(error, StoreDeclines):
        return f"MLflow declines: {error}"
    return printable(f"{type(error).__name__}: {error}")
