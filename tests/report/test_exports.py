"""The leaderboard's files: complete, and safe to open."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from harness.report.exports import leaderboard, leaderboard_csv, leaderboard_markdown
from harness.report.queries import Sweep, read_sweep
from harness.scores import read_scores, score_rois
from tests.report.factory import SweepFolder, read_json
from tests.report.hostile import FORMULA_STARTS, HOSTILE


def small(tmp_path: Path) -> Sweep:
    """One ranked trial with three replicates, one pruned, one failed."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet", "shift": -0.5}, uid="top")
    for seed in (101, 102, 103):
        folder.trial({"architecture": "unet", "shift": -0.5}, uid=f"r{seed}", replicate_of="top", seed=seed)
    folder.trial(uid="cut", state="pruned", pruned_epoch=2)
    folder.trial(uid="broken", state="failed", cause="nan")
    return read_sweep(folder.path)


def test_leaderboard_json_has_one_row_per_trial_and_ranks_only_search_runs(tmp_path: Path) -> None:
    """Replicates, pruned and failed trials have rank null; their trust is null, intervals are of every scored run."""
    document = leaderboard(small(tmp_path), tmp_path)
    rows = {row["trial"]: row for row in document["rows"]}
    assert document["schema"] == "harness.leaderboard/1"
    assert {uid: row["rank"] for uid, row in rows.items()} == {
        "top": 1, "r101": None, "r102": None, "r103": None, "cut": None, "broken": None,
    }  # fmt: skip
    assert rows["r102"]["replicate_of"] == "top" and rows["r102"]["group"] == rows["top"]["group"]
    assert rows["cut"]["group"] is None and rows["cut"]["scores"] == {}
    assert rows["broken"]["flags"] == ["nan"]
    low, high = rows["top"]["intervals"]["iou"]
    assert low < rows["top"]["scores"]["iou"] < high
    assert rows["cut"]["intervals"] is None and rows["r101"]["trust"] is None
    assert rows["top"]["trust"]["gap"] is None and rows["top"]["trust"]["told_apart"] is None
    assert set(rows["top"]) == {
        "group", "rank", "trial", "replicate_of", "external", "adopted_from", "stratum", "seed", "parameters", "scores",
        "intervals", "trust", "support", "state", "flags", "notes", "lr_cuts", "folder", "run_id",
    }  # fmt: skip


def test_a_trials_row_holds_its_own_scores_not_the_mean_over_seeds(tmp_path: Path) -> None:
    """Boards aggregate, rows do not."""
    sweep = small(tmp_path)
    row = next(row for row in leaderboard(sweep, tmp_path)["rows"] if row["trial"] == "top")

    own = score_rois(*read_scores(read_json(tmp_path / row["folder"] / "scores.json")))
    assert row["scores"] == {name.removeprefix("val/"): value for name, value in own.items()}


def test_csv_keeps_numbers_numbers_and_disarms_formulas(tmp_path: Path) -> None:
    """-0.5 stays -0.5; a name that starts with = + - @ tab or line end gets an apostrophe."""
    folder = SweepFolder(tmp_path)
    for name in HOSTILE:
        folder.trial({"architecture": "unet", "encoder_weights": name, "shift": -0.5}, state="pruned")
    rows = list(
        csv.DictReader(io.StringIO(leaderboard_csv(leaderboard(read_sweep(folder.path), tmp_path)), newline=""))
    )
    assert [row["parameters.shift"] for row in rows] == ["-0.5"] * len(HOSTILE)
    for name, row in zip(HOSTILE, rows, strict=True):
        expected = f"'{name}" if name[0] in FORMULA_STARTS else name
        assert row["parameters.encoder_weights"] == expected


def test_markdown_tables_keep_their_columns_whatever_the_names(tmp_path: Path) -> None:
    """Every line of a table has as many unescaped pipes as its head."""
    folder = SweepFolder(tmp_path)
    for name in HOSTILE:
        folder.trial({"architecture": "unet", "encoder_weights": name})
    tables = [block for block in leaderboard_markdown(read_sweep(folder.path)).split("\n\n") if block.startswith("|")]
    assert len(tables) == 2
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
