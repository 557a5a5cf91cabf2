"""Compares a generation's runs with its folders: which runs are missing, doubled, in another state, or lack points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from harness.files import read_json, write_json
from harness.tracking.client import MlflowTracker
from harness.tracking.content import ENDED, STATUS, SweepView, TrialFiles, TrialView
from harness.tracking.points import epoch_points
from harness.tracking.project import CURSOR, SWEEP_TAG, TRIAL_TAG, Projection, read_cursor, store_key
from harness.tracking.store import Store
from harness.tracking.tracker import Point, SeenRun, storable_key

Kind = Literal["missing", "duplicate", "status", "points", "doubled"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which the store is not what the folders say."""

    kind: Kind
    what: str
    folder: Path
    files: TrialFiles | None = None  # None: the generation's own run
    runs: tuple[str, ...] = ()  # those that have to go


@dataclass(frozen=True)
class Audit:
    """A generation beside its runs. Methods raise StoreAway or StoreDeclines."""

    tracker: MlflowTracker
    store: Store
    generation: Path

    @property
    def elsewhere(self) -> bool:
        """Whether the generation was last copied to another store than this one."""
        cursor = read_cursor(self.generation)
        return cursor is not None and cursor.store != store_key(self.store.uri)

    def differences(self, trials: Iterable[TrialFiles]) -> Iterator[Difference]:
        """Everything that differs, while no controller is at work."""
        sweep = SweepView.read(self.generation)
        runs: dict[str, list[SeenRun]] = {}
        for run in self.tracker.runs_of(sweep.name):
            runs.setdefault(run.tags.get(TRIAL_TAG) or run.tags.get(SWEEP_TAG, ""), []).append(run)
        states = []
        for files in trials:
            states.append(str(read_json(files.state_file)["state"]))
            yield from self._of_trial(files, states[-1], runs.get(f"{sweep.uid}/{files.path.name}", []))
        own = runs.get(sweep.uid, [])
        if not own and any(state != "waiting" for state in states):
            yield Difference("missing", "the generation has no run", self.generation)
        yield from self._of_sweep(own)

    def mend(self, difference: Difference) -> None:
        """Make the store agree in this point. Points cannot be taken back: a run with doubled ones is copied anew."""
        for run_id in difference.runs:
            self.tracker.delete_run(run_id)
        self._rewind(difference)
        projection = Projection(self.tracker, store_key(self.store.uri), SweepView.read(self.generation))
        if difference.files is not None:
            projection.trial_changed(difference.files)
        else:
            states = [read_json(file)["state"] for file in self.generation.glob("trials/*/trial.json")]
            projection.sweep_changed("finished" if set(states) <= ENDED else "stopped")

    def _of_trial(self, files: TrialFiles, state: str, runs: Sequence[SeenRun]) -> Iterator[Difference]:
        cursor = read_cursor(files.path)
        if not runs:
            if state != "waiting" or cursor is not None:
                yield Difference("missing", f"{state}, and has no run", files.path, files)
            return
        if len(runs) > 1:
            spare = tuple(run.run_id for run in runs[1:])
            yield Difference("duplicate", f"has {len(runs)} runs", files.path, files, spare)
        if runs[0].status != STATUS[state]:
            yield Difference("status", f"{state}, and its run is {runs[0].status}", files.path, files)
        yield from self._of_points(files, runs[0])

    def _of_points(self, files: TrialFiles, run: SeenRun) -> Iterator[Difference]:
        """Every curve's last step; of the curve of the objective, every step."""
        trial = TrialView.read(files)
        expected: dict[str, list[Point]] = {}
        for point in epoch_points(trial.events(), after_epoch=0):
            expected.setdefault(point.key, []).append(point)
        short = sorted(key for key, points in expected.items() if run.last_steps.get(key, 0) < points[-1].step)
        key = storable_key(trial.spec.objective.metric)
        steps = Counter(point.step for point in self.tracker.curve(run.run_id, key)) if key in expected else Counter()
        lacking = [point.step for point in expected.get(key, ()) if point.step not in steps]
        doubled = sorted(step for step, count in steps.items() if count > 1)
        if short or lacking:
            what = f"{short[0]} ends early" if short else f"{key} lacks epoch {lacking[0]}"
            yield Difference("points", f"points are missing in MLflow: {what}", files.path, files)
        if doubled:
            what = f"{key} has epoch {doubled[0]} more than once in MLflow"
            yield Difference("doubled", what, files.path, files, (run.run_id,))

    def _of_sweep(self, runs: Sequence[SeenRun]) -> Iterator[Difference]:
        if len(runs) > 1:
            spare = tuple(run.run_id for run in runs[1:])
            yield Difference("duplicate", f"the generation has {len(runs)} runs", self.generation, None, spare)
        if runs and runs[0].status == "RUNNING":
            yield Difference("status", "nobody works on it, and its run is RUNNING", self.generation)

    def _rewind(self, difference: Difference) -> None:
        """Let the copy forget what it need not repeat: all of it, or only in which state it left the run."""
        cursor = read_cursor(difference.folder)
        if cursor is None:
            return
        if difference.kind == "status" and cursor.store == store_key(self.store.uri):
            write_json(difference.folder / CURSOR, asdict(replace(cursor, state=None)))
        else:
            (difference.folder / CURSOR).unlink()
