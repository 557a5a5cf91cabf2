"""Ten situations that a page must tell right, sentence by sentence; the scores follow from matrices made by hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from harness.files import write_json
from harness.report.page import write_report
from harness.report.queries import read_sweep
from tests.report.factory import Cohort, SweepFolder, read_json
from tests.report.pages import Page, sentences

# Source ids by tumor, stroma, rest. IoU 8/10, 10/12 and 1: .878. Dice of tumor 16/18, of stroma 20/22: yardstick .899.
GOOD = [[0, 0, 0], [8, 2, 0], [0, 10, 0], [0, 0, 0], [0, 0, 10], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
# IoU 5/10, 10/15 and 1: .722, which is .156 less.
FAIR = [[0, 0, 0], [5, 5, 0], [0, 10, 0], [0, 0, 0], [0, 0, 10], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
RANKS = "Read with care: one seed a run, 1 validation patient, which is few (below 15)"


def told(folder: SweepFolder, out: Path) -> str:
    """The page's words."""
    page = Page(write_report(read_sweep(folder.path), out).read_text(encoding="utf-8"))
    assert page.balanced
    return sentences(page)


def rows(out: Path, name: str = "small") -> list[dict[str, str]]:
    """leaderboard.csv beside the page."""
    with (out / name / "leaderboard.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_trial_leads_nobody_and_was_picked_from_nothing(tmp_path: Path) -> None:
    """One score, no difference, no claim that it is the best of several."""
    folder = SweepFolder(tmp_path)
    folder.trial(matrix=GOOD)
    text = told(folder, tmp_path / "reports")
    assert "For unicorn3, unet (unicorn3 #1) leads with IoU 0.878 (no other completed run to compare it with)." in text
    assert f"{RANKS}, and no interval, which needs every class in two patients." in text
    assert "IoU of each model in each stratum: one completed run each" in text
    assert "picked" not in text.split("Leaderboards", 2)[1] and "ahead of" not in text
    assert "1 trial," in text and "1 run, 3 epochs, 12 s of training on cpu" in text
    assert [(row["rank"], row["scores.iou"][:6]) for row in rows(tmp_path / "reports")] == [("1", "0.8777")]


def test_all_failed_is_told_by_cause_and_nothing_ranks(tmp_path: Path) -> None:
    """Counts, causes and messages; no board, no section on classes."""
    folder = SweepFolder(tmp_path)
    folder.trial(state="failed", cause="out_of_memory", message="CUDA out of memory at batch 32")
    folder.trial(state="failed", cause="nan", message="loss is not finite in epoch 2")
    text = told(folder, tmp_path / "reports")
    assert (
        "No trial has completed (2 failed), so nothing can be ranked. Failures: out of memory (1) and nan (1)." in text
    )
    assert "Nothing has completed, so there is nothing to rank." in text
    assert "CUDA out of memory at batch 32" in text and "loss is not finite in epoch 2" in text
    assert "Classes and centres" not in text and "leads" not in text and "Read with care" not in text
    assert [row["rank"] for row in rows(tmp_path / "reports")] == ["", ""]


def test_one_patient_is_named_as_one(tmp_path: Path) -> None:
    """The winner and the margin stand; the caveat counts the single patient."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet", "patch_px": 128}, matrix=GOOD)
    folder.trial({"architecture": "unet_plain", "patch_px": 64}, matrix=FAIR)
    text = told(folder, tmp_path / "reports")
    assert (
        "For unicorn3, unet (unicorn3 #1: 128 px) leads with IoU 0.878, 0.156 ahead of unet_plain (unicorn3 #2: 64 px)."
        in text
    )
    silent = "and no interval, which needs every class in two patients."
    assert f"{RANKS}, the best of 2 completed runs picked on the same patients, {silent}" in text
    assert "Leaderboard: unicorn3 (1 ROI of 1 patient)" in text


def test_an_absent_class_is_named_and_left_out_of_the_mean(tmp_path: Path) -> None:
    """Without a pixel of rest the mean is over tumor .8 and stroma .833; n/a is not zero."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet"}, matrix=[*GOOD[:4], [0, 0, 0], *GOOD[5:]])
    folder.trial({"architecture": "unet_plain"}, matrix=[*FAIR[:4], [0, 0, 0], *FAIR[5:]])
    text = told(folder, tmp_path / "reports")
    assert "leads with IoU 0.817, 0.233 ahead of" in text
    assert text.count("Without a true pixel, and so left out of the means: rest.") == 1
    assert "rest no pixel in the truth00.0n/an/an/a" in text
    assert [row["scores.iou_rest"] for row in rows(tmp_path / "reports")] == ["", ""]


