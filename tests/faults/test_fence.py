"""A worker that was stopped past its lease and goes on changes nothing; and the check of that can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.trial.folder import Attempt
from tests.faults.fence import changed_after_acceptance

pytestmark = pytest.mark.slow


def test_a_late_attempt_changes_nothing_outside_its_own_folder(tmp_path: Path) -> None:
    """It finishes, and the accepted result is untouched."""
    assert changed_after_acceptance(tmp_path) == []


def test_without_the_fence_the_same_check_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs written straight into the trial's folder, as most tools do: the accepted result is overwritten."""
    monkeypatch.setattr(Attempt, "outputs", property(lambda self: self.path / "outputs" if self.number == 2
                                                     else self.path.parent.parent / "figures"))  # fmt: skip
    assert "figures/result.json" in changed_after_acceptance(tmp_path)
