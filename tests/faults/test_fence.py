"""A worker that was stopped past its lease and goes on: what it still writes, and that the check of it can fail."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from harness.files import sha256_file
from harness.trial.folder import Attempt, TrialFolder
from harness.trial.run import run_trial
from tests.toy import toy_spec, write_cohort


def changed_after_acceptance(folder: Path) -> list[str]:
    """Attempt 1 is held in its second epoch, attempt 2 finishes and is accepted, then attempt 1 goes on to its end.

    The files outside attempt 1 that are not as they were.
    """
    trial, held, on = TrialFolder(folder / "trial"), threading.Event(), threading.Event()
    trial.write_spec(toy_spec(write_cohort(folder / "cohort"), epochs=3))

    def hold(event: dict[str, Any]) -> None:
        if event["event"] == "epoch" and event["epoch"] == 2:
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


@pytest.mark.slow
def test_a_late_attempt_changes_nothing_outside_its_own_folder(tmp_path: Path) -> None:
    """It finishes, and the accepted result is untouched."""
    assert changed_after_acceptance(tmp_path) == []


@pytest.mark.slow
def test_without_the_fence_the_same_check_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs written straight into the trial's folder, as most tools do: the accepted result is overwritten."""
    monkeypatch.setattr(Attempt, "outputs", property(lambda self: self.path / "outputs" if self.number == 2
                                                     else self.path.parent.parent / "figures"))  # fmt: skip
    assert "figures/result.json" in changed_after_acceptance(tmp_path)
