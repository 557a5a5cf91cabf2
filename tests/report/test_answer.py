"""What the sweep cost, in one sentence."""

from __future__ import annotations

from pathlib import Path

from harness.report.answer import cost_line
from harness.report.queries import read_sweep
from tests.report.factory import SweepFolder


def test_runs_kept_from_an_earlier_generation_are_counted_apart(tmp_path: Path) -> None:
    """Three runs of three epochs, one of them trained before the space was edited: two were paid for now."""
    folder = SweepFolder(tmp_path)
    folder.trial()
    folder.trial()
    assert cost_line(read_sweep(folder.path), []).startswith("2 runs, 6 epochs, ")
    folder.trial(adopted_from="g1/trials/u001")
    said = cost_line(read_sweep(folder.path), [])
    assert said.startswith("2 runs, 6 epochs, ") and said.endswith(" (1 more kept from an earlier generation).")
