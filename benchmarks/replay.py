"""Search policies over recorded learning curves: the sweep's own controller, with workers that read from a table.

    harness sweep benchmarks/curves.yaml --home HOME          # trains every cell (half an hour on two cores)
    python -m benchmarks.replay record HOME                   # writes benchmarks/curves.json
    python -m benchmarks.replay [--policy rungs] [--seeds 1 2 3] [--table benchmarks/curves_16_steps.json]

A policy is a change of the space (what to prune, how to propose). Proposals, pauses and promotions are the real ones;
only the training is replaced by its recording, so a replay of 1,296 epochs takes seconds. The recording holds every
cell's objective after every epoch for several training seeds.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from benchmarks.dispatch import Nobody
from harness.config.cells import strata_of
from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.execute.base import Executor, Job, Message
from harness.files import write_json
from harness.study import StratumStudy
from harness.sweep.controller import Controller
from harness.sweep.layout import Home, SweepFolder
from harness.sweep.ledger import Record, objectives, read_records
from harness.sweep.prepare import open_generation, prepare_data
from harness.sweep.progress import Screen
from harness.sweep.vocabulary import CHECKS
from harness.trial.folder import TrialFolder

HERE = Path(__file__).resolve().parent
SPACE, TABLE = HERE / "curves.yaml", HERE / "curves.json"
FEW_STEPS = HERE / "curves_16_steps.json"  # an epoch of 16 optimizer steps instead of 83, and weights not averaged

POLICIES: dict[str, dict[str, Any]] = {
    "rungs": {"method": "tpe", "prune": {"type": "rungs", "min_epochs": 1, "eta": 3}},
    "rungs from 2": {"method": "tpe", "prune": {"type": "rungs", "min_epochs": 2, "eta": 4}},
    "hyperband": {"method": "tpe", "prune": {"type": "hyperband", "min_epochs": 1, "eta": 3}},
    "median": {"method": "tpe", "prune": {"type": "median", "min_epochs": 3, "eta": 3}},
    "tpe": {"method": "tpe", "prune": {"type": "none"}},
    "grid": {"method": "grid", "prune": {"type": "none"}},
}


def key_of(stratum: str, parameters: Mapping[str, Any]) -> str:
    """A cell's name in the table."""
    return json.dumps([stratum, dict(sorted(parameters.items()))])


@dataclass(frozen=True)
class Recording:
    """{training seed: {cell: objective after epoch 1, 2, ...}}."""

    curves: Mapping[int, Mapping[str, Sequence[float]]]

    @staticmethod
    def read(file: Path = TABLE) -> Recording:
        """The committed one."""
        rows = json.loads(file.read_text(encoding="utf-8"))["curves"]
        curves: dict[int, dict[str, list[float]]] = {}
        for row in rows:
            curves.setdefault(row["seed"], {})[key_of(row["stratum"], row["parameters"])] = row["values"]
        return Recording(curves)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Training seeds for which every cell was recorded, the first seed first."""
        most = max(len(cells) for cells in self.curves.values())
        return tuple(sorted(seed for seed, cells in self.curves.items() if len(cells) == most))

    def best(self, seed: int, stratum: str) -> list[str]:
        """A stratum's cells by what an exhaustive grid ends with, the best first."""
        cells = {cell: max(values) for cell, values in self.curves[seed].items() if json.loads(cell)[0] == stratum}
        return sorted(cells, key=lambda cell: -cells[cell])


class Recorded(Executor):
    """One slot whose worker reads what training would have given."""

    def __init__(self, curves: Mapping[str, Sequence[float]], records: Mapping[str, Record]) -> None:
        self.curves, self.records = curves, records
        self.epochs: dict[str, int] = {}  # trained, by stratum
        self.ended: list[tuple[str, str, int]] = []  # (stratum, cell, epochs of the stratum so far), as trials complete
        self._job: Job | None = None
        self._events: deque[dict[str, Any]] = deque()

    @property
    def slots(self) -> int:
        return 1

    def free(self) -> int:
        return int(self._job is None)

    def submit(self, job: Job) -> None:
        self._job = job
        self._events.clear()
        if job.task != "train":
            self._events.append({"event": "sketched", "message": None})
            return
        record, folder = self.records[job.folder.name], TrialFolder(job.folder)
        values = self.curves[key_of(record.stratum, record.parameters)]
        attempt, before = folder.attempt(job.attempt), max(objectives(folder), default=0)
        for epoch in range(before + 1, len(values) + 1):
            done = epoch - 1
            if job.pause is not None and job.pause.is_reached(epochs=done, samples=done, seconds=done):
                self._events.append(last_word("paused"))
                return
            event = {"event": "epoch", "epoch": epoch, "objective": values[epoch - 1], "seconds": 1.0}
            self._events.append(event)
        best = max(values)
        attempt.outputs.mkdir(parents=True)
        write_json(attempt.outputs / "result.json", {"objective": {"metric": "val/iou", "value": best}, "seconds": 0.0,
                                                     "best_epoch": values.index(best) + 1})  # fmt: skip
        self._events.append(last_word("complete"))

    def messages(self, timeout_s: float) -> list[Message]:
        assert self._job is not None
        job, event = self._job, self._events.popleft()
        if job.task == "train":
            record = self.records[job.folder.name]
            TrialFolder(job.folder).attempt(job.attempt).append_event(event)
            if event["event"] == "epoch":
                self.epochs[record.stratum] = self.epochs.get(record.stratum, 0) + 1
            elif event["state"] == "complete":
                cell = key_of(record.stratum, record.parameters)
                self.ended.append((record.stratum, cell, self.epochs[record.stratum]))
        if not self._events:
            self._job = None
        return [Message(job, event)]

    def stop(self, job: Job) -> None:
        self._events = deque([last_word("stopped")])

    def close(self) -> None:
        self._events.clear()


