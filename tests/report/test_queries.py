"""Reading a sweep's folder, finished or not, whole or damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import BadInput
from harness.report.queries import read_sweep
from tests.report.factory import SweepFolder


def test_a_folder_that_is_no_sweep_is_a_bad_input_naming_it(tmp_path: Path) -> None:
    """The message says which file was looked for, and where."""
    with pytest.raises(BadInput, match=r"no space\.json here"):
        read_sweep(tmp_path)
    (tmp_path / "space.json").write_text("[1")
    with pytest.raises(BadInput, match=r"space\.json: not a sweep's description"):
        read_sweep(tmp_path)


def test_a_running_sweep_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    """A torn event, a trial without attempts and a folder still empty do not disturb the others."""
    folder = SweepFolder(tmp_path)
    folder.trial(uid="done")
    folder.trial(uid="running", state="running", epochs=(0.1, 0.2))
    folder.trial(uid="waiting", state="waiting")
    (folder.path / "trials" / "new").mkdir()
    with (folder.path / "trials/running/attempts/1/events.jsonl").open("a") as stream:
        stream.write('{"event": "epoch", "epo')
    sweep = read_sweep(folder.path)
    assert {trial.uid: (trial.state, len(trial.epochs)) for trial in sweep.trials} == {
        "done": ("complete", 3),
        "running": ("running", 2),
        "waiting": ("waiting", 0),
    }
    assert sweep.unfinished and sweep.problems == ()


def test_damaged_files_are_named_and_do_not_rank(tmp_path: Path) -> None:
    """Unreadable matrices take a trial off the boards; an unreadable trial.json takes the trial away."""
    folder = SweepFolder(tmp_path)
    for uid in ("good", "torn", "gone", "odd"):
        folder.trial(uid=uid)
    (folder.path / "trials/torn/scores.json").write_text('{"rois": [')
    (folder.path / "trials/gone/trial.json").write_text("")
    (folder.path / "trials/odd/attempts/1/events.jsonl").write_text("\0\0\n{}\n")
    sweep = read_sweep(folder.path)
    assert [trial.uid for trial in sweep.complete] == ["good", "odd"]
    assert [trial.uid for trial in sweep.trials] == ["good", "torn", "odd"]
    assert len(sweep.problems) == 3
    assert any("odd/attempts/1/events.jsonl" in problem for problem in sweep.problems)
    assert any("gone/trial.json" in problem for problem in sweep.problems)
    assert any("torn/scores.json" in problem for problem in sweep.problems)


def test_a_resumed_trial_has_one_curve_and_pays_for_every_epoch(tmp_path: Path) -> None:
    """Attempt 1 ran 3 epochs, attempt 2 went on from epoch 2: a curve of 4 epochs; 5 were paid for."""
    folder = SweepFolder(tmp_path)
    uid = folder.trial(epochs=(0.1, 0.2, 0.3), accepted_attempt=2)
    attempts = folder.path / "trials" / uid / "attempts"
    (attempts / "2").mkdir()
    lines = ['{"event": "started", "resumed_epoch": 2}']
    lines += [
        f'{{"event": "epoch", "epoch": {n}, "seconds": 1, "values": {{"val/iou": {v}}}}}'
        for n, v in ((3, 0.9), (4, 0.8))
    ]
    (attempts / "2" / "events.jsonl").write_text("\n".join(lines) + "\n")
    (trial,) = read_sweep(folder.path).trials
    assert [(epoch.number, epoch.values["val/iou"]) for epoch in trial.epochs] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.9),
        (4, 0.8),
    ]
    assert (trial.epochs_trained, trial.seconds_trained) == (5, 14.0)


def test_a_later_attempt_that_was_not_accepted_leaves_the_curve_alone(tmp_path: Path) -> None:
    """A fenced worker may still write; only the accepted attempt counts."""
    folder = SweepFolder(tmp_path)
    uid = folder.trial(epochs=(0.1, 0.2), accepted_attempt=1)
    late = folder.path / "trials" / uid / "attempts" / "2"
    late.mkdir()
    (late / "events.jsonl").write_text('{"event": "epoch", "epoch": 1, "seconds": 1, "values": {"val/iou": 0.9}}\n')
    (trial,) = read_sweep(folder.path).trials
    assert [epoch.values["val/iou"] for epoch in trial.epochs] == [0.1, 0.2]


def test_varying_parameters_are_those_that_differ(tmp_path: Path) -> None:
    """1 and 1.0 are one value; a parameter that only one trial has does vary; seeds are not parameters."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet", "patch_px": 64, "weight_decay": 1, "seed": 1})
    folder.trial({"architecture": "unet", "patch_px": 128, "weight_decay": 1.0, "encoder": "b0", "seed": 2})
    assert read_sweep(folder.path).varying == ("patch_px", "encoder")