def test_ties_share_a_rank_and_none_is_said_to_lead(tmp_path: Path) -> None:
    """Two at 1=, the next at 3."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet"}, matrix=GOOD)
    folder.trial({"architecture": "unet_plain"}, matrix=GOOD)
    folder.trial({"architecture": "attention_unet"}, matrix=FAIR)
    text = told(folder, tmp_path / "reports")
    assert "For unicorn3, 2 runs tie at IoU 0.878: unet (unicorn3 #1) and unet_plain (unicorn3 #2)." in text
    assert "Rows with exactly equal scores share a rank." in text and "leads" not in text
    assert [row["rank"] for row in rows(tmp_path / "reports")] == ["1", "1", "3"]


def test_a_run_that_diverged_has_no_score_and_takes_no_rank(tmp_path: Path) -> None:
    """NaN stands among the failed with its message, never as a number."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet"}, matrix=GOOD)
    folder.trial({"architecture": "unet_plain"}, state="failed", cause="nan", message="loss is not finite in epoch 2")
    text = told(folder, tmp_path / "reports")
    assert "leads with IoU 0.878 (no other completed run to compare it with)." in text
    assert "loss is not finite in epoch 2" in text and "failed nan" in text
    found = rows(tmp_path / "reports")
    assert [(row["rank"], row["state"], row["flags"]) for row in found][1] == ("", "failed", "nan")
    assert all(value.lower() != "nan" for row in found for key, value in row.items() if key.startswith("scores."))


def test_a_score_that_does_not_exist_is_na_and_ranks_nobody(tmp_path: Path) -> None:
    """Validation without a labelled pixel: no leader, no caveat about picking one, no 0.000."""
    folder = SweepFolder(tmp_path, cohort=Cohort(ids=(0,)))
    folder.trial({"architecture": "unet"})
    folder.trial({"architecture": "unet_plain"})
    text = told(folder, tmp_path / "reports")
    assert "For unicorn3, no run has the score IoU." in text and "Read with care" not in text
    assert "No run can be ranked by the yardstick: unicorn3: no tumor or no stroma." in text
    assert "Rows without this score (n/a) stand unranked." in text
    assert "No run has a score, so there is no best run to look into." in text
    assert [row["rank"] for row in rows(tmp_path / "reports")] == ["", ""]


def test_only_pruned_runs_make_no_winner(tmp_path: Path) -> None:
    """Their last epochs are told; the sweep counts as finished."""
    folder = SweepFolder(tmp_path)
    folder.trial(state="pruned", pruned_epoch=2)
    folder.trial({"architecture": "unet_plain"}, state="pruned", pruned_epoch=1)
    text = told(folder, tmp_path / "reports")
    assert "No trial has completed (2 pruned), so nothing can be ranked." in text
    assert "behind its peers at this epoch" in text and "not finished" not in text and "Failures" not in text