def last_word(state: str) -> dict[str, Any]:
    """A worker's last word."""
    return {"event": "finished", "state": state, "cause": None, "message": None}


@dataclass(frozen=True)
class Replayed:
    """A policy's way through one stratum."""

    stratum: str
    epochs: int  # in all
    ranked: tuple[str, ...]  # cells as the policy ranks them: whole trials by their end, then the others by their rungs
    ended: tuple[tuple[str, int], ...]  # (cell, epochs so far) of whole trials, in order


def replay(policy: Mapping[str, Any], recording: Recording, *, training_seed: int, seed: int) -> list[Replayed]:
    """Run a policy (changes of the space) over one training seed's curves; `seed` is the policy's own."""
    logging.getLogger("optuna").setLevel(logging.WARNING)
    with TemporaryDirectory(prefix="replay-") as name:
        folder = Path(name)
        small = {"data.phantom": {"patients": 4, "roi_px": 128, "seed": 7}, "seed": seed}
        space = load_space(SPACE, overrides=[*small.items(), *policy.items()], checks=CHECKS)
        home, screen = Home(folder / "home"), Screen(Console(file=io.StringIO(), force_terminal=False))
        home.path.mkdir()
        prepared = prepare_data(space, home, screen)
        generation = open_generation(SweepFolder(folder / "sweep"), space, prepared, yaml="", command=["replay"])
        studies = {s.name: StratumStudy(space, s, name=s.name, storage=None) for s in strata_of(space)}
        records: dict[str, Record] = {}
        executor = Recorded(recording.curves[training_seed], records)
        controller = Controller(space, prepared.facts, generation, executor=executor, studies=studies, mirror=Nobody(),
                                screen=screen, interrupted=lambda: False)  # fmt: skip
        executor.records = controller.records
        controller.run()
        return [_replayed(stratum.name, space, controller, executor) for stratum in strata_of(space)]


def _replayed(stratum: str, space: SearchSpace, controller: Controller, executor: Recorded) -> Replayed:
    members = [record for record in controller.records.values() if record.stratum == stratum]
    folders = {record.uid: TrialFolder(controller.generation.trials / record.uid) for record in members}
    reached = {record.uid: objectives(folders[record.uid]) for record in members}
    order = sorted(members, key=lambda r: (-len(reached[r.uid]), -max(reached[r.uid].values(), default=0.0), r.number))
    return Replayed(
        stratum,
        executor.epochs[stratum],
        tuple(key_of(record.stratum, record.parameters) for record in order),
        tuple((cell, epochs) for name, cell, epochs in executor.ended if name == stratum),
    )


def record(home: Path) -> None:
    """Write the table from the home in which `curves.yaml` was trained; only whole curves."""
    rows: list[dict[str, Any]] = []
    trials = [
        (TrialFolder(generation.trials / uid), one)
        for generation in Home(home).sweep("curves").generations()
        for uid, one in read_records(generation).items()
    ]
    for folder, one in trials:
        values = objectives(folder)
        if one.state == "complete" and sorted(values) == list(range(1, len(values) + 1)):
            curve = [round(values[epoch], 5) for epoch in sorted(values)]
            rows.append({"stratum": one.stratum, "parameters": one.parameters, "seed": one.seed, "values": curve})
    rows.sort(key=lambda row: (row["seed"], key_of(row["stratum"], row["parameters"])))
    lines = ",\n".join(json.dumps(row) for row in rows)
    TABLE.write_text(f'{{"schema": "harness.curves/1", "space": "{SPACE.name}", "curves": [\n{lines}\n]}}\n')
    print(f"{len(rows)} curves -> {TABLE.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["record"])
    parser.add_argument("home", nargs="?", type=Path)
    parser.add_argument("--policy", choices=POLICIES, nargs="+", default=list(POLICIES))
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    given = parser.parse_args()
    if given.what == "record":
        record(given.home)
        return
    recording = Recording.read(given.table)
    for name in given.policy:
        for training_seed in recording.seeds:
            for seed in given.seeds:
                for way in replay(POLICIES[name], recording, training_seed=training_seed, seed=seed):
                    about = f"{name:<12} seed {seed}, trained with {training_seed:>3}, {way.stratum:<9}"
                    print(f"{about} {verdict(way, recording.best(training_seed, way.stratum))}", flush=True)


def verdict(way: Replayed, truth: Sequence[str]) -> str:
    """What the policy found, by the grid's order of cells."""
    place, found = truth.index(way.ranked[0]) + 1, len(set(truth[:3]) & set(way.ranked[:3]))
    return f"{way.epochs:>4} epochs; its best is the grid's number {place}, {found} of the top 3"


if __name__ == "__main__":
    main()
