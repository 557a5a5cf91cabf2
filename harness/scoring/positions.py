"""Where a row of another tool stands on the boards of its sweep."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.report.boards import group_boards, yardstick_boards
from harness.report.queries import read_sweep
from harness.report.wording import difference_text, metric_text, score_text


@dataclass(frozen=True, slots=True)
class Position:
    """One row on one board."""

    row: str  # its uid
    board: str  # the board's key, as in leaderboard.json
    title: str
    metric: str
    score: float | None
    rank: int | None  # None: n/a here, unranked
    ranked: int  # rows with a rank on this board
    tied: bool
    behind: float | None  # score minus the leader's


def positions(generation_folder: Path, uids: Collection[str]) -> tuple[Position, ...]:
    """Every board that has one of these rows: its group's, then the yardstick's."""
    sweep = read_sweep(generation_folder)
    return tuple(
        Position(row.trial.uid, board.key, board.title, board.metric, row.score, row.rank, len(board.ranked),
                 row.tied, row.behind)
        for board in (*group_boards(sweep), *yardstick_boards(sweep))
        for row in board.rows
        if row.trial.external and row.trial.uid in uids
    )  # fmt: skip


def position_lines(found: Sequence[Position]) -> list[str]:
    """`unicorn3: rank 3 of 15, IoU 0.612` and the difference to the leader, one line for each board."""
    lines = []
    for at in found:
        of = f"{at.row} on {at.title}"
        if at.rank is None:
            lines.append(f"{of}: {metric_text(at.metric)} n/a, unranked")
            continue
        place = f"rank {at.rank}{' (tied)' if at.tied else ''} of {at.ranked}"
        gap = f", {difference_text(at.behind)} to the leader" if at.behind else ""
        lines.append(f"{of}: {place}, {metric_text(at.metric)} {score_text(at.score)}{gap}")
    return lines


def positions_document(sweep: str, name: str, found: Sequence[Position], report: Path) -> dict[str, Any]:
    """The same for scripts."""
    rows = [asdict(at) for at in found]
    return {"schema": "harness.score/1", "name": name, "sweep": sweep, "rows": rows, "report": str(report)}
