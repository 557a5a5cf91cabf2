"""How many trials one controller can hand out and take back, and whether any is ever counted twice.

python benchmarks/dispatch.py [--dispatches 10000] [--slots 64] [--calm] [--storage URL] [--projected 30]

The trials do no work: what a worker would have written is there at once, as files with the same fsyncs. Unless
`--calm`, workers are lost, slots are taken away, workers that were given up go on writing and finish their stale
attempts later, and messages about jobs that are over arrive again. In the end every trial must be complete once only,
with the result of the attempt that was accepted, in the folders and in Optuna's storage. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import sys
import time
from collections import Counter, deque
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from harness.config.cells import DataFacts, combinations, resolve, strata_of
from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.data.phantom import Phantom, synthesize
from harness.durable import newest, storage_outbox, studies_of
from harness.execute.base import Executor, Job, Message
from harness.execute.inline import InlineExecutor
from harness.execute.work import Workplace
from harness.files import fsync_folder, read_json
from harness.study import StratumStudy, open_storage
from harness.sweep.controller import Controller
from harness.sweep.invariants import check_folders
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.prepare import open_generation, prepare_data
from harness.sweep.progress import Screen
from harness.sweep.vocabulary import CHECKS
from harness.tracking.outbox import Projector
from harness.tracking.store import tracking_store
from harness.trial.folder import TrialFolder

EPOCHS = 2
SPACE = """name: dispatch
seed: 3
data: {root: ROOT, split: {validation: 0.34, seed: 1}}
labels: {unicorn3: builtin}
parameters:
  architecture: {value: unet_plain}
  decoder_channels: {value: [4, 4, 4, 4, 4]}
  patch_px: {value: 32}
  learning_rate: {min: 1e-5, max: 1e-2, log: true}
