"""Copies trial folders, the truth, into a tracker: as often as one likes, from where the last copy stopped.

`mlflow.json` in a folder says how far its copy has come; it is written after the tracker has answered. A
crash in between repeats a step, which every tracker takes without effect.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from harness.files import fingerprint, read_json, sha256_file, write_json, write_text
from harness.tracking.content import STATUS, SweepView, TrialFiles, TrialView
from harness.tracking.points import epoch_points, final_points, milliseconds
from harness.tracking.store import view_key
from harness.tracking.tracker import Shelf, Status, StoreDeclines, Tracker
from harness.tracking.view import view_tags

CURSOR = "mlflow.json"
SENDS = 2  # of a file that does not arrive as it was sent
SWEEP_TAG, TRIAL_TAG = "harness.sweep_uid", "harness.trial_uid"  # by which a run is found again
_SWEEP_STATUS: Mapping[str, Status] = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a folder's copy in one store has come."""

    store: str
    experiment_id: str
    run_id: str
    state: str | None = None  # the last one that was copied whole
    epoch: int = 0  # curves are there up to this one
    described: bool = False  # parameters and datasets are there
    files: Mapping[str, str] = field(default_factory=dict)  # that are there: sha256 by name within the folder
    model_id: str | None = None  # that is there with all its files
    unfinished_model_id: str | None = None  # whose files are among `files`
    view: str | None = None  # the saved view that the experiment has, by its key


def read_cursor(folder: Path) -> Cursor | None:
    """The cursor in `folder`; None when there is none that can be read (the copy then starts over)."""
    try:
        value = read_json(folder / CURSOR)
        files = value["files"]
        # Earlier cursors had a list of names; a file whose hash is not known is sent again if the copy goes on.
        return Cursor(**{**value, "files": files if isinstance(files, dict) else dict.fromkeys(files, "")})
    except (OSError, ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True, slots=True)
class Sending:
    """A file on its way: to which folder of the store ("" is the top), and what the cursor calls it."""

    file: Path
    folder: str
    name: str


