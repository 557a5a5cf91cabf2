"""The controller: ask -> submit -> events -> tell. The only writer of trial records, of Optuna and of MLflow."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from harness.config.cells import DataFacts, Stratum, resolve, strata_of
from harness.config.space import SearchSpace
from harness.config.spec import TrialSpec
from harness.errors import HarnessError
from harness.execute.base import Event, Executor, Job, Message
from harness.files import read_json
from harness.inference.claims import Arm
from harness.study import Proposal, StratumStudy
from harness.sweep.claiming import Claims
from harness.sweep.clock import Clock
from harness.sweep.failures import Breaker, Losses, action_for, disk_full_error, halved, stopping_error
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record, as_past, completed, now, read_records, seconds_trained, write_record
from harness.sweep.progress import Running, Screen, finished_line, slot_line, summary_line
from harness.sweep.replication import due, replicate_record, search_runs, searched_record, wanted_of
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
        self.strata = {stratum.name: stratum for stratum in strata_of(space)}
        self.records = read_records(generation)
        self.interrupted = interrupted
        self.out_of_time = False
        self.epochs_trained = 0
        self.fatal: HarnessError | None = None
        self._running: dict[Job, Running] = {}
        self._pruning: set[str] = set()
        self._losses = Losses()
        self._late: set[str] = set()  # told to stop, for having trained longer than `timeout`
        self._breaker = Breaker()
        self._exhausted: set[str] = set()
        self._titles = Titles(space, generation)
        self._clock = Clock(generation)
        self._side = SideJobs(space, generation, first)
        self._claims = Claims(space, generation, patients=len(facts.split.validation), chooses=True)
        self._claims.state(self.records)
        self._waiting = deque(self._reconcile())

    @property
    def wanted(self) -> int:
        """How many trials the sweep has in the end, as far as known now."""
        per_stratum, over = self._searched, self.search_over
        return sum(
            (per_stratum[name] if name in self._exhausted else max(self.space.budget.trials, per_stratum[name]))
            + wanted_of(self.space, name, self.records, self._claims, over=over)
            for name in self.strata
        )

    @property
    def _searched(self) -> Counter[str]:
        """Trials of the search per stratum."""
        return Counter(record.stratum for record in search_runs(self.records.values()))

    @property
    def search_over(self) -> bool:
        """Whether every trial of the search is there and has ended, so that its top is known."""
        started = self._searched
        full = all(name in self._exhausted or started[name] >= self.space.budget.trials for name in self.strata)
        return full and all(record.is_final for record in search_runs(self.records.values()))

    def run(self, *, wall_s: float | None = None) -> None:
        """Train until done or out of time, then export; or until interrupted, or stopped by a fault."""
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
            folder = self._folder(uid)
            if not record.is_final:
                if folder.accept_finished():  # killed between the worker's last word and the record
                    record = completed(record, folder)
                else:
                    record = record.model_copy(update={"state": "waiting"})
                    waiting.append(uid)
                    self._refresh_places(record, folder)
                self._save(record)
        for name, study in self.studies.items():
            members = [record for record in search_runs(self.records.values()) if record.stratum == name]
            study.restore(as_past(record, self._folder(record.uid).path) for record in members)
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
                self._save(self.records[folder.uid].model_copy(update={"state": "running"}))
            name = self._titles.of_job(job, self.records)
            self._running[job] = Running(name=name, epochs=spec_epochs, earlier_s=earlier_s)
            self.executor.submit(job)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        ended = all(record.is_final for record in self.records.values())
        return ended and self.search_over and next(due(self.space, self.records, self._claims), None) is None

    def _next_job(self) -> Job | None:
        if not self.out_of_time and not self.finished:
            if self._side.before_trials:
                return self._side.next_before()
            job = self._next_training()
            if job is not None:
                return job
        training = any(job.task == "train" for job in self._running)
        return self._side.next_after(self.records.values(), training=training, trained=self.epochs_trained > 0)

    def _next_training(self) -> Job | None:
        if self._waiting:
            return self._attempt(self._waiting.popleft())
        started = self._searched
        # Strata take turns, so that a time limit ends them evenly.
        for name in sorted(self.strata, key=lambda stratum: started[stratum]):
            if started[name] >= self.space.budget.trials or name in self._exhausted:
                continue
            proposal = self.studies[name].propose()
            if proposal is None:
                self._exhausted.add(name)
                continue
            return self._attempt(self._new_trial(self.strata[name], proposal, number=started[name]))
        if self.search_over and (replicate := next(due(self.space, self.records, self._claims), None)) is not None:
            return self._attempt(self._new_replicate(*replicate))
        return None

    def _new_trial(self, stratum: Stratum, proposal: Proposal, *, number: int) -> str:
        spec = resolve(self.space, self.facts, proposal.assignment, seed=self.space.seed)
        record = searched_record(self.space, self.generation.number, stratum, proposal, spec, number=number)
        self._begin(record, spec)
        self.studies[stratum.name].started(record.uid, proposal.assignment)
        return record.uid

    def _new_replicate(self, of: Arm, seed: int) -> str:
        spec = resolve(self.space, self.facts, of.parameters, seed=seed)
        record = replicate_record(self.space, self.generation.number, of, spec)
        self._begin(record, spec)
        return record.uid

    def _begin(self, record: Record, spec: TrialSpec) -> None:
        self._folder(record.uid).path.mkdir(parents=True, exist_ok=True)
        self._folder(record.uid).write_spec(spec)
        self._save(record)

    def _attempt(self, uid: str) -> Job:
        folder = self._folder(uid)
        return Job(folder.path, folder.new_attempt().number)

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
            self._save(self.records[uid].model_copy(update={"pruned_epoch": event["epoch"]}))
            self.executor.stop(job)

    def _on_finished(self, uid: str, job: Job, event: Event) -> None:
        folder, record = self._folder(uid), self.records[uid]
        state = event["state"]
        if state == "complete":
            folder.accept(folder.attempt(job.attempt))
            self._end(completed(record, folder))
        elif state == "stopped" and uid in self._pruning:
            self._end(record.model_copy(update={"state": "pruned", "finished": now()}))
        elif state == "stopped" and uid in self._late:
            self._on_failure(record, job, "timeout", f"trained longer than {self.space.timeout:g} s")
        elif state == "stopped":
            self._wait(record)
        else:
            self._on_failure(record, job, event["cause"] or "error", event["message"] or "no message")

    def _on_lost(self, uid: str, job: Job, event: Event) -> None:
        self._pruning.discard(uid)
        self._late.discard(uid)
        self._losses.note(uid, event.get("cause", "lost"))
        self._on_failure(self.records[uid], job, event.get("cause", "lost"), event["message"])

    def _on_failure(self, record: Record, job: Job, cause: str, message: str) -> None:
        """A trial's run ended badly: continue it, train it in smaller parts, record it, or stop the sweep."""
        folder = self._folder(record.uid)
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
        self._save(record.model_copy(update={"state": "waiting"}))

    def _end(self, record: Record) -> None:
        """A trial reached its final state: record, study, screen."""
        self._save(record)
        self._pruning.discard(record.uid)
        self._late.discard(record.uid)
        if record.state != "failed":
            self._breaker.completed()
        if record.replicate_of is None:
            self.studies[record.stratum].finished(record.uid, record.state, record.value)
        folder = self._folder(record.uid)
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
        lines = [summary_line(self.records, self.wanted, self.space.objective, self._clock.started)]
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

    def _save(self, record: Record) -> None:
        write_record(self._folder(record.uid), record)
        self.records[record.uid] = record
        self.mirror.touch(self._folder(record.uid))

    def _folder(self, uid: str) -> TrialFolder:
        return TrialFolder(self.generation.trials / uid)
