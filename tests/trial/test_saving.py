"""When an attempt's words and states are forced to disk, and what is found after a kill or a loss of power."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from harness.checkpoint import Checkpoint, Progress
from harness.trial.folder import Attempt
from harness.trial.saving import Saving, newest_state
from tests.faults.steps import Point, Steps

SPEC = "the spec"


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    folder = tmp_path / "attempts it's" / "1"
    folder.mkdir(parents=True)
    return Attempt(folder)


@pytest.fixture
def forced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were forced to disk; the real fsync is still called."""
    names, real = list[str](), os.fsync

    def fsync(descriptor: int) -> None:
        names.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def state(epoch: int) -> Checkpoint:
    """A checkpoint whose only weight is its epoch."""
    progress = Progress(epoch=epoch, history=[{"val/iou": 0.1 + 0.2}] * epoch, patients=[{"P": [[epoch]]}] * epoch)
    return Checkpoint(progress, {"w": torch.tensor([float(epoch)])}, None, {}, None, {})


def trained(saving: Saving, *epochs: int, keep: bool = False) -> None:
    """These epochs end."""
    for epoch in epochs:
        saving.event({"event": "epoch", "epoch": epoch})
        saving.checkpoint(state(epoch), fingerprint=SPEC, keep=keep)


def found(attempt: Attempt) -> int | None:
    """The epoch from which the next attempt would go on."""
    newest = newest_state(attempt, fingerprint=SPEC)
    return None if newest is None else newest.progress.epoch


def test_an_epoch_as_long_as_the_pace_is_forced_to_disk(attempt: Attempt, forced: list[str]) -> None:
    """Event, checkpoint and folder, each time; nothing lies beside the checkpoint."""
    saving = Saving(attempt, every_s=0.0)
    trained(saving, 1, 2)
    assert forced.count("events.jsonl") == 2
    assert len(forced) == 6
    assert found(attempt) == 2
    assert not attempt.settled.exists()


def test_faster_epochs_are_written_but_not_forced(attempt: Attempt, forced: list[str]) -> None:
    """The first is; a kill after the fourth finds the fourth, and its event."""
    saving = Saving(attempt, every_s=3600.0)
    trained(saving, 1, 2, 3, 4)
    assert len(forced) == 3
    assert found(attempt) == 4
    assert [event["epoch"] for event in attempt.read_events()] == [1, 2, 3, 4]


@pytest.mark.parametrize("lost", ["half of the checkpoint", "all of the checkpoint", "events"])
def test_a_loss_of_power_goes_back_to_what_was_forced(attempt: Attempt, lost: str) -> None:
    """Not to the start; and not to an epoch of which no event tells, since nothing would tell it again."""
    saving = Saving(attempt, every_s=3600.0)
    trained(saving, 1)
    events = attempt.events.read_bytes()
    trained(saving, 2, 3)
    if lost == "events":
        attempt.events.write_bytes(events)
    else:
        whole = attempt.checkpoint.read_bytes()
        attempt.checkpoint.write_bytes(whole[: len(whole) // 2] if lost.startswith("half") else b"")
    assert found(attempt) == 1


def killed_before(step: Point, folder: Path) -> None:
    """Train three epochs in a process that dies before a step."""
    Steps(folder, at=step).install()
    trained(Saving(Attempt(folder), every_s=3600.0), 1, 2, 3)


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (Point(r"rename checkpoint\.earlier\.pt", 2), 2),
        (Point(r"rename checkpoint\.pt", 3), 2),  # between the two: the state before made way already
        (Point(r"remove checkpoint\.earlier\.pt", 2), 3),
    ],
)
def test_a_kill_while_names_change_finds_the_last_whole_state(attempt: Attempt, step: Point, left: int) -> None:
    """By a real SIGKILL at each step of the third epoch; who goes on there does not mind what was left."""
    child = multiprocessing.get_context("spawn").Process(target=killed_before, args=(step, attempt.path))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert found(attempt) == left
    trained(Saving(attempt, every_s=3600.0), 4, 5)
    assert (found(attempt), attempt.states) == (5, [attempt.checkpoint, attempt.settled])


@pytest.mark.parametrize("end", ["stopped", "paused", "failed"])
def test_an_end_to_go_on_from_forces_the_last_state(attempt: Attempt, forced: list[str], end: str) -> None:
    """Events first, then the checkpoint and its folder; the older state goes."""
    saving = Saving(attempt, every_s=3600.0)
    trained(saving, 1, 2)
    forced.clear()
    saving.event({"event": "finished", "state": end})
    assert forced == ["events.jsonl", "checkpoint.pt", attempt.path.name]
    assert found(attempt) == 2
    assert not attempt.settled.exists()


def test_a_kept_epoch_is_forced_with_its_event_first(attempt: Attempt, forced: list[str]) -> None:
    """A second name for a whole file, whatever follows."""
    saving = Saving(attempt, every_s=3600.0)
    trained(saving, 1)
    forced.clear()
    trained(saving, 2, keep=True)
    assert forced[0] == "events.jsonl"
    trained(saving, 3)
    (kept,) = attempt.kept_epochs()
    assert (kept.name, found(attempt)) == ("2.pt", 3)
    assert float(torch.load(kept, weights_only=True)["model"]["w"]) == 2.0


def test_without_links_every_epoch_is_forced(
    attempt: Attempt, forced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network file systems."""

    def refused(*args: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refused)
    saving = Saving(attempt, every_s=3600.0)
    trained(saving, 1, 2, 3)
    assert len(forced) == 9
    assert found(attempt) == 3


def test_numbers_come_back_as_they_were(attempt: Attempt) -> None:
    """To the last digit, after every epoch of a training whose earlier epochs are not turned into text again."""
    saving, training = Saving(attempt), state(0)
    progress = training.progress
    for epoch in (1, 2, 3):
        progress.epoch = epoch
        progress.history.append({"val/iou": 0.1 + 0.2 * epoch, "train/loss": 1e-300})
        progress.patients.append({"P": [[epoch, 2**53 + 1]]})
        progress.seconds.append(1 / 3)
        saving.checkpoint(training, fingerprint=SPEC, keep=False)
        newest = newest_state(attempt, fingerprint=SPEC)
        assert newest is not None and newest.progress == progress


def test_earlier_checkpoints_have_their_numbers_as_a_mapping(attempt: Attempt) -> None:
    """Until the text they were plain values to torch."""
    trained(Saving(attempt), 3)
    document = torch.load(attempt.checkpoint, weights_only=True)
    document["progress"] = {"epoch": 3, "history": [{"val/iou": 0.1 + 0.2}] * 3, "patients": [{"P": [[3]]}] * 3}
    torch.save(document, attempt.checkpoint)
    earlier = newest_state(attempt, fingerprint=SPEC)
    assert earlier is not None and earlier.progress == state(3).progress