@dataclass
class Projection:
    """Copies one generation's folders into one tracker. Methods may be repeated; its errors pass through."""

    tracker: Tracker
    store: str  # names the store; a cursor of another one does not count
    sweep: SweepView
    _cursor: Cursor | None = field(default=None, init=False)

    def sweep_changed(self, state: str) -> None:
        """Bring the parent run up to `state`: running, finished, stopped or failed."""
        cursor = self._parent()
        if cursor.view != view_key(self.sweep.number):
            self.tracker.tag_experiment(cursor.experiment_id, {**self.sweep.experiment_tags(), **view_tags(self.sweep)})
        params = {} if cursor.described else self.sweep.params()
        self.tracker.log(cursor.run_id, params=params, points=self.sweep.summary_points(), tags=self.sweep.tags())
        if cursor.state != state:
            self.tracker.set_status(cursor.run_id, _SWEEP_STATUS[state], None)
        here = (self.sweep.folder / name for name in ("space.json", "split.json"))
        files = (Sending(file, "", file.name) for file in here if file.is_file())
        cursor = self._sent(self.sweep.folder, cursor, Shelf("run", cursor.run_id), files)
        view = view_key(self.sweep.number)
        self._saved(self.sweep.folder, replace(cursor, described=True, state=state, view=view))

    def attach(self, folder: Path, name: str) -> None:
        """Copy a folder (the report) to the parent run's artifacts; its pages carry their pictures inside."""
        cursor = self._parent()
        with TemporaryDirectory() as scratch:
            files = _of_report(folder, name, Path(scratch))
            self._sent(self.sweep.folder, cursor, Shelf("run", cursor.run_id), files)

    def trial_changed(self, files: TrialFiles) -> None:
        """Bring a trial's run up to what its folder says now."""
        known = read_cursor(files.path)
        cursor = known if known is not None and known.store == self.store else None
        state = read_json(files.state_file)["state"]
        if cursor is None and state == "waiting":
            return  # a table full of runs that have not begun hides those that have
        settled = state in STATUS and state not in ("running", "paused")  # a paused trial may have run in between
        if cursor is not None and cursor.state == state and settled and not _anew(files, cursor):
            if cursor.model_id is None and files.mlflow_model.is_dir():
                self._log_model(TrialView.read(files), cursor)
            return
        self._copy(TrialView.read(files), cursor)

    def _copy(self, trial: TrialView, cursor: Cursor | None) -> None:
        events = trial.events()
        state = str(trial.state["state"])
        start_ms = round(events[0]["time"] * 1000) if events else milliseconds(trial.state.get("created")) or 0
        cursor = cursor or self._new_run(trial, start_ms)
        end_ms = milliseconds(trial.state.get("finished")) or (round(events[-1]["time"] * 1000) if events else start_ms)
        result = trial.result() if trial.ended else None
        points = epoch_points(events, after_epoch=cursor.epoch)
        epoch = max((point.step for point in points), default=cursor.epoch)
        if result is not None:
            points += final_points(result, end_ms)
        # Only the first request needs parameters; MLflow would check each of them against what it has.
        params = {} if cursor.described else trial.params()
        tags = trial.tags()
        if cursor.state == "failed":
            # Tried again: what was said about the failure no longer holds. (A batch cannot delete.)
            tags = {"cause": "", "mlflow.note.content": "", **tags}
        self.tracker.log(cursor.run_id, params=params, points=points, tags=tags)
        if not cursor.described:
            self.tracker.log_datasets(cursor.run_id, trial.datasets(events))
        cursor = self._saved(trial.files.path, replace(cursor, epoch=epoch, described=True))
        if cursor.state != state:
            # Before the files, which may be long on their way: that a run ended, and how well, is known by then.
            self.tracker.set_status(cursor.run_id, STATUS[state], end_ms if trial.ended else None)
        if trial.ended:
            cursor = self._sent(trial.files.path, cursor, Shelf("run", cursor.run_id), _of_trial(trial))
        if cursor.state != state:
            cursor = self._saved(trial.files.path, replace(cursor, state=state))
        if trial.ended and cursor.model_id is None and trial.files.mlflow_model.is_dir():
            self._log_model(trial, cursor)

    def _log_model(self, trial: TrialView, cursor: Cursor) -> None:
        result = trial.result()
        end_ms = milliseconds(trial.state.get("finished")) or 0
        points = [point for point in final_points(result, end_ms) if "/" not in point.key] if result else []
        identity, name = (TRIAL_TAG, self._trial_uid(trial)), trial.name(self.sweep.varied)
        model = self.tracker.model(cursor.experiment_id, cursor.run_id, identity=identity, name=name)
        if not model.ready:
            exported = trial.files.mlflow_model
            if cursor.unfinished_model_id != model.model_id:  # another than the one these files went to
                files = {file: digest for file, digest in cursor.files.items() if not file.startswith(exported.name)}
                cursor = replace(cursor, files=files, unfinished_model_id=model.model_id)
            shelf = Shelf("model", model.model_id)
            cursor = self._sent(trial.files.path, cursor, shelf, _of_model(trial))
            self.tracker.finish_model(model.model_id, cursor.run_id, points=points)
        self._saved(trial.files.path, replace(cursor, model_id=model.model_id, unfinished_model_id=None))

    def _sent(self, folder: Path, cursor: Cursor, shelf: Shelf, files: Iterable[Sending]) -> Cursor:
        """Send what is not there as it is now. After each file the cursor is saved, so that a copy that is cut off goes
        on with the next one: 0.6 ms, where a small file costs 11 ms of a server on this machine.

        StoreDeclines, once the others are there, for one that does not arrive as it was sent.
        """
        spoiled = []
        for each in files:
            if cursor.files.get(each.name) == sha256_file(each.file):
                continue
            if (digest := self._arrived(each, shelf)) is None:
                spoiled.append(each.name)
            else:
                cursor = self._saved(folder, replace(cursor, files={**cursor.files, each.name: digest}))
        if spoiled:
            more = f" and {len(spoiled) - 1} more" if len(spoiled) > 1 else ""
            raise StoreDeclines(f"{spoiled[0]}{more}: not there as it was sent, {SENDS} times")
        return cursor

    def _arrived(self, sending: Sending, shelf: Shelf) -> str | None:
        """Send one file and, over a line, read it back: its sha256. None: the store has something else each time."""
        path = posixpath.join(sending.folder, sending.file.name)
        for _ in range(SENDS):
            digest, size_bytes = sha256_file(sending.file), sending.file.stat().st_size
            self.tracker.log_file(shelf, sending.file, sending.folder)
            if not self.tracker.remote:
                return digest
            if self.tracker.stored_sha256(shelf, path, size_bytes=size_bytes) == digest:
                return digest
        return None

    def _new_run(self, trial: TrialView, start_ms: int) -> Cursor:
        parent = self._parent()
        run_id = self.tracker.run(
            parent.experiment_id,
            identity=(TRIAL_TAG, self._trial_uid(trial)),
            name=trial.name(self.sweep.varied),
            tags={"mlflow.parentRunId": parent.run_id, **trial.tags()},
            start_ms=start_ms,
        )
        return self._saved(trial.files.path, Cursor(self.store, parent.experiment_id, run_id))

    def _trial_uid(self, trial: TrialView) -> str:
        return f"{self.sweep.uid}/{trial.files.path.name}"

    def _parent(self) -> Cursor:
        if self._cursor is None:
            known = read_cursor(self.sweep.folder)
            self._cursor = known if known is not None and known.store == self.store else self._new_parent()
        return self._cursor

    def _new_parent(self) -> Cursor:
        experiment_id = self.tracker.experiment(self.sweep.name)
        run_id = self.tracker.run(
            experiment_id,
            identity=(SWEEP_TAG, self.sweep.uid),
            name=f"{self.sweep.name} g{self.sweep.document['generation']}",
            tags=self.sweep.tags(),
            start_ms=self.sweep.start_ms,
        )
        return self._saved(self.sweep.folder, Cursor(self.store, experiment_id, run_id))

    def _saved(self, folder: Path, cursor: Cursor) -> Cursor:
        write_json(folder / CURSOR, asdict(cursor), settle=False)  # one that a loss of power spoils is made again
        if folder == self.sweep.folder:
            self._cursor = cursor
        return cursor


