"""Deliberately broken variants: can the checks fail? Each is killed where it hurts, and must be found out.

The same kills without the break must leave nothing to find. python -m tests.faults.broken: a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.failpoints import Bench, bench
from tests.faults.steps import Point


@dataclass(frozen=True)
class Variant:
    """One break, the moment of the kill, and what the checks must say of it."""

    name: str
    apply: Callable[[], None]  # to the child's modules
    at: Point
    torn: bool
    found: str


@contextmanager
def _in_place(path: Path, *, settle: bool = True) -> Iterator[Path]:
    """As most tools save: over the file that is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    yield path
    if settle:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


def checkpoints_in_place() -> None:
    """torch.save over the last good one."""
    import harness.checkpoint

    harness.checkpoint.written_aside = _in_place


def records_in_place() -> None:
    """trial.json and every other small file written over."""
    import harness.files

    harness.files.written_aside = _in_place


def one_folder_for_all_attempts() -> None:
    """No fence between one start of a worker and the next."""
    from harness.trial.folder import Attempt, TrialFolder

    def new_attempt(self: TrialFolder) -> Attempt:
        self.attempt(1).path.mkdir(parents=True, exist_ok=True)
        return self.attempt(1)

    TrialFolder.new_attempt = new_attempt  # type: ignore[method-assign]


def optimizer_not_restored() -> None:
    """Weights and position come back, Adam's moments do not."""
    import torch

    def forget(self: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Take nothing over."""

    torch.optim.Optimizer.load_state_dict = forget  # type: ignore[assignment,method-assign]


def tag_after_the_run() -> None:
    """A run is created without the tag that it is found by, and gets it with its first values."""
    from harness.tracking.client import MlflowTracker

    identities: dict[str, tuple[str, str]] = {}
    log = MlflowTracker.log

    def run(
        self: MlflowTracker, experiment_id: str, *, identity: tuple[str, str], name: str, tags: Mapping[str, str],
        start_ms: int,
    ) -> str:  # fmt: skip
        found = self._client.search_runs([experiment_id], filter_string=f"tags.`{identity[0]}` = '{identity[1]}'")
        if found:
            return str(found[0].info.run_id)
        made = self._client.create_run(experiment_id, start_time=start_ms, tags=dict(tags), run_name=name)
        identities[made.info.run_id] = identity
        return str(made.info.run_id)

    def tagged_log(self: MlflowTracker, run_id: str, **more: Any) -> None:
        if run_id in identities:
            self._client.set_tag(run_id, *identities[run_id])
        log(self, run_id, **more)

    MlflowTracker.run = run  # type: ignore[method-assign]
    MlflowTracker.log = tagged_log  # type: ignore[method-assign]


def points_at_the_time_of_sending() -> None:
    """All are sent every time, and sent again a point has another time, so that it stands there twice."""
    from harness.tracking import project
    from harness.tracking.points import epoch_points
    from harness.tracking.tracker import Point as Value

    def now(events: Sequence[Mapping[str, Any]], *, after_epoch: int) -> list[Value]:
        sent = round(time.time() * 1000)
        return [Value(p.key, p.value, p.step, sent) for p in epoch_points(events, after_epoch=0)]

    project.epoch_points = now  # type: ignore[attr-defined]


# The first trial's second epoch is told of, and not saved yet.
IN_EPOCH_2 = Point(r"fsync .*\.0000/attempts/1/events\.jsonl", 3)
VARIANTS = (
    Variant("checkpoints in place", checkpoints_in_place, Point(r"fsync .*\.0000/attempts/1/\.?checkpoint\.pt", 2),
            True, "epochs were trained twice"),
    Variant("records in place", records_in_place, Point(r"fsync .*\.0000/\.?trial\.json", 3), True, "run failed"),
    Variant("one folder for all attempts", one_folder_for_all_attempts, IN_EPOCH_2, False, "epochs were trained twice"),
    Variant("optimizer not restored", optimizer_not_restored, IN_EPOCH_2, False, "other weights"),
    Variant("tag after the run", tag_after_the_run, Point(r"open .*\.0000/\.mlflow\.json", 1), False, "MLflow's runs"),
    Variant("points at the time of sending", points_at_the_time_of_sending,
            Point(r"open .*\.0000/\.mlflow\.json", 4), False, "too many"),
)  # fmt: skip


def verdicts(tried: Bench, variants: Sequence[Variant]) -> Iterator[dict[str, Any]]:
    """Each variant's name, what the checks said of it, and of the same kill without the break."""
    sound: dict[tuple[Point, bool], list[str]] = {}
    for variant in variants:
        kill = (variant.at, variant.torn)
        if kill not in sound:
            sound[kill] = tried.tried(variant.at, torn=variant.torn)
        broken = tried.tried(variant.at, torn=variant.torn, broken=variant.apply)
        yield {"name": variant.name, "expected": variant.found, "broken": broken, "sound": sound[kill]}


def is_right(verdict: Mapping[str, Any]) -> bool:
    """Whether the break was found out for what it is, and nothing without it."""
    return not verdict["sound"] and verdict["expected"] in " ".join(verdict["broken"])


def main() -> None:
    """Print the verdicts."""
    right = []
    with tempfile.TemporaryDirectory(prefix="broken-") as name:
        for verdict in verdicts(bench(Path(name)), VARIANTS):
            right.append(is_right(verdict))
            print(json.dumps(verdict), flush=True)
    print(f"{right.count(True)} passed, {right.count(False)} failed")


if __name__ == "__main__":
    main()
