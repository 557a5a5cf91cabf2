"""The databases a sweep is copied into, each by a thread that waits while its database is away."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.outbox import Outbox
from harness.sweep.progress import Screen
from harness.tracking.outbox import Projector
from harness.trial.folder import TrialFolder

# Long enough for the artifacts of many trials; a database that is away is caught up with at the next start.
DRAIN_TIMEOUT_S = 60.0
DRAIN_AFTER_INTERRUPT_S = 2.0


@dataclass(frozen=True, slots=True)
class Copies:
    """MLflow's runs and Optuna's durable studies: projections of the folders, so training never waits for them."""

    mlflow: Projector
    optuna: Outbox

    def touch(self, files: TrialFolder) -> None:
        """The trial folder changed."""
        self.mlflow.touch(files)

    def sweep_changed(self, state: str) -> None:
        """The sweep is now running, finished, stopped or failed."""
        self.mlflow.sweep_changed(state)

    def attach(self, report: Path) -> None:
        """The report was written."""
        self.mlflow.attach(report)

    @property
    def status(self) -> str | None:
        """A line about what does not answer, or None."""
        return "; ".join(line for line in (self.mlflow.status, self.optuna.status) if line) or None

    def leave(self) -> None:
        """Give both a moment, and go: whoever runs the command again catches up."""
        self.mlflow.drain(DRAIN_AFTER_INTERRUPT_S)
        self.optuna.drain(DRAIN_AFTER_INTERRUPT_S)

    def catch_up(self, screen: Screen) -> None:
        """Wait for both to have everything; say so when one does not answer."""
        for name, outbox in (("Optuna", self.optuna), ("MLflow", self.mlflow.outbox)):
            started = time.monotonic()
            if name == "MLflow" or not outbox.drain(0.5):  # nobody need read of what takes no time
                with screen.step(f"bringing {name} up to date"):
                    outbox.drain(DRAIN_TIMEOUT_S)
            if not outbox.drain(0.0):
                reason = outbox.status or f"not done after {time.monotonic() - started:.0f} s"
                screen.note(f"{name} is not up to date ({reason}); the same command catches up, nothing is lost")
            for line in said_once(outbox.failures):
                screen.note(f"{name}: {line}")

    def close(self) -> None:
        """End both threads after their present request."""
        self.optuna.close()
        self.mlflow.close()


def said_once(failures: Sequence[str]) -> list[str]:
    """`name: reason` lines, with one line for what failed for the same reason."""
    names: dict[str, list[str]] = {}
    for failure in failures:
        name, _, reason = failure.partition(": ")
        names.setdefault(reason, []).append(name)
    return [f"{of[0]}{f' and {len(of) - 1} more' if len(of) > 1 else ''}: {reason}" for reason, of in names.items()]
