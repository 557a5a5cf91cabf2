"""`harness sweep` from a loaded space to an exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from harness.config.cells import strata_of
from harness.config.space import PHANTOM, SearchSpace
from harness.durable import storage_outbox
from harness.errors import Interrupted, NothingCompleted, Refused, TrialsFailed
from harness.execute.base import Executor
from harness.execute.choose import Chosen, Kind, Site
from harness.files import is_disk_full, write_json
from harness.report.wording import plural
from harness.study import StratumStudy, open_storage
from harness.sweep.changes import carried_out, change_of
from harness.sweep.claiming import too_few
from harness.sweep.controller import Controller
from harness.sweep.copies import Copies
from harness.sweep.doctor import at_start
from harness.sweep.failures import disk_full_error
from harness.sweep.firstjobs import first_jobs
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.lock import held
from harness.sweep.prepare import Prepared, open_generation, prepare_data
from harness.sweep.progress import Screen
from harness.sweep.storage_lock import held_in_storage
from harness.tracking.outbox import Projector
from harness.tracking.store import tracking_store


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for beyond the space."""

    yaml: str
    command: Sequence[str]
    executor: Kind = "local"
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
    if request.storage is None or tracking_store(home.path, os.environ).embedded:
        home.refuse_network_file_system()
    try:
        with (
            held(home.sweep(space.name)),
            held_in_storage(request.storage, space.name) as taken_by,
            _Signals() as signals,
        ):
            at_start(home.sweep(space.name), screen.note)
            return _Run(space, home, request, screen, write_report, signals, taken_by).to_end()
    except Exception as error:
        if is_disk_full(error):
            raise disk_full_error(home.path) from None
        raise


@dataclass(frozen=True, slots=True)
class _Run:
    """One call of `run_sweep`."""

    space: SearchSpace
    home: Home
    request: Request
    screen: Screen
    write_report: Callable[[GenerationFolder], Path]
    signals: _Signals
    taken_by: Callable[[], str | None]  # who else holds the sweep in a shared database by now

    def to_end(self) -> Outcome:
        request, space, sweep = self.request, self.space, self.home.sweep(self.space.name)
        site = Site(space.name, self.home.path, self.home.stores, sweep.path / "workers", read_by_workers(space))
        # Workers import torch while this process reads the data.
        chosen = site.executor(request.executor, request.device, request.workers, space.resources, self.signals.came)
        executor = chosen.executor
        try:
            announce(space, self.home, chosen, self.screen)
            prepared = prepare_data(self.space, self.home, self.screen)
            change = change_of(sweep, self.space, prepared)
            write_json(sweep.slots, {"devices": list(chosen.devices)})
            generation = open_generation(sweep, self.space, prepared, yaml=request.yaml, command=request.command)
            if self.space.claims and (few := too_few(len(prepared.facts.split.validation))):
                self.screen.note(few)
            for line in carried_out(change, generation, self.space, self.screen):
                self.screen.note(line)
            copies = Copies(Projector(generation.path, tracking_store(self.home.path, os.environ)), storage_outbox())
            try:
                controller = self._controller(prepared, generation, executor, copies)
                return self._trained(controller, copies, devices=len(set(chosen.devices)))
            finally:
                copies.close()
        finally:
            executor.close()

    def _controller(
        self, prepared: Prepared, generation: GenerationFolder, executor: Executor, copies: Copies
    ) -> Controller:
        space, storage = self.space, open_storage(self.request.storage or self.home.optuna_url)
        studies = {
            stratum.name: StratumStudy(
                space,
                stratum,
                name=f"{space.name}/{stratum.name}/g{generation.number}",
                storage=storage,
                outbox=copies.optuna,
            )
            for stratum in strata_of(space)
        }
        return Controller(
            space,
            prepared.facts,
            generation,
            executor=executor,
            studies=studies,
            mirror=copies,
            screen=self.screen,
            interrupted=lambda: self.signals.came() or self.taken_by() is not None,
            first=first_jobs(space, prepared.facts, generation),
        )

    def _trained(self, controller: Controller, copies: Copies, *, devices: int) -> Outcome:
        """Train, bring the databases up to date, write the report."""
        copies.sweep_changed("running")
        for folder in controller.generation.trial_folders():
            copies.touch(folder)
        with self.signals.held_back():
            controller.run(wall_s=self.space.budget.wall_s(devices))
        if (other := self.taken_by()) is not None:
            raise Refused(f"the sweep {self.space.name!r} was taken over by {other} while its database was away")
        if self.signals.came():
            copies.sweep_changed("stopped")
            copies.leave()
            raise Interrupted("stopped; the same command continues where this one was")
        copies.sweep_changed("failed" if controller.fatal else "finished")
        if controller.fatal is not None and not isinstance(controller.fatal, TrialsFailed):
            copies.leave()  # whoever mends the cause runs the command again
            raise controller.fatal
        copies.catch_up(self.screen)
        if controller.search.finished and not controller.epochs_trained:
            self.screen.note("nothing left to train: every trial of this sweep is finished (0 epochs)")
        with self.screen.step("writing the report"):
            report = self.write_report(controller.generation)
        copies.attach(report.parent)
        copies.catch_up(self.screen)
        states = [record.state for record in controller.records.values()]
        if controller.fatal is not None:
            self.screen.note(str(controller.fatal))
        return Outcome(
            generation=controller.generation,
            complete=states.count("complete"),
            pruned=states.count("pruned"),
            failed=states.count("failed"),
            epochs_trained=controller.epochs_trained,
            report=report,
            out_of_time=controller.out_of_time,
        )


def read_by_workers(space: SearchSpace) -> list[Path]:
    """What workers read beside the home: the data, and the folders of imported parts."""
    data = [] if space.data.root == PHANTOM else [Path(space.data.root).expanduser().resolve()]
    return [*data, *(Path(part.folder) for part in space.imports.values())]


def announce(space: SearchSpace, home: Home, chosen: Chosen, screen: Screen) -> None:
    """What is about to happen, and where everything goes."""
    store = tracking_store(home.path, os.environ)
    screen.note(f"sweep {space.name}: {len(strata_of(space))} strata, {space.budget.trials} trials each at most")
    screen.note(f"home {home.path}; MLflow {store.printable}; {chosen.where}")
    if space.replicate is not None:
        seeds = len(space.replicate.seeds)
        screen.note(f"then the best {space.replicate.top} of each stratum again, {seeds} fresh seeds each")
    if space.claims:
        screen.note(
            f"then {plural(len(space.claims), 'claim')}, 3 to {space.claim_seeds} fresh seeds a side, until decided"
        )


class _Signals:
    """What SIGINT, SIGTERM and SIGHUP do: end the command by Interrupted, or, while `held_back`, only be noted.

    A second one ends the process at once, as if nothing caught it; workers hear their pipe close.
    """

    def __init__(self) -> None:
        self._came = self._held_back = False
        self._before: dict[signal.Signals, Any] = {}

    def came(self) -> bool:
        """Whether one came."""
        return self._came

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Within it, whoever works asks `came` and stops in good order."""
        self._held_back = True
        yield
        self._held_back = False

    def __enter__(self) -> _Signals:
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[name] = signal.signal(name, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        for name in self._before:
            signal.signal(name, signal.SIG_DFL)
        if not self._held_back:
            raise Interrupted("stopped; the same command continues where this one was")
