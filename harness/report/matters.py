"""The section on what matters: which factors change the score, on every board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report import details, figures
from harness.report.answer import effect_sentences
from harness.report.boards import Board
from harness.report.queries import Sweep, Trial
from harness.report.render import Beside
from harness.report.statistics import Contrast, contrasts
from harness.report.tables import Table
from harness.report.wording import metric_text

# Contrasts drawn in one figure; all stand in the table.
DRAWN_EFFECTS = 12


@dataclass(frozen=True, slots=True)
class Effects:
    """What matters on one board."""

    board: Board
    sentences: tuple[str, ...]
    table: Table
    figure: Markup


def effects_of(
    sweep: Sweep, groups: Sequence[Board], yardstick: Sequence[Board], beside: Beside
) -> tuple[Effects, ...]:
    """The widest board first: by the yardstick over label maps where there are several, then every group."""
    across = [board for board in yardstick if len(board.label_maps) > 1]
    found = (_board_effects(board, sweep, beside) for board in (*across, *groups))
    return tuple(effects for effects in found if effects is not None)


def _board_effects(board: Board, sweep: Sweep, beside: Beside) -> Effects | None:
    by_yardstick = board.by_yardstick
    factors = [key for key in sweep.varying if by_yardstick or key != "labels"]
    minimize = sweep.minimize and not by_yardstick
    trials = [row.trial for row in board.rows if not row.trial.external]

    def score(trial: Trial) -> float | None:
        return trial.scored.scores.get(board.metric) if trial.scored else None

    found = contrasts(trials, factors, score, minimize=minimize)
    if not found:
        return None
    what = board.title
    metric = metric_text(board.metric)
    title = f"Paired differences in {metric}, {what}"
    largest: list[Contrast] = sorted(found, key=lambda c: (not c.visible, -c.pairs))[:DRAWN_EFFECTS]
    svg = figures.effects([c for c in found if c in largest], title=title, x_label=f"gain in {metric}, one dot a pair")
    return Effects(
        board=board,
        sentences=effect_sentences(found, sweep, board.metric),
        table=details.effects_table(found, what, board.metric),
        figure=beside.draw(f"effects-{board.key}.svg", svg),
    )
