"""The table of rungs, by hand."""

from __future__ import annotations

from pathlib import Path

from harness.report.queries import read_sweep
from harness.report.rungs import rungs_table
from harness.report.wording import ABSENT
from tests.report.factory import SweepFolder

PRUNE = {"type": "rungs", "min_epochs": 1, "eta": 3}


def test_a_row_says_who_went_on_and_how_far_the_order_held(tmp_path: Path) -> None:
    """Twelve of which four went on: their order there, .1 .2 .3 .4, is theirs at the next rung but for one exchange of
    neighbours: Spearman's 1 - 6 * 2 / (4 * 15) = .8. Two of them ended, too few to judge the second rung by."""
    folder = SweepFolder(tmp_path, space={"prune": PRUNE})
    for number in range(8):
        folder.trial(state="pruned", pruned_epoch=1, rungs=[number / 100])
    for here, later in ((0.1, 0.2), (0.2, 0.1)):
        folder.trial(state="pruned", pruned_epoch=3, rungs=[here, later])
    for here, later in ((0.3, 0.3), (0.4, 0.4)):
        folder.trial(rungs=[here, later], result={"objective": {"metric": "val/iou", "value": later}})
    table = rungs_table(read_sweep(folder.path))
    assert [[cell.text for cell in row][1:] for row in table.rows] == [
        ["1", "epoch 1", "12", "4", "0.80"],
        ["2", "epoch 3", "4", "2", ABSENT],
    ]


def test_without_rungs_there_is_no_table(tmp_path: Path) -> None:
    """Nothing paused, nothing is drawn."""
    folder = SweepFolder(tmp_path)
    folder.trial()
    assert rungs_table(read_sweep(folder.path)).rows == ()
