"""The controller: ask -> submit -> events -> tell. The only writer of trial records, of Optuna and of MLflow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from harness.config.cells import DataFacts, resolve
from harness.config.space import SearchSpace
from harness.errors import HarnessError
from harness.execute.base import Event, Executor, Job, Message
from harness.files import read_json
from harness.study import StratumStudy
from harness.sweep.book import Book
from harness.sweep.clock import Clock
from harness.sweep.failures import Breaker, Losses, action_for, disk_full_error, halved, stopping_error
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record, completed, now, paused, search_runs, seconds_trained
from harness.sweep.past import as_past
from harness.sweep.progress import Running, Screen, finished_line, slot_line, summary_line
from harness.sweep.rungs import early_note, pause_of
from harness.sweep.search import Search
from harness.sweep.sidejobs import SideJobs
from harness.sweep.titles import Titles
from harness.trial.folder import TrialFolder

# What has not answered a Ctrl-C by then is cut off and continues from its last epoch. With CLOSE_TIMEOUT_S of the
# executor and the outbox's last 2 + 3 s, a worker or a server that hangs leaves a clean state within 10 s.
STOP_TIMEOUT_S = 4.0
POLL_S = 0.25


class Mirror(Protocol):
    """Where trial folders are projected to, in the background (see harness.tracking)."""

    def touch(self, files: TrialFolder) -> None:
        """The trial folder changed."""

    @property
    def status(self) -> str | None:
        """A line about trouble, or None."""


class Controller:
    """Runs the trials of one generation until the budget is used or nothing is left."""

    def __init__(
        self,
        space: SearchSpace,
        facts: DataFacts,
        generation: GenerationFolder,
        *,
        executor: Executor,
        studies: Mapping[str, StratumStudy],
        mirror: Mirror,
        screen: Screen,
        interrupted: Callable[[], bool],
        first: Sequence[Job] = (),
    ) -> None:
        self.space, self.facts, self.generation = space, facts, generation
        self.executor, self.studies, self.mirror, self.screen = executor, studies, mirror, screen
        self._book = Book(generation, mirror.touch)
        self.records: Mapping[str, Record] = self._book.records
        self.interrupted = interrupted
        self.out_of_time = False
        self.epochs_trained = 0
        self.fatal: HarnessError | None = None
        self._running: dict[Job, Running] = {}
        self._pruning: set[str] = set()
        self._losses = Losses()
        self._late: set[str] = set()  # told to stop, for having trained longer than `timeout`
        self._breaker = Breaker()
        self._early_told = False
        self._titles = Titles(space, generation)
        self._clock = Clock(generation)
        self._side = SideJobs(space, generation, first)
        self.search = Search(
            space, facts, generation, self._book, studies, clock=self._clock, end=self._end, note=screen.note
        )
        self._waiting = deque(self._reconcile())

    def run(self, *, wall_s: float | None = None) -> None:
        """Train until done or out of time, and export; or until interrupted, or stopped by a fault."""
        self._clock.wall_s = wall_s
        self.out_of_time = self._clock.is_over
        with self.screen.sweep():
            while not (self.interrupted() or self.fatal):
                self._fill_slots()
                if not self._running:
                    break
                self._handle_all(self.executor.messages(POLL_S))
                self._tick()
            self._stop_running()
        self._clock.write()

    def _reconcile(self) -> list[str]:
        """Bring records and studies to agree with the folders; returns the trials to continue."""
        waiting = []
        for uid, record in sorted(self.records.items(), key=lambda item: item[1].number):
            folder = self._book.folder(uid)
            if not record.is_final:
                if folder.accept_finished():  # killed between the worker's last word and the record
                    record = completed(record, folder)
                else:
                    if record.state != "paused":
                        record = record.model_copy(update={"state": "waiting"})
                        waiting.append(uid)
                    self._refresh_places(record, folder)
                self._book.save(record)
        for name, study in self.studies.items():
            members = [record for record in search_runs(self.records.values()) if record.stratum == name]
            study.restore(as_past(record, self._book.folder(record.uid).path) for record in members)
        return waiting

    def _refresh_places(self, record: Record, folder: TrialFolder) -> None:
        """Data and imported parts may lie elsewhere by now; where they lie is not part of what is computed."""
        spec = halved(resolve(self.space, self.facts, record.parameters, seed=record.seed), record.halved)
        if spec.fingerprint == record.fingerprint:
            folder.write_spec(spec)

    def _fill_slots(self) -> None:
        while self.executor.free() > 0:
            job = self._next_job()
            if job is None:
                return
            spec_epochs, earlier_s = 0, 0.0
            if job.task == "train":
                folder = TrialFolder(job.folder)
                spec_epochs, earlier_s = folder.read_spec().train.epochs, seconds_trained(folder)
                self._book.change(folder.uid, state="running")
            name = self._titles.of_job(job, self.records)
            self._running[job] = Running(name=name, epochs=spec_epochs, earlier_s=earlier_s)
            self.executor.submit(job)

    def _next_job(self) -> Job | None:
        if not self.out_of_time and not self.search.finished:
            if self._side.before_trials:
                return self._side.next_before()
            uid = self._waiting.popleft() if self._waiting else self.search.next()
            if uid is not None:
                return self._attempt(uid)
        trials = (self.records[job.folder.name] for job in self._running if job.task == "train")
        searching = any(record.replicate_of is None for record in trials)
        return self._side.next_after(self.records.values(), searching=searching, trained=self.epochs_trained > 0)

    def _attempt(self, uid: str) -> Job:
        folder = self._book.folder(uid)
        return Job(folder.path, folder.new_attempt().number, pause=pause_of(self.space, self.records[uid]))

    def _handle_all(self, messages: list[Message]) -> None:
        for message in messages:
            running = self._running.get(message.job)
            if running is not None:
                self._handle(message.job, running, message.event)

    def _handle(self, job: Job, running: Running, event: Event) -> None:
        uid = job.folder.name
        match event["event"]:
            case "started":
                running.begun = time.monotonic()  # on a cluster, hours after it was submitted
            case "epoch":
                self._on_epoch(job, running, event)
            case "finished":
                del self._running[job]
                self._on_finished(uid, job, event)
            case "lost":
                del self._running[job]
                if job.task == "train":
                    self._on_lost(uid, job, event)
                else:
                    self._on_side_end(job, running, event)
            case "exported" | "prepared" | "sketched":
                del self._running[job]
                self._on_side_end(job, running, event)
        if job.task in ("train", "export"):
            self.mirror.touch(TrialFolder(job.folder))

    def _on_epoch(self, job: Job, running: Running, event: Event) -> None:
        uid, objective = job.folder.name, event["objective"]
        running.epoch, running.objective = event["epoch"], objective
        self._losses.trained(uid)
        self.epochs_trained += 1
        if objective is None or self.records[uid].replicate_of is not None:
            return
        study = self.studies[self.records[uid].stratum]
        study.report(uid, event["epoch"], objective)
        if event["epoch"] < running.epochs and uid not in self._pruning and study.should_prune(uid):
            self._pruning.add(uid)
            self._book.change(uid, pruned_epoch=event["epoch"])
            self.executor.stop(job)

    def _on_finished(self, uid: str, job: Job, event: Event) -> None:
        folder, record = self._book.folder(uid), self.records[uid]
        state = event["state"]
        if state == "complete":
            folder.accept(folder.attempt(job.attempt))
            self._end(completed(record, folder))
        elif state == "paused":
            self._on_paused(paused(record, folder))
        elif state == "stopped" and uid in self._pruning:
            self._end(record.model_copy(update={"state": "pruned", "finished": now()}))
        elif state == "stopped" and uid in self._late:
            self._on_failure(record, job, "timeout", f"trained longer than {self.space.timeout:g} s")
        elif state == "stopped":
            self._wait(record)
        else:
            self._on_failure(record, job, event["cause"] or "error", event["message"] or "no message")

    def _on_paused(self, record: Record) -> None:
        self._book.save(record)
        self._pruning.discard(record.uid)
        self._late.discard(record.uid)  # told to stop in the moment in which it paused
        self.studies[record.stratum].paused(record.uid)
        self._breaker.completed()
        self.screen.note(finished_line(record, self._titles.of(record), None))
        if record.rung == 0 and not self._early_told:
            self._note_early(record)

    def _note_early(self, record: Record) -> None:
        """Say it once if the first rung comes too early to judge by."""
        folder = self._book.folder(record.uid)
        patches = [event["patches"]["train"] for event in folder.attempts()[-1].read_events() if "patches" in event]
        if patches and record.pruned_epoch:
            note = early_note(folder.read_spec().train, patches=patches[0], epoch=record.pruned_epoch)
            self._early_told = note is not None
            if note is not None:
                self.screen.note(note)

    def _on_lost(self, uid: str, job: Job, event: Event) -> None:
        self._pruning.discard(uid)
        self._late.discard(uid)
        self._losses.note(uid, event.get("cause", "lost"))
        self._on_failure(self.records[uid], job, event.get("cause", "lost"), event["message"])

    def _on_failure(self, record: Record, job: Job, cause: str, message: str) -> None:
        """A trial's run ended badly: continue it, train it in smaller parts, record it, or stop the sweep."""
        folder = self._book.folder(record.uid)
        if cause == "disk_full":
            self._wait(record)
            self.fatal = disk_full_error(folder.path)
            return
        spec = folder.read_spec()
        action = action_for(cause, self.space.on_failure, lost=self._losses.of(record.uid, cause), spec=spec)
        title = self._titles.of_job(job, self.records)
        if action == "resume":
            self.screen.note(f"lost    {title}: {message}; it continues from its last epoch")
            self._wait(record)
            self._waiting.append(record.uid)
        elif action == "halve":
            smaller = halved(spec)
            self.screen.note(f"memory  {title}: {message}; again with its batch in {smaller.train.accumulate} parts")
            # The spec first: a kill in between leaves it waiting with a spec that `_refresh_places` puts right.
            folder.write_spec(smaller)
            update = {"halved": record.halved + 1, "fingerprint": smaller.fingerprint}
            self._wait(record.model_copy(update=update))
            self._waiting.append(record.uid)
        else:
            cause = "lost" if cause == "evicted" else cause
            self._end(record.model_copy(update={"state": "failed", "cause": cause, "message": message,
                                                "finished": now()}))  # fmt: skip
            tripped = self._breaker.failed(cause, message, folder.path)
            self.fatal = self.fatal or (stopping_error(cause, message) if action == "stop" else tripped)

    def _wait(self, record: Record) -> None:
        self._book.save(record.model_copy(update={"state": "waiting"}))

    def _end(self, record: Record) -> None:
        """A trial reached its final state: record, study, screen."""
        self._book.save(record)
        self._pruning.discard(record.uid)
        self._late.discard(record.uid)
        if record.state != "failed":
            self._breaker.completed()
        if record.replicate_of is None:
            self.studies[record.stratum].finished(record.uid, record.state, record.value)
        folder = self._book.folder(record.uid)
        result = read_json(folder.result) if record.state == "complete" else None
        self.screen.note(finished_line(record, self._titles.of(record), result))

    def _on_side_end(self, job: Job, running: Running, event: Event) -> None:
        ended = self._side.ended(job, event, running.name)
        self.fatal = ended.fatal or self.fatal
        if ended.note is not None:
            self.screen.note(ended.note)

    def _stop_running(self) -> None:
        """Ask what still runs to stop; after a while the rest is cut off. All of it continues at the next start."""
        for job in self._running:
            self.executor.stop(job)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._running and time.monotonic() < deadline:
            self._handle_all(self.executor.messages(POLL_S))
        for job in self._running:
            if job.task == "train":
                self._wait(self.records[job.folder.name])

    def _tick(self) -> None:
        if not self.out_of_time and self._clock.is_over:
            self.out_of_time = True
            for job in self._running:
                if job.task == "train":
                    self.executor.stop(job)
        self._stop_late()
        self._clock.tick()
        lines = [summary_line(self.records, self.search.wanted, self.space.objective, self._clock.started)]
        lines += [slot_line(running) for running in self._running.values()]
        trouble = self.mirror.status
        self.screen.show([*lines, *([f"  {trouble}"] if trouble else [])])

    def _stop_late(self) -> None:
        """Stop trials that have trained longer than `timeout`, earlier attempts included."""
        if self.space.timeout is None:
            return
        for job, running in self._running.items():
            spent_s = running.earlier_s + time.monotonic() - (running.begun or time.monotonic())
            if job.task == "train" and spent_s > self.space.timeout and job.folder.name not in self._late:
                self._late.add(job.folder.name)
                self.executor.stop(job)
