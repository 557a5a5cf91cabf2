"""Who is ranked against whom, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.labels import BUILTIN, LabelMap
from harness.config.spec import Split
from harness.files import read_json, write_json
from harness.report.boards import Board, flags, group_boards, yardstick_boards
from harness.report.queries import Sweep, read_sweep
from harness.report.trust import class_interval
from tests.report.factory import Cohort, SweepFolder

TWO = LabelMap(name="two", classes={"tumor": (1,), "other": (2, 3, 4, 5, 6, 7)})
# Truth: 8 pixels of id 1, 4 of id 2. Rows are source ids 0..7, columns tumor, other.
GOOD = [[0, 0], [6, 2], [1, 3], *[[0, 0]] * 5]
WORSE = [[0, 0], [4, 4], [1, 3], *[[0, 0]] * 5]
BEST = [[0, 0], [8, 0], [0, 4], *[[0, 0]] * 5]


def ranks(board: Board) -> dict[str, int | None]:
    return {row.trial.uid: row.rank for row in board.rows}


def test_scores_and_ranks_of_a_case_worked_out_by_hand(tmp_path: Path) -> None:
    """IoU of GOOD: tumor 6/9, other 3/6, mean 7/12; of WORSE: tumor 4/9, other 3/8."""
    folder = SweepFolder(tmp_path)
    folder.trial(labels=TWO, matrix=WORSE, uid="worse")
    folder.trial(labels=TWO, matrix=GOOD, uid="good")
    (board,) = group_boards(read_sweep(folder.path))
    assert ranks(board) == {"good": 1, "worse": 2}
    good, worse = board.rows
    assert good.score == pytest.approx(7 / 12, abs=1e-15)
    assert good.scores["val/dice"] == pytest.approx((0.8 + 2 / 3) / 2, abs=1e-15)
    assert worse.score == pytest.approx((4 / 9 + 3 / 8) / 2, abs=1e-15)
    assert worse.behind == pytest.approx((4 / 9 + 3 / 8) / 2 - 7 / 12, abs=1e-15)


def test_scores_come_from_the_matrices_not_from_result_json(tmp_path: Path) -> None:
    """A result.json that claims more than its matrices give changes nothing."""
    folder = SweepFolder(tmp_path)
    folder.trial(labels=TWO, matrix=GOOD, result={"scores": {"val/iou": 0.99}, "objective": {"value": 0.99}})
    (board,) = group_boards(read_sweep(folder.path))
    assert board.rows[0].score == pytest.approx(7 / 12)


def test_equal_scores_share_a_rank_and_the_next_rank_is_left_out(tmp_path: Path) -> None:
    """1, 2, 2, 4; both tied rows say so."""
    folder = SweepFolder(tmp_path)
    for uid, matrix in (("a", BEST), ("b", GOOD), ("c", GOOD), ("d", WORSE)):
        folder.trial(labels=TWO, matrix=matrix, uid=uid)
    sweep = read_sweep(folder.path)
    (board,) = group_boards(sweep)
    assert ranks(board) == {"a": 1, "b": 2, "c": 2, "d": 4}
    assert [flags(row, sweep)[0] for row in board.rows] == ["one seed", "tied at 2", "tied at 2", "one seed"]


def test_a_minimised_objective_ranks_the_smallest_first(tmp_path: Path) -> None:
    """`goal: minimize` turns the order around."""
    folder = SweepFolder(tmp_path, space={"objective": {"metric": "val/iou", "goal": "minimize"}})
    folder.trial(labels=TWO, matrix=GOOD, uid="good")
    folder.trial(labels=TWO, matrix=WORSE, uid="worse")
    assert ranks(group_boards(read_sweep(folder.path))[0]) == {"worse": 1, "good": 2}


@pytest.mark.parametrize("state", ["pruned", "failed", "running", "waiting"])
def test_only_complete_trials_rank(tmp_path: Path, state: str) -> None:
    """A trial in another state stays off the boards even when its scores lie in its folder."""
    folder = SweepFolder(tmp_path)
    folder.trial(uid="done")
    uid = folder.trial(uid="other")
    trial_file = folder.path / "trials" / uid / "trial.json"
    write_json(trial_file, read_json(trial_file) | {"state": state})
    assert ranks(group_boards(read_sweep(folder.path))[0]) == {"done": 1}


def test_label_maps_with_the_same_ids_share_a_board_whatever_they_are_called(tmp_path: Path) -> None:
    """Ids make a group, not names."""
    renamed = LabelMap(name="mine", classes={"a": (1, 3), "b": (2, 6), "c": (4, 5, 7)})
    folder = SweepFolder(tmp_path)
    folder.trial(labels="unicorn3")
    folder.trial(labels=renamed)
    (board,) = group_boards(read_sweep(folder.path))
    assert (board.title, len(board.rows)) == ("mine = unicorn3", 2)


def test_other_ids_make_another_board_and_meet_on_the_yardstick_only(tmp_path: Path) -> None:
    """7 against 3 classes: two boards by IoU, one by the yardstick."""
    folder = SweepFolder(tmp_path)
    folder.trial(labels="tiger7", uid="seven", error=0.2)
    folder.trial(labels="unicorn3", uid="three", error=0.6)
    sweep = read_sweep(folder.path)
    assert [ranks(board) for board in group_boards(sweep)] == [{"seven": 1}, {"three": 1}]
    (board,) = yardstick_boards(sweep)
    assert ranks(board) == {"seven": 1, "three": 2}


def changed_split() -> Cohort:
    class Other(Cohort):
        @property
        def split(self) -> Split:
            return Split(train=("t1",), validation=("p0", "p1", "p2"))

    return Other()


def changed_mask() -> Cohort:
    cohort = Cohort()
    cohort.masks[0][0, 0] = 1 + cohort.masks[0][0, 0] % 7
    return cohort


@pytest.mark.parametrize("other", [changed_split(), changed_mask(), Cohort(data_hash="other"), Cohort(rois=5)])
def test_other_validation_pixels_never_share_a_board(tmp_path: Path, other: Cohort) -> None:
    """A changed split, one changed mask pixel, other data, a missing ROI: each is a group of its own."""
    folder = SweepFolder(tmp_path)
    folder.trial(uid="here")
    folder.trial(uid="there", cohort=other)
    sweep = read_sweep(folder.path)
    for boards in (group_boards(sweep), yardstick_boards(sweep)):
        assert sorted(tuple(ranks(board)) for board in boards) == [("here",), ("there",)]
        assert all(board.rows[0].rank == 1 for board in boards)
        assert {board.validation_set for board in boards} == {"A", "B"}


def test_training_factors_rank_on_one_board(tmp_path: Path) -> None:
    """Patch size, patch filter and architecture do not split a group."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet", "patches": "all", "patch_px": 128})
    folder.trial({"architecture": "unet_plain", "patches": "non_homogeneous", "patch_px": 512})
    (board,) = group_boards(read_sweep(folder.path))
    assert sorted(row.rank or 0 for row in board.rows) == [1, 2]


