"""A record as the studies know it; apart from the records, which many read without Optuna (1 s to import)."""

from __future__ import annotations

from pathlib import Path

from harness.study import Past
from harness.sweep.ledger import Record, objectives
from harness.trial.folder import TrialFolder


def as_past(record: Record, path: Path) -> Past:
    """What the studies need to know of a trial."""
    return Past(
        uid=record.uid,
        number=record.number,
        assignment=record.parameters,
        state="paused" if record.rungs and not record.is_final else record.state,
        value=record.value,
        reported=objectives(TrialFolder(path)),
        baseline_row=record.baseline_row,
    )