def test_sweeps_of_one_name_are_never_mixed(tmp_path: Path) -> None:
    """Two homes, and two generations of one: each page has its own rows; the same folder holds the last written."""
    first, second = SweepFolder(tmp_path / "a"), SweepFolder(tmp_path / "b")
    first.trial({"architecture": "unet"}, matrix=GOOD, uid="ours")
    second.trial({"architecture": "unet_plain"}, matrix=FAIR, uid="theirs")
    apart = [told(folder, tmp_path / "reports" / name) for folder, name in ((first, "a"), (second, "b"))]
    assert "unet_plain" not in apart[0] and "leads with IoU 0.878" in apart[0]
    assert "unet_plain" in apart[1] and "leads with IoU 0.722" in apart[1]
    later = first.path.with_name("g2")
    first.path.rename(later)
    write_json(later / "space.json", read_json(later / "space.json") | {"generation": 2})
    first.path = later
    for folder, generation, uid in ((second, 1, "theirs"), (first, 2, "ours")):
        text = told(folder, tmp_path / "reports")
        assert f"Sweep report, generation {generation}, 1 trial" in text
        assert [row["trial"] for row in rows(tmp_path / "reports")] == [uid]
        assert f"/{folder.path.parent.parent.parent.name}/sweeps/small/g{generation}/trials/{uid}/" in (
            tmp_path / "reports" / "small" / "index.html"
        ).read_text(encoding="utf-8")


def external(folder: SweepFolder, name: str, matrix: list[list[int]]) -> None:
    """A row of `harness score`: a trial's folder without a spec, events or weights."""
    uid = folder.trial(matrix=matrix, uid=name)
    trial, row = folder.path / "trials" / uid, folder.path / "external" / uid
    row.mkdir(parents=True)
    data = {"hash": folder.cohort.data_hash, "split": folder.cohort.split.model_dump(mode="json")}
    said = read_json(trial / "trial.json") | {"external": name, "stratum": "", "number": 0, "data": data}
    write_json(row / "trial.json", said | {"parameters": {"labels": "unicorn3"}})
    for file in ("scores.json", "result.json"):
        (trial / file).rename(row / file)
    for file in sorted(trial.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    trial.rmdir()


def test_masks_of_another_tool_rank_but_count_as_no_trial(tmp_path: Path) -> None:
    """The row leads under its name, marked; trials, cost and the number of runs it was picked from leave it out."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet"}, matrix=FAIR)
    external(folder, "nnunet", GOOD)
    text = told(folder, tmp_path / "reports")
    won = "For unicorn3, nnunet (masks of another tool) leads with IoU 0.878, 0.156 ahead of unet (unicorn3 #1)."
    assert won in text
    assert "generation 1, 1 trial" in text and "1 run, 3 epochs, 12 s of training" in text
    assert "not trained here" in text
    found = {row["trial"]: row["rank"] for row in rows(tmp_path / "reports")}
    assert found == {"nnunet": "1", "u001": "2"}


def test_three_hundred_trials_are_all_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every complete run is a row of its board with the right rank; pruned and failed ones are counted and listed."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # 2,400 files: 6 s
    folder = SweepFolder(tmp_path)
    for number in range(300):
        hits = number % 100  # three runs to every score
        said = {0: "pruned", 1: "failed"}.get(number % 30, "complete")
        matrix = [[0, 0, 0], [100 - hits, hits, 0], [0, 100, 0], [0, 0, 0], [0, 0, 100], *[[0, 0, 0]] * 3]
        folder.trial({"architecture": "unet", "learning_rate": 1e-4 + number * 1e-6}, state=said, matrix=matrix)
    text = told(folder, tmp_path / "reports")
    first, second = "unet (unicorn3 #101: lr 2e-4)", "unet (unicorn3 #201: lr 3e-4)"
    assert f"For unicorn3, 2 runs tie at IoU 1.000: {first} and {second}." in text
    assert "300 runs, 900 epochs, 60.0 min of training on cpu" in text
    assert "Training time unicorn3280101000900" in text
    assert "the best of 280 completed runs picked on the same patients" in text
    found = rows(tmp_path / "reports")
    assert sorted(row["state"] for row in found).count("complete") == 280 and len(found) == 300
    ranked = sorted((int(row["rank"]), -float(row["scores.iou"])) for row in found if row["rank"])
    assert len(ranked) == 280 and [score for _, score in ranked] == sorted(score for _, score in ranked)