def test_rows_without_a_yardstick_stand_unranked_behind_the_others(tmp_path: Path) -> None:
    """A class that holds ids of stroma and rest has no yardstick: rank None, never 0 or last."""
    folder = SweepFolder(tmp_path)
    folder.trial(labels=TWO, uid="na", error=0.0)
    folder.trial(labels="unicorn3", uid="some", error=0.9)
    (board,) = yardstick_boards(read_sweep(folder.path))
    assert ranks(board) == {"some": 1, "na": None}


def with_replicates(tmp_path: Path, seeds: int) -> Sweep:
    """`lucky` is best in the search; `steady` is second and was trained again."""
    folder = SweepFolder(tmp_path)
    folder.trial(uid="lucky", labels=TWO, matrix=BEST)
    folder.trial(uid="steady", labels=TWO, matrix=WORSE)
    for seed in range(seeds):
        folder.trial(labels=TWO, matrix=[GOOD, BEST, GOOD][seed], replicate_of="steady", seed=100 + seed)
    return read_sweep(folder.path)


def test_three_fresh_seeds_rank_first_by_their_mean_without_the_search_run(tmp_path: Path) -> None:
    """Mean of 7/12, 1 and 7/12 is 13/18; the SD over seeds is 5/12 divided by the root of 3."""
    (board,) = group_boards(with_replicates(tmp_path, 3))
    assert ranks(board) == {"steady": 1, "lucky": 2}
    assert board.rows[0].score == pytest.approx(13 / 18)
    assert board.rows[0].seed_sd == pytest.approx(5 / 12 / 3**0.5)
    assert board.rows[1].behind == pytest.approx(5 / 18)


def test_fewer_than_three_seeds_leave_the_search_score_flagged_one_seed(tmp_path: Path) -> None:
    """Two fresh seeds change no rank."""
    sweep = with_replicates(tmp_path, 2)
    (board,) = group_boards(sweep)
    assert ranks(board) == {"lucky": 1, "steady": 2}
    assert all("one seed" in flags(row, sweep) for row in board.rows)


