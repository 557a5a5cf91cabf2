"""Repairs of a sweep's folders, each of them safe to repeat. For the holder of the sweep's lock.

A result that cannot be trusted is moved aside, never deleted, and its trial waits to be trained again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from harness.files import fsync_folder, read_json, write_bytes
from harness.sweep.ledger import Record, completed, write_record
from harness.trial.folder import OUTPUTS, Attempt, TrialFolder

DAMAGED = "damaged"


def read_record(folder: TrialFolder) -> Record:
    """The trial's record; OSError or ValueError when there is none that can be read."""
    return Record.model_validate(read_json(folder.state_file))


def let_wait(folder: TrialFolder) -> None:
    """The trial is to be trained (on), whatever was said of it before."""
    again = {"state": "waiting", "cause": None, "message": None, "finished": None, "pruned_epoch": None}
    own = {"accepted_attempt": None, "value": None, "adopted_from": None}
    write_record(folder, read_record(folder).model_copy(update=again | own))


def accept_now(folder: TrialFolder) -> None:
    """Accept the finished attempt, and write the record of it."""
    if folder.accept_finished():
        write_record(folder, completed(read_record(folder), folder))


def train_again(folder: TrialFolder) -> None:
    """Move the result to `damaged/<n>/` and let the trial wait.

    The record comes first: killed in between, the trial waits with a result that is found and moved the next time. An
    empty attempt comes after: else the attempt that finished would be accepted again, without its outputs.
    """
    let_wait(folder)
    aside = _next_free(folder.path / DAMAGED)
    aside.mkdir(parents=True)
    # The manifest first: a result without one counts for nothing.
    for name in (folder.manifest.name, *OUTPUTS, folder.mlflow_model.name):
        if (folder.path / name).exists():
            (folder.path / name).rename(aside / name)
    fsync_folder(folder.path)
    if any(attempt.ended_complete for attempt in folder.attempts()[-1:]):
        folder.new_attempt()


def keep_whole_lines(attempt: Attempt) -> None:
    """Leave only the events that can be read; the file as it was stays beside it as `events.damaged`."""
    content = attempt.events.read_bytes()
    write_bytes(attempt.events.with_name("events.damaged"), content)
    write_bytes(attempt.events, b"".join(line + b"\n" for line in content.split(b"\n")[:-1] if is_event(line)))


def cut_torn_line(events: Path) -> None:
    """Cut what follows the last end of line."""
    content = events.read_bytes()
    write_bytes(events, content[: content.rfind(b"\n") + 1])


def remove_leftover(file: Path) -> None:
    """Delete a file that was being written aside when its process ended."""
    if file.is_dir():
        shutil.rmtree(file, ignore_errors=True)
    else:
        file.unlink(missing_ok=True)


def is_event(line: bytes) -> bool:
    """Whether a line of events.jsonl is one: an object that says which event it is."""
    try:
        event = json.loads(line)
    except ValueError:
        return False
    return isinstance(event, dict) and "event" in event


def _next_free(folder: Path) -> Path:
    taken = [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []
    return folder / str(max(taken, default=0) + 1)
