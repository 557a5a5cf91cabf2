"""How often an attempt's words and states are forced to disk: after every epoch, but not more than once in ten seconds.

An epoch costs three fsyncs, 15 ms on an idle disk and 45 ms on a busy one, which is more than a small network's epoch
takes, and .1 s where the state has 100 MB. What is written survives a kill of the process at once and without an fsync,
so a kill still costs the running epoch only; a loss of power costs what was trained in the last ten seconds, too, and
finds the state before in `settled`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from harness.checkpoint import (
    Checkpoint,
    CheckpointUnreadable,
    load_checkpoint,
    save_checkpoint,
    save_unsettled,
)
from harness.files import fsync_file, fsync_folder
from harness.trial.folder import Attempt

SETTLE_EVERY_S = 10.0


class Saving:
    """Writes an attempt's events and checkpoints. `every_s`: how long epochs may go without an fsync."""

    def __init__(self, attempt: Attempt, *, every_s: float | None = None) -> None:
        self._attempt = attempt
        self._every_s = SETTLE_EVERY_S if every_s is None else every_s
        self._due = time.monotonic()  # when epochs are to be forced to disk again
        self._settling = True  # whether the present epoch is
        self._unsettled = False  # whether `checkpoint` is not

    def event(self, event: dict[str, Any]) -> None:
        """Append an event. All but those of epochs are forced to disk with what was appended before, and so is the last
        checkpoint by an end that the trial may go on from."""
        self._settling = event["event"] != "epoch" or time.monotonic() >= self._due
        self._attempt.append_event(event, settle=self._settling)
        if event["event"] == "finished" and event["state"] != "complete" and self._unsettled:
            fsync_file(self._attempt.checkpoint)
            fsync_folder(self._attempt.path)
            self._all_settled()

    def checkpoint(self, state: Checkpoint, *, fingerprint: str, keep: bool) -> None:
        """Save the state after the epoch of the last event; `keep`: by a second name, too."""
        file = self._attempt.checkpoint
        if self._settling or keep or not self._may_be_unsettled():
            if not self._settling:
                # Before the checkpoint: nothing tells an epoch again that a checkpoint has.
                fsync_file(self._attempt.events)
            save_checkpoint(file, state, fingerprint=fingerprint)
            self._all_settled()
        else:
            save_unsettled(file, state, earlier=self._attempt.earlier, fingerprint=fingerprint)
            self._unsettled = True
        if keep:
            self._attempt.keep_epoch(state.progress.epoch)

    def _all_settled(self) -> None:
        if self._unsettled:
            self._attempt.settled.unlink(missing_ok=True)
        self._unsettled, self._due = False, time.monotonic() + self._every_s

    def _may_be_unsettled(self) -> bool:
        """Whether a settled state stays when this one is written over it; false on a file system without links."""
        if self._unsettled or not self._attempt.checkpoint.exists():
            return self._unsettled
        self._attempt.settled.unlink(missing_ok=True)
        try:
            os.link(self._attempt.checkpoint, self._attempt.settled)
        except OSError:
            return False
        return True


def newest_state(attempt: Attempt, *, fingerprint: str) -> Checkpoint | None:
    """The newest readable checkpoint of an attempt whose epoch its events tell of, too; None when there is none."""
    for file in attempt.states:
        with suppress(CheckpointUnreadable):
            state = load_checkpoint(file, fingerprint=fingerprint)
            # After a loss of power a state may be there and its epoch's event not.
            if not attempt.settled.exists() or _told(attempt, state.progress.epoch):
                return state
    return None


def _told(attempt: Attempt, epoch: int) -> bool:
    return any(event.get("epoch") == epoch for event in attempt.read_events())
