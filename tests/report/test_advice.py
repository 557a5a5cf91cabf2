"""What to try next: each advice appears where its figures are, and nowhere else."""

from __future__ import annotations

from pathlib import Path

from harness.report.advice import Advice, advice
from harness.report.boards import group_boards
from harness.report.queries import read_sweep
from tests.report.factory import Cohort, SweepFolder

LAST = {"flags": ["best epoch is the last"]}


def given(folder: SweepFolder) -> dict[str, str]:
    sweep = read_sweep(folder.path)
    return {one.what: one.why for one in advice(sweep, group_boards(sweep))}


def many_patients() -> Cohort:
    """15 patients, of whom every class of three is seen well."""
    return Cohort(rois=15, patients=15, ids=(1, 2, 4))


def test_a_clean_sweep_is_only_told_to_repeat_its_first_two(tmp_path: Path) -> None:
    """A learning rate inside of its range, enough patients, no weak class, best epochs in the middle."""
    folder = SweepFolder(tmp_path, cohort=many_patients())
    for rate, error in ((1e-4, 0.4), (1e-3, 0.1), (1e-2, 0.3)):
        folder.trial({"architecture": "unet", "learning_rate": rate}, error=error)
    assert list(given(folder)) == ["Train the first two again with other seeds"]


def test_the_largest_value_that_leads_is_an_edge(tmp_path: Path) -> None:
    """128 px leads: larger was not tried. The smaller of two that leads is an edge, too."""
    folder = SweepFolder(tmp_path, cohort=many_patients())
    for px, rate, error in ((64, 1e-4, 0.4), (128, 1e-4, 0.1), (128, 1e-3, 0.3)):
        folder.trial({"patch_px": px, "learning_rate": rate}, error=error)
    told = given(folder)
    assert told["Try patch px above 128"] == "the largest tried leads of 2 values tried"
    assert told["Try learning rate below 1e-4"] == "the smallest tried leads of 2 values tried"


def test_an_edge_counts_only_when_every_board_agrees(tmp_path: Path) -> None:
    """128 px leads on one label map and 64 px on the other: nothing is said."""
    folder = SweepFolder(tmp_path, cohort=many_patients())
    for labels, px, error in (("tiger7", 64, 0.1), ("tiger7", 128, 0.4), ("unicorn3", 64, 0.4), ("unicorn3", 128, 0.1)):
        folder.trial({"patch_px": px}, labels=labels, error=error)
    assert not any("patch px" in what for what in given(folder))


def test_runs_that_were_best_at_their_last_epoch_were_too_short(tmp_path: Path) -> None:
    """2 of 3 leading runs; one of three would be no reason."""
    for name, late, told in (("most", 2, True), ("few", 1, False)):
        folder = SweepFolder(tmp_path / name, cohort=many_patients())
        for number in range(3):
            folder.trial({"learning_rate": 1e-3 * (number + 1)}, draw=number, result=LAST if number < late else {})
        assert given(folder).get("Train longer") == (
            "2 of 3 leading runs were best at the last epoch (3)" if told else None
        )


def test_failures_are_advised_by_their_cause(tmp_path: Path) -> None:
    """Memory, divergence with the lowest rate that diverged, and the rest by name."""
    folder = SweepFolder(tmp_path, cohort=many_patients())
    folder.trial({"learning_rate": 1e-3})
    folder.trial({"learning_rate": 1e-3}, state="failed", cause="out_of_memory")
    folder.trial({"learning_rate": 0.3}, state="failed", cause="nan")
    folder.trial({"learning_rate": 0.1}, state="failed", cause="nan")
    folder.trial({"learning_rate": 1e-3}, state="failed", cause="data")
    told = given(folder)
    assert told["Halve the batch or the patch"] == "1 run ran out of memory"
    assert told["Lower the learning rate"] == "2 runs diverged, at learning rates of 0.1 and more"
    assert told["Mend what failed"].startswith("data (1);")


def test_a_class_far_below_the_mean_is_named_with_its_share(tmp_path: Path) -> None:
    """Rest: 1 of 10 true pixels is right, 10 of 210 pixels; tumor and stroma are perfect."""
    folder = SweepFolder(tmp_path)
    rows = [[0, 0, 0], [100, 0, 0], [0, 100, 0], *[[0, 0, 0]] * 4, [9, 0, 1]]
    folder.trial(matrix=rows)
    told = given(folder)
    iou = 1 / 10
    assert told["Give rest more weight (sampling, class_weights)"] == (
        f"its IoU is {iou:.3f} in the leader of unicorn3, at 4.8 % of the true pixels"
    )
    assert told["Validate on more patients"] == "scores rest on 1 patient, so one more could reorder near equals"


def test_a_sweep_without_a_completed_run_has_only_failures_to_mend(tmp_path: Path) -> None:
    """No board, no other advice."""
    folder = SweepFolder(tmp_path)
    folder.trial(state="failed", cause="error")
    sweep = read_sweep(folder.path)
    assert advice(sweep, ()) == (Advice("Mend what failed", "error (1); the messages stand under “Pruned and failed”"),)
