"""Notes at a row: one per trap that its settings have walked into, none for the defaults' absence of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.spec import TrainSpec
from harness.report.boards import group_boards
from harness.report.exports import leaderboard
from harness.report.notes import LEGEND, notes, own_notes, shared_notes
from harness.report.queries import Sweep, Trial, read_sweep
from harness.report.tables import board_table
from harness.traps.plateau_and_stop import measure
from tests.report.factory import SweepFolder

CLEAN = {"undefined": "ignore", "augment": "histology", "patches": "all", "schedule": "cosine",
         "plateau_patience": 5, "stop_patience": 10}  # fmt: skip


def sweep_of(tmp_path: Path, *settings: dict[str, Any]) -> Sweep:
    """One complete trial per entry, each with these settings over CLEAN."""
    folder = SweepFolder(tmp_path)
    for number, _ in enumerate(settings):
        folder.trial(error=0.1 + 0.1 * number)
    sweep = read_sweep(folder.path)
    trials = tuple(replace(t, settings={**CLEAN, **own}) for t, own in zip(sweep.trials, settings, strict=True))
    return replace(sweep, trials=trials)


def trial_of(tmp_path: Path, **settings: Any) -> Trial:
    return sweep_of(tmp_path, settings).trials[0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ()),
        ({"undefined": "as_paper"}, ("trains undefined as a class",)),
        ({"augment": "paper"}, ("mirrored labels at borders",)),
        ({"augment": "paper_one_warp"}, ("mirrored labels at borders",)),
        ({"patches": "non_homogeneous"}, ("trained on mixed patches, scored on all",)),
        ({"schedule": "plateau", "plateau_patience": 10}, ("stops before a cut of the rate can act",)),
        ({"schedule": "plateau", "plateau_patience": 8}, ()),
        ({"schedule": "plateau", "plateau_patience": 10, "stop_patience": None}, ()),
        ({"schedule": "cosine", "plateau_patience": 10}, ()),
    ],
)
def test_a_setting_that_is_a_trap_has_its_note_and_no_other(
    tmp_path: Path, settings: dict[str, Any], said: tuple[str, ...]
) -> None:
    """Each trap alone gives its one note; sound settings give none."""
    assert notes(trial_of(tmp_path, **settings)) == said


def test_the_paper_s_own_row_carries_every_note(tmp_path: Path) -> None:
    """All four traps at once: four notes, in a fixed order."""
    trial = trial_of(tmp_path, undefined="as_paper", augment="paper", patches="non_homogeneous", schedule="plateau",
                     plateau_patience=10, stop_patience=10)  # fmt: skip
    assert [note.split()[0] for note in notes(trial)] == ["trains", "mirrored", "trained", "stops"]


@pytest.mark.parametrize("plateau_patience", range(13))
def test_the_note_on_stopping_first_is_what_torch_s_scheduler_does(tmp_path: Path, plateau_patience: int) -> None:
    """Noted exactly where a simulated training with stop patience 10 has no epoch at a lower rate."""
    flat = (0.5,) * 40
    trained_lower = measure(plateau_patience, flat).epochs_after_cut
    stop = TrainSpec().stop_patience
    trial = trial_of(tmp_path, schedule="plateau", plateau_patience=plateau_patience, stop_patience=stop)
    assert ("stops before a cut of the rate can act" in notes(trial)) == (trained_lower == 0)


def test_a_note_of_all_rows_is_said_once_below_the_board(tmp_path: Path) -> None:
    """The shared note leaves the rows; the other stays at its row, with a legend; the board keeps eight columns."""
    sweep = sweep_of(tmp_path, {"augment": "paper"}, {"augment": "paper", "undefined": "as_paper"})
    (board,) = group_boards(sweep)
    table = board_table(board, sweep, None, tmp_path)
    assert shared_notes(board) == ("mirrored labels at borders",)
    assert [row[-1].note for row in table.rows] == [None, "trains undefined as a class"]
    assert "mirrored labels at borders" in table.note and LEGEND in table.note
    assert len(table.columns) == 8


def test_a_board_without_traps_has_no_legend(tmp_path: Path) -> None:
    """Sound rows: no note, nothing to explain."""
    sweep = sweep_of(tmp_path, {}, {})
    (board,) = group_boards(sweep)
    assert LEGEND not in board_table(board, sweep, None, tmp_path).note
    assert own_notes(sweep.trials[0], ()) is None


def test_the_leaderboard_file_has_notes_and_cuts_of_the_rate(tmp_path: Path) -> None:
    """Per trial, so that scripts can filter by them; an unfinished trial's cuts are null."""
    folder = SweepFolder(tmp_path)
    folder.trial(result={"lr_cuts": 2})
    folder.trial(state="pruned")
    rows = leaderboard(read_sweep(folder.path), tmp_path)["rows"]
    assert [row["lr_cuts"] for row in rows] == [2, None]
    assert rows[0]["notes"] == ["mirrored labels at borders"]  # the default policy is the paper's