def _anew(files: TrialFiles, cursor: Cursor) -> bool:
    """Whether the trial has another result than the one that was copied: that was damaged, and trained again."""
    try:
        digests: Mapping[str, str] = read_json(files.path / "manifest.json")["sha256"]
    except FileNotFoundError:
        return False
    # No hash: copied by an earlier version, which kept none.
    return any(cursor.files.get(name, digest) not in (digest, "") for name, digest in digests.items())


def _of_trial(trial: TrialView) -> Iterator[Sending]:
    """What lies with a trial's run."""
    for file, folder in trial.artifacts():
        yield Sending(file, folder, file.relative_to(trial.files.path).as_posix())


def _of_model(trial: TrialView) -> Iterator[Sending]:
    """What a trial's exported model is."""
    exported = trial.files.mlflow_model
    for file in sorted(path for path in exported.rglob("*") if path.is_file()):
        yield Sending(file, _inside(file, exported), file.relative_to(trial.files.path).as_posix())


def _of_report(folder: Path, name: str, scratch: Path) -> Iterator[Sending]:
    """A report's files, its pages made whole in `scratch`."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        copied = file if file.suffix != ".html" else _whole(file, scratch / file.name)
        place = f"{name}/{file.relative_to(folder).as_posix()}"
        yield Sending(copied, posixpath.dirname(place), place)


def _inside(file: Path, folder: Path) -> str:
    """The folder of a file within another one; "" at its top."""
    inside = file.parent.relative_to(folder).as_posix()
    return "" if inside == "." else inside


def _whole(page: Path, copy: Path) -> Path:
    """A copy of a page with its PNGs inside: MLflow shows it in a frame that sees no file beside it."""

    def inlined(found: re.Match[str]) -> str:
        file = page.parent / unquote(found[1])
        if not file.is_file():
            return found[0]
        return f'src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"'

    write_text(copy, re.sub(r'src="([^":]+\.png)"', inlined, page.read_text(encoding="utf-8")))
    return copy


def store_key(uri: str) -> str:
    """A store's name for cursors: says nothing of the URI, which may hold a password."""
    return fingerprint(uri)[:16]
