"""One short note for each trap that a row has walked into; docs/traps.md shows every trap at work.

What `boards.flags` says already is not said again here: "rate never cut", "best epoch is the last", enlarged ROIs.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.boards import Board
from harness.report.queries import Trial

LEGEND = 'What the notes mean is shown in docs/traps.md, and by "harness traps".'
REFERENCE = "means over patches, perhaps each of its own best epoch"


def notes(trial: Trial) -> tuple[str, ...]:
    """What the trial's settings make of its score, in a few words each."""
    settings = trial.settings
    found = [
        "trains undefined as a class" if settings.get("undefined") == "as_paper" else None,
        "mirrored labels at borders" if settings.get("augment") in ("paper", "paper_one_warp") else None,
        "trained on mixed patches, scored on all" if settings.get("patches") == "non_homogeneous" else None,
        "stops before a cut of the rate can act" if _stops_first(trial) else None,
    ]
    return tuple(note for note in found if note)


def shared_notes(board: Board) -> tuple[str, ...]:
    """Notes of every row of a board with several, to be said once below it."""
    every = [notes(row.trial) for row in board.rows]
    return tuple(note for note in every[0] if len(every) > 1 and all(note in of_row for of_row in every))


def own_notes(trial: Trial, shared: Sequence[str]) -> str | None:
    """The notes of a row that its board does not share, as its small print."""
    own = [note for note in notes(trial) if note not in shared]
    return "; ".join(own) or None


def _stops_first(trial: Trial) -> bool:
    """Whether early stopping ends every training before an epoch at a lower rate.

    The rate is cut at the end of bad epoch `plateau_patience` + 1, the training at the end of bad epoch
    `stop_patience`.
    """
    settings = trial.settings
    plateau, stop = settings.get("plateau_patience"), settings.get("stop_patience")
    if settings.get("schedule") != "plateau" or not isinstance(plateau, int) or not isinstance(stop, int):
        return False
    return plateau + 1 >= stop
