"""`harness sweep` from a loaded space to an exit code."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from harness.config.cells import strata_of
from harness.config.space import SearchSpace
from harness.errors import Interrupted, NothingCompleted, TrialsFailed
from harness.execute.base import Executor
from harness.execute.devices import workplaces
from harness.execute.inline import InlineExecutor
from harness.execute.local import LocalExecutor
from harness.study import StratumStudy, open_storage
from harness.sweep.controller import Controller
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.lock import held
from harness.sweep.prepare import Prepared, open_generation, prepare_data
from harness.sweep.progress import Screen
from harness.tracking.outbox import Projector
from harness.tracking.store import tracking_store

# Long enough for the artifacts of many trials; an MLflow server that is away is caught up with at the next start.
DRAIN_TIMEOUT_S = 60.0
DRAIN_AFTER_INTERRUPT_S = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for beyond the space."""

    yaml: str
    command: Sequence[str]
    executor: Literal["local", "inline"] = "local"
    device: str = "auto"
    workers: int | None = None
    storage: str | None = None  # an SQLAlchemy URL for Optuna; None: SQLite in the home


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a sweep ended."""

    generation: GenerationFolder
    complete: int
    pruned: int
    failed: int
    epochs_trained: int
    report: Path | None
    out_of_time: bool

    def raise_for_exit_code(self) -> None:
        """TrialsFailed or NothingCompleted, if so."""
        if not self.complete:
            raise NothingCompleted(f"no trial completed; the reasons are in {self.report or self.generation.path}")
        if self.failed:
            raise TrialsFailed(f"{self.failed} trials failed; the reasons are in {self.report or self.generation.path}")


def run_sweep(
    space: SearchSpace,
    home: Home,
    request: Request,
    screen: Screen,
    write_report: Callable[[GenerationFolder], Path],
) -> Outcome:
    """Run (or continue) a sweep to its end: trials, exports, report. Interrupted after a clean stop by a signal."""
    sweep = home.sweep(space.name)
    if request.storage is None:
        home.refuse_network_file_system()
    with held(sweep), _signals() as interrupted:
        places = workplaces(request.device, request.workers, stores=home.stores)
        places = places[:1] if request.executor == "inline" else places
        announce(space, home, places[0].device, len(places), screen)
        # Workers import torch while this process reads the data.
        executor: Executor = (
            InlineExecutor(places[0], interrupted)
            if request.executor == "inline"
            else LocalExecutor(places, logs=sweep.path / "workers")
        )
        try:
            prepared = prepare_data(space, home, screen)
            generation = open_generation(sweep, space, prepared, yaml=request.yaml, command=request.command)
            projector = Projector(generation.path, tracking_store(home.path, os.environ))
            try:
                return _run(
                    space,
                    prepared,
                    generation,
                    home,
                    request,
                    executor,
                    projector,
                    screen,
                    write_report,
                    interrupted,
                )
            finally:
                projector.close()
        finally:
            executor.close()


def _run(
    space: SearchSpace,
    prepared: Prepared,
    generation: GenerationFolder,
    home: Home,
    request: Request,
    executor: Executor,
    projector: Projector,
    screen: Screen,
    write_report: Callable[[GenerationFolder], Path],
    interrupted: Callable[[], bool],
) -> Outcome:
    storage = open_storage(request.storage or home.optuna_url)
    studies = {
        stratum.name: StratumStudy(
            space, stratum, name=f"{space.name}/{stratum.name}/g{generation.number}", storage=storage
        )
        for stratum in strata_of(space)
    }
    controller = Controller(
        space, prepared.facts, generation, executor=executor, studies=studies, mirror=projector, screen=screen,
        interrupted=interrupted,
    )  # fmt: skip
    projector.sweep_changed("running")
    for folder in generation.trial_folders():
        projector.touch(folder)
    controller.run()
    if interrupted():
        projector.sweep_changed("stopped")
        projector.drain(DRAIN_AFTER_INTERRUPT_S)
        raise Interrupted("stopped; the same command continues where this one was")
    projector.sweep_changed("failed" if controller.fatal else "finished")
    _catch_up(projector, screen)
    if controller.fatal:
        raise controller.fatal
    if not controller.epochs_trained:
        screen.note("nothing left to train: every trial of this sweep is finished (0 epochs)")
    with screen.step("writing the report"):
        report = write_report(generation)
    projector.attach(report.parent)
    _catch_up(projector, screen)
    states = [record.state for record in controller.records.values()]
    return Outcome(
        generation=generation,
        complete=states.count("complete"),
        pruned=states.count("pruned"),
        failed=states.count("failed"),
        epochs_trained=controller.epochs_trained,
        report=report,
        out_of_time=controller.out_of_time,
    )


def announce(space: SearchSpace, home: Home, device: str, slots: int, screen: Screen) -> None:
    """What is about to happen, and where everything goes."""
    store = tracking_store(home.path, os.environ)
    screen.note(f"sweep {space.name}: {len(strata_of(space))} strata, {space.budget.trials} trials each at most")
    screen.note(f"home {home.path}; MLflow {store.printable}; {slots} {'slots' if slots > 1 else 'slot'} on {device}")
    if space.replicate is not None:
        screen.note("note: `replicate` is read but not active yet; every row of the report is one seed")
    if space.claims:
        screen.note("note: `claims` are read but not active yet")


def _catch_up(projector: Projector, screen: Screen) -> None:
    """Wait for MLflow to have everything; say so when it does not answer."""
    started = time.monotonic()
    with screen.step("bringing MLflow up to date"):
        done = projector.drain(DRAIN_TIMEOUT_S)
    if not done:
        reason = projector.status or f"not done after {time.monotonic() - started:.0f} s"
        screen.note(f"MLflow is not up to date ({reason}); the same command catches up, nothing is lost")
    for failure in projector.failures:
        screen.note(f"MLflow: {failure}")


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Yield whether SIGINT, SIGTERM or SIGHUP came; a second one ends the process at once, as if nothing caught it."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        for name in before:
            signal.signal(name, signal.SIG_DFL)

    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for name in before:
        signal.signal(name, note)
    try:
        yield lambda: came
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
