"""One trial on its own: no Optuna, no MLflow, the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.config.cells import combinations, has_open_range, resolve, strata_of
from harness.config.load import load_space
from harness.config.spec import TrialSpec
from harness.errors import BadInput, HarnessError, Interrupted, Refused
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
    if len(cells) != 1 or has_open_range(space):
        many = "a range" if has_open_range(space) else f"{len(cells)} combinations"
        raise BadInput(f"{path}: holds {many}; a trial is one: give each parameter a `value`, or use `harness sweep`")
    return resolve(space, prepare_data(space, home, screen).facts, cells[0], seed=space.seed)


def run_single(spec: TrialSpec, path: Path, place: Workplace, screen: Screen) -> dict[str, Any]:
    """Train the spec in the folder `path`, going on where an earlier attempt ended; returns its result."""
    folder = TrialFolder(path.resolve())
    if folder.spec_file.exists() and folder.read_spec().fingerprint != spec.fingerprint:
        raise Refused(f"{folder.path} holds another spec; choose another --out")
    if folder.complete:
        screen.note(f"{folder.path} is complete already")
        return dict(read_json(folder.result))
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.write_spec(spec)
    number = len(folder.attempts()) + 1
    folder.attempt(number).path.mkdir(parents=True)
    last: list[Event] = []

    with screen.step(f"training {spec.train.epochs} epochs on {place.device}") as on_progress:
        on_progress(0, spec.train.epochs)

        def told(event: Event) -> None:
            last.append(event)
            if event["event"] == "epoch":
                on_progress(event["epoch"], spec.train.epochs)

        warm_up()
        try:
            do_job(Job(folder.path, number), place, told, lambda: False)
        except KeyboardInterrupt:
            raise Interrupted("stopped; the same command continues after the last whole epoch") from None
    end = last[-1]
    if end["state"] != "complete":
        raise HarnessError(f"the trial failed ({end['cause']}): {end['message']}; see {folder.attempt(number).path}")
    folder.accept(folder.attempt(number))
    return dict(read_json(folder.result))