def test_mixed_devices_and_enlarged_rois_are_visible(tmp_path: Path) -> None:
    """Two devices in a group are counted; a ROI smaller than a patch is flagged with the number of ROIs."""
    folder = SweepFolder(tmp_path)
    folder.trial(device="cpu", result={"lr_cuts": 2, "stopped_early": True})
    folder.trial(device="NVIDIA A100")
    sweep = read_sweep(folder.path)
    (board,) = group_boards(sweep)
    assert board.devices == {"cpu": 1, "NVIDIA A100": 1}
    first = next(row for row in board.rows if row.trial.device == "cpu")
    assert flags(first, sweep) == ("one seed", "1 of 6 ROIs enlarged", "rate cut 2 times", "stopped early")


def test_a_class_absent_from_the_truth_is_left_out_of_every_mean(tmp_path: Path) -> None:
    """Without id 5 there is no necrosis: n/a for it, and a macro mean over the other six."""
    cohort = Cohort(ids=(0, 1, 2, 3, 4, 6, 7))
    folder = SweepFolder(tmp_path, cohort=cohort)
    folder.trial(labels=BUILTIN["tiger7"])
    (board,) = group_boards(read_sweep(folder.path))
    scores = board.rows[0].scores
    present = [scores[f"val/iou_{name}"] for name in BUILTIN["tiger7"].classes if name != "necrosis"]
    assert scores["val/iou_necrosis"] is None
    assert scores["val/iou"] == pytest.approx(sum(value or 0 for value in present) / 6)


@pytest.mark.parametrize(
    ("seeds", "other_error", "said", "wins"),
    [(3, 0.6, (), True), (2, 0.6, (), False), (3, 0.1, (), False), (3, 0.6, ("batch in 2 parts",), False)],
    ids=["wins", "two seeds", "not told apart", "batch in parts"],
)
def test_the_badge_needs_fresh_seeds_a_clear_gap_and_whole_batches(
    tmp_path: Path, seeds: int, other_error: float, said: tuple[str, ...], wins: bool
) -> None:
    """Sixteen patients; the leader is wrong on a tenth of the pixels, the other on more than half, or on as many."""
    cohort = Cohort(rois=16, patients=16)
    folder = SweepFolder(tmp_path, cohort=cohort)
    folder.trial(uid="best", error=0.1, result={"flags": list(said)})
    for seed in range(seeds):
        folder.trial(uid=f"best.s{seed}", error=0.1, replicate_of="best", seed=100 + seed)
    folder.trial(uid="other", error=other_error)
    sweep = read_sweep(folder.path)
    (board,) = group_boards(sweep)
    assert ["winner" in flags(row, sweep) for row in board.rows] == [wins, False]


def test_a_row_of_one_seed_is_compared_as_if_another_would_move_it(tmp_path: Path) -> None:
    """Three seeds that scatter by 8 % of the pixels: the rival's difference holds that twice, its own interval not."""
    folder = SweepFolder(tmp_path, cohort=Cohort(rois=16, patients=16))
    folder.trial(uid="best", error=0.1)
    for seed, error in enumerate((0.02, 0.1, 0.18)):
        folder.trial(uid=f"best.s{seed}", error=error, replicate_of="best", seed=100 + seed)
    folder.trial(uid="other", error=0.15)
    (board,) = group_boards(read_sweep(folder.path))
    best, other = board.rows
    assert best.seed_sd is not None and other.trust.gap is not None and other.trust.interval is not None
    assert other.trust.interval == class_interval(other.runs, "val/iou")
    assert best.trust.interval is not None and best.trust.interval != class_interval([best.scored], "val/iou")
    # At least Student's quantile for infinitely many degrees of freedom, by the seeds' variance alone.
    least = 1.96 * best.seed_sd * (1 / 3 + 1) ** 0.5
    assert other.trust.gap.high - other.trust.gap.value > least
    assert other.trust.told_apart is False


def test_a_single_row_beats_nobody_and_gets_no_badge(tmp_path: Path) -> None:
    """Three fresh seeds, and nothing to be told from."""
    folder = SweepFolder(tmp_path)
    folder.trial(uid="only")
    for seed in range(3):
        folder.trial(uid=f"only.s{seed}", replicate_of="only", seed=100 + seed)
    (board,) = group_boards(read_sweep(folder.path))
    assert [row.wins for row in board.rows] == [False]
