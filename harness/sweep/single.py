"""One trial on its own: no Optuna, no MLflow, the same training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from harness.config.cells import combinations, open_ranges, resolve, strata_of
from harness.config.load import load_space
from harness.config.spec import TrialSpec
from harness.errors import BadInput, Interrupted, NothingCompleted, Refused
from harness.execute.base import Event, Job
from harness.execute.work import Workplace, do_job, warm_up
from harness.files import read_json
from harness.sweep.layout import Home
from harness.sweep.prepare import prepare_data
from harness.sweep.progress import Screen
from harness.sweep.vocabulary import CHECKS
from harness.trial.folder import TrialFolder


def spec_of(path: Path, home: Home, screen: Screen) -> TrialSpec:
    """The spec in a trial folder, or the one combination of a YAML file; BadInput when there are several."""
    if path.is_dir():
        return TrialFolder(path).read_spec()
    space = load_space(path, checks=CHECKS)
    cells = [cell for stratum in strata_of(space) for cell in combinations(space, stratum)]
    if len(cells) != 1 or open_ranges(space):
        many = "a range" if open_ranges(space) else f"{len(cells)} combinations"
        raise BadInput(f"{path}: holds {many}; a trial is one: give each parameter a `value`, or use `harness sweep`")
    return resolve(space, prepare_data(space, home, screen).facts, cells[0], seed=space.seed)


def run_single(spec: TrialSpec, path: Path, place: Workplace, screen: Screen) -> dict[str, Any]:
    """Train the spec in the folder `path`, going on where an earlier attempt ended; returns its result."""
    folder = TrialFolder(path.resolve())
    if folder.spec_file.exists() and folder.read_spec().fingerprint != spec.fingerprint:
        raise Refused(f"{folder.path} holds another spec; choose another --out")
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_spec(spec)
    with _alone(folder):
        if folder.accept_finished():
            screen.note(f"{folder.path} is complete already")
            return dict(read_json(folder.result))
        attempt = folder.new_attempt()
        end = _train(Job(folder.path, attempt.number), spec.train.epochs, place, screen)
        if end["state"] != "complete":
            message = f"the trial failed ({end['cause']}): {end['message']}; see {attempt.path}"
            raise {"data": BadInput, "refused": Refused}.get(end["cause"], NothingCompleted)(message)
        folder.accept(attempt)
    return dict(read_json(folder.result))


def _train(job: Job, epochs: int, place: Workplace, screen: Screen) -> Event:
    """Do the job here; its last event."""
    events: list[Event] = []
    with screen.step(f"training {epochs} epochs on {place.device}") as on_progress:
        on_progress(0, epochs)

        def told(event: Event) -> None:
            events.append(event)
            if event["event"] == "epoch":
                on_progress(event["epoch"], epochs)

        warm_up()
        try:
            do_job(job, place, told, lambda: False)
        except KeyboardInterrupt:
            raise Interrupted("stopped; the same command continues after the last whole epoch") from None
    return events[-1]


@contextmanager
def _alone(folder: TrialFolder) -> Iterator[None]:
    """Hold the trial's folder; Refused when somebody else trains in it."""
    try:
        with FileLock(folder.path / "lock", timeout=0):
            yield
    except Timeout:
        raise Refused(f"{folder.path} is being trained by another process") from None
