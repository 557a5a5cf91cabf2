"""Copies trial folders, the truth, into a tracker: as often as one likes, from where the last copy stopped.

`mlflow.json` in a folder says how far its copy has come; it is written after the tracker has answered. A
crash in between repeats a step, which every tracker takes without effect.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from harness.files import fingerprint, read_json, write_json, write_text
from harness.tracking.content import STATUS, SweepView, TrialFiles, TrialView
from harness.tracking.points import epoch_points, final_points, milliseconds
from harness.tracking.store import view_key
from harness.tracking.tracker import Status, Tracker
from harness.tracking.view import view_tags

CURSOR = "mlflow.json"
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
    files: tuple[str, ...] = ()
    model_id: str | None = None
    view: str | None = None  # the saved view that the experiment has, by its key


def read_cursor(folder: Path) -> Cursor | None:
    """The cursor in `folder`; None when there is none that can be read (the copy then starts over)."""
    try:
        value = read_json(folder / CURSOR)
        return Cursor(**{**value, "files": tuple(value["files"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


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
        if not cursor.described:
            for name in ("space.json", "split.json"):
                if (self.sweep.folder / name).is_file():
                    self.tracker.log_file(cursor.run_id, self.sweep.folder / name, "")
        if cursor.state != state:
            self.tracker.set_status(cursor.run_id, _SWEEP_STATUS[state], None)
        view = view_key(self.sweep.number)
        self._cursor = self._saved(self.sweep.folder, replace(cursor, described=True, state=state, view=view))

    def attach(self, folder: Path, name: str) -> None:
        """Copy a folder (the report) to the parent run's artifacts; its pages carry their pictures inside."""
        run_id = self._parent().run_id
        with TemporaryDirectory() as scratch:
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                inside = file.parent.relative_to(folder).as_posix()
                copied = file if file.suffix != ".html" else _whole(file, Path(scratch) / file.name)
                self.tracker.log_file(run_id, copied, name if inside == "." else f"{name}/{inside}")

    def trial_changed(self, files: TrialFiles) -> None:
        """Bring a trial's run up to what its folder says now."""
        known = read_cursor(files.path)
        cursor = known if known is not None and known.store == self.store else None
        state = read_json(files.state_file)["state"]
        if cursor is None and state == "waiting":
            return  # a table full of runs that have not begun hides those that have
        if cursor is not None and cursor.state == state in STATUS and state != "running":
            if cursor.model_id is None and files.mlflow_model.is_dir():
                self._log_model(TrialView.read(files), cursor)
            return
        self._copy(TrialView.read(files), cursor)

    def _copy(self, trial: TrialView, cursor: Cursor | None) -> None:
        events = trial.events()
        state = str(trial.state["state"])
        start_ms = round(events[0]["time"] * 1000) if events else milliseconds(trial.state.get("created")) or 0
        cursor = cursor or self._new_run(trial, start_ms)
        points = epoch_points(events, after_epoch=cursor.epoch)
        # Only the first request needs parameters; MLflow would check each of them against what it has.
        params = {} if cursor.described else trial.params()
        tags = trial.tags()
        if cursor.state == "failed":
            # Tried again: what was said about the failure no longer holds. (A batch cannot delete.)
            tags = {"cause": "", "mlflow.note.content": "", **tags}
        self.tracker.log(cursor.run_id, params=params, points=points, tags=tags)
        if not cursor.described:
            self.tracker.log_datasets(cursor.run_id, trial.datasets(events))
        epoch = max((point.step for point in points), default=cursor.epoch)
        cursor = self._saved(trial.files.path, replace(cursor, epoch=epoch, described=True))
        end_ms = milliseconds(trial.state.get("finished")) or (round(events[-1]["time"] * 1000) if events else start_ms)
        if trial.ended:
            cursor = self._log_outcome(trial, cursor, end_ms)
        if cursor.state != state:
            self.tracker.set_status(cursor.run_id, STATUS[state], end_ms if trial.ended else None)
            cursor = self._saved(trial.files.path, replace(cursor, state=state))
        if trial.ended and cursor.model_id is None and trial.files.mlflow_model.is_dir():
            self._log_model(trial, cursor)

    def _log_outcome(self, trial: TrialView, cursor: Cursor, end_ms: int) -> Cursor:
        result = trial.result()
        if result is not None:
            self.tracker.log(cursor.run_id, params={}, points=final_points(result, end_ms), tags={})
        for file, folder in trial.artifacts():
            name = file.relative_to(trial.files.path).as_posix()
            if name not in cursor.files:
                self.tracker.log_file(cursor.run_id, file, folder)
                cursor = replace(cursor, files=(*cursor.files, name))
        return self._saved(trial.files.path, cursor)

    def _log_model(self, trial: TrialView, cursor: Cursor) -> None:
        result = trial.result()
        end_ms = milliseconds(trial.state.get("finished")) or 0
        points = [point for point in final_points(result, end_ms) if "/" not in point.key] if result else []
        model_id = self.tracker.log_model(
            cursor.experiment_id,
            cursor.run_id,
            trial.files.mlflow_model,
            identity=(TRIAL_TAG, self._trial_uid(trial)),
            name=trial.name(self.sweep.varied),
            points=points,
        )
        self._saved(trial.files.path, replace(cursor, model_id=model_id))

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
        write_json(folder / CURSOR, asdict(cursor))
        return cursor


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
