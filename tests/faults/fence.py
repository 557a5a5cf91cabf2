"""A worker that was stopped past its lease and goes on: what it still writes.

python -m tests.faults.fence
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.files import sha256_file
from harness.trial.folder import TrialFolder
from harness.trial.run import run_trial
from tests.faults.real import Outcome, shown
from tests.toy import toy_spec, write_cohort

EPOCHS = 3


def changed_after_acceptance(folder: Path, *, held_at: int = 2) -> list[str]:
    """Attempt 1 is held after an epoch, attempt 2 finishes and is accepted, then attempt 1 goes on to its end.

    The files outside attempt 1 that are not as they were.
    """
    trial, held, on = TrialFolder(folder / "trial"), threading.Event(), threading.Event()
    trial.write_spec(toy_spec(write_cohort(folder / "cohort"), epochs=EPOCHS))

    def hold(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == held_at:
            held.set()
            on.wait(60)

    def work(number: int, emit: Any) -> None:
        run_trial(trial, number, stores=folder / "stores", device="cpu", emit=emit, should_stop=lambda: False)

    late = threading.Thread(target=work, args=(1, hold))
    late.start()
    assert held.wait(60)
    work(2, lambda event: None)
    trial.accept(trial.attempt(2))
    before = _hashes(trial)
    on.set()
    late.join(60)
    assert trial.attempt(1).ended_complete
    after = _hashes(trial)
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def _hashes(trial: TrialFolder) -> dict[str, str]:
    files = [path for path in trial.path.rglob("*") if path.is_file() and "attempts/1" not in path.as_posix()]
    return {path.relative_to(trial.path).as_posix(): sha256_file(path) for path in files}


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Held after each of its epochs."""
    for epoch in range(1, EPOCHS + 1):
        yield Outcome(f"held after epoch {epoch}", changed_after_acceptance(folder / str(epoch), held_at=epoch))


if __name__ == "__main__":
    sys.exit(bool(shown(outcomes)))