train: {epochs: 2, batch_size: 16, stop_patience: null, augment: none}
method: random
budget: {trials: TRIALS}
export: none
"""


class ZeroWork(Executor):
    """Does what a worker leaves behind, at once; `chaos` decides what goes wrong, and None lets all go well."""

    def __init__(self, slots: int, outputs: Path, events: list[dict[str, Any]], chaos: random.Random | None) -> None:
        self._slots, self._outputs, self._events, self._chaos = slots, outputs, events, chaos
        self._busy: deque[Job] = deque()
        self._stale: list[Job] = []  # whose workers were given up, and go on
        self._over: list[Job] = []
        self.counts: Counter[str] = Counter()

    @property
    def slots(self) -> int:
        return self._slots

    def free(self) -> int:
        return self._slots - len(self._busy)

    def submit(self, job: Job) -> None:
        self._busy.append(job)
        self.counts["dispatches"] += 1

    def messages(self, timeout_s: float) -> list[Message]:
        found: list[Message] = []
        while self._busy:
            found += self._done(self._busy.popleft())
        if self._chaos is not None:
            found += self._late()
        return found

    def stop(self, job: Job) -> None:
        self._busy = deque(one for one in self._busy if one != job)

    def close(self) -> None:
        self._busy.clear()

    def _done(self, job: Job) -> list[Message]:
        if job.task != "train":
            return [Message(job, {"event": "sketched", "message": None})]
        fate = "finished" if self._chaos is None else self._chaos.choices(
            ["finished", "lost", "evicted", "stale"], [80, 4, 12, 4])[0]  # fmt: skip
        self.counts[fate] += 1
        if fate == "finished":
            events = self._finish(job)
            self._over.append(job)
            return [Message(job, event) for event in events]
        TrialFolder(job.folder).attempt(job.attempt).append_event(dict(self._events[0]))
        if fate == "stale":
            self._stale.append(job)
        cause = "lost" if fate == "lost" else "evicted"
        return [Message(job, self._events[0]), Message(job, {"event": "lost", "message": fate, "cause": cause})]

    def _finish(self, job: Job) -> list[dict[str, Any]]:
        """Write an attempt to its end."""
        attempt = TrialFolder(job.folder).attempt(job.attempt)
        shutil.copytree(self._outputs, attempt.outputs, dirs_exist_ok=True)
        fsync_folder(attempt.outputs)
        for event in self._events:
            attempt.append_event(dict(event))
        return self._events

    def _late(self) -> list[Message]:
        """Workers that were given up come to their end, whatever became of their trials; old words come again."""
        assert self._chaos is not None
        found = []
        while self._stale and self._chaos.random() < 0.5:
            job = self._stale.pop(0)
            self.counts["stale attempts that finished"] += 1
            found += [Message(job, event) for event in self._finish(job)]
        for _ in range(self._chaos.randrange(4) if self._over else 0):
            self.counts["repeated words"] += 1
            found.append(Message(self._chaos.choice(self._over), self._events[-1]))
        return found


class Nobody:
    """No tracker: this measures the controller."""

    status: str | None = None

    def touch(self, files: TrialFolder) -> None:
        """Nothing is copied."""


def measured(
    folder: Path, *, dispatches: int, slots: int, calm: bool, url: str | None, projected: int
) -> dict[str, Any]:
    """Run it; the figures, and in `wrong` whatever is not as it must be."""
    trials = dispatches if calm else int(dispatches * 0.8)
    data = synthesize(folder / "regions", Phantom(patients=4, roi_px=128, tiny_share=0.0))
    file = folder / "dispatch.yaml"
    file.write_text(SPACE.replace("ROOT", f'"{data}"').replace("TRIALS", str(trials)), encoding="utf-8")
    space, home = load_space(file, checks=CHECKS), Home(folder / "home")
    home.path.mkdir()
    screen = Screen(Console(file=io.StringIO(), force_terminal=False))
    prepared = prepare_data(space, home, screen)
    generation = open_generation(home.sweep(space.name), space, prepared, yaml=file.read_text(), command=["benchmark"])
    (stratum,) = strata_of(space)
    storage, outbox = open_storage(url or home.optuna_url), storage_outbox()
    study = StratumStudy(space, stratum, name=f"{space.name}/default/g1", storage=storage, outbox=outbox)
    outputs, events = one_real_trial(folder, space, prepared.facts)
    executor = ZeroWork(slots, outputs, events, None if calm else random.Random(7))
    controller = Controller(space, prepared.facts, generation, executor=executor, studies={stratum.name: study},
                            mirror=Nobody(), screen=screen, interrupted=lambda: False)  # fmt: skip
    began, cpu = time.perf_counter(), time.process_time()
    controller.run()
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    behind = time.perf_counter()
    outbox.drain(3600)
    caught_up_s = time.perf_counter() - behind
    outbox.close()
    tracked = projected_rate(generation, home, projected) if projected else {}
    wrong = [finding.what for finding in check_folders(home.sweep(space.name), hashes=False)]
    wrong += doubles(controller, url or home.optuna_url, trials)
    return {
        "trials": trials, "slots": slots, "calm": calm, "storage": (url or "sqlite").split(":")[0],
        "seconds": round(seconds, 1), "cpu_seconds": round(cpu_s, 1),
        "trials_per_second": round(trials / seconds, 1), "storage_behind_s": round(caught_up_s, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "counts": dict(executor.counts), **tracked, "wrong": wrong,
    }  # fmt: skip


def projected_rate(generation: GenerationFolder, home: Home, trials: int) -> dict[str, Any]:
    """Copy so many of the trials into MLflow (MLFLOW_TRACKING_URI, else SQLite), and time it."""
    store = tracking_store(home.path, os.environ)
    projector = Projector(generation.path, store, every_s=0.0)
    projector.sweep_changed("running")
    projector.drain(300)  # the tables of a new store, and the experiment
    folders = list(generation.trial_folders())[:trials]
    began, cpu = time.perf_counter(), time.process_time()
    for folder in folders:
        projector.touch(folder)
    done = projector.drain(3600)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    projector.close()
    results = [file for folder in folders for file in folder.path.rglob("*")
               if file.is_file() and "attempts" not in file.parts]  # fmt: skip
    return {
        "mlflow": {
            "store": "embedded" if store.embedded else "server", "trials": len(folders), "done": done,
            "failures": list(projector.failures), "seconds_a_trial": round(seconds / len(folders), 3),
            "cpu_seconds_a_trial": round(cpu_s / len(folders), 3), "files_a_trial": len(results) // len(folders),
            "bytes_a_trial": sum(file.stat().st_size for file in results) // len(folders),
        }
    }  # fmt: skip


def one_real_trial(folder: Path, space: SearchSpace, facts: DataFacts) -> tuple[Path, list[dict[str, Any]]]:
    """(outputs, events) of a real training, to be copied."""
    (stratum,) = strata_of(space)
    row = {**next(iter(combinations(space, stratum))), "learning_rate": 0.001}
    trial = TrialFolder(folder / "template")
    trial.path.mkdir()
    trial.write_spec(resolve(space, facts, row, seed=space.seed))
    job = Job(trial.path, trial.new_attempt().number)
    inline = InlineExecutor(Workplace(folder / "stores"), lambda: False)
    inline.submit(job)
    inline.messages(0)
    attempt = trial.attempt(1)
    return attempt.outputs, attempt.read_events()


def doubles(controller: Controller, url: str, trials: int) -> list[str]:
    """Trials that are not there once, or whose accepted attempt is not the one of their record; the same in Optuna."""
    wrong = []
    states = Counter(record.state for record in controller.records.values())
    given_up = states.pop("failed", 0)  # lost three times: recorded, as promised
    if states != {"complete": trials - given_up}:
        wrong.append(f"states are {dict(states)}")
    settings = Counter(json.dumps(record.parameters, sort_keys=True) for record in controller.records.values())
    if max(settings.values()) > 1:
        wrong.append("two trials have the same parameters")
    for record in controller.records.values():
        if record.state == "complete":
            folder = TrialFolder(controller.generation.trials / record.uid)
            if read_json(folder.manifest)["attempt"] != record.accepted_attempt:
                wrong.append(f"{record.uid}: another attempt was accepted than its record says")
    (told,) = studies_of(open_storage(url), prefix="dispatch/").values()
    if len(told) != trials or len(newest(told)) != trials:
        wrong.append(f"Optuna has {len(told)} trials, of {len(newest(told))} names")
    if (
        Counter(trial.state for trial in told)
        != Counter({"complete": trials - given_up, "failed": given_up}) - Counter()
    ):
        wrong.append(f"Optuna has {dict(Counter(trial.state for trial in told))}")
    return wrong


def main() -> int:
    """0 when nothing is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dispatches", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--calm", action="store_true")
    parser.add_argument("--projected", type=int, default=0)
    parser.add_argument("--storage", default=os.environ.get("HARNESS_STORAGE"))
    given = parser.parse_args()
    with TemporaryDirectory(prefix="dispatch ") as folder:
        found = measured(
            Path(folder), dispatches=given.dispatches, slots=given.slots, calm=given.calm, url=given.storage,
            projected=given.projected,
        )  # fmt: skip
    print(json.dumps(found, indent=1))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
