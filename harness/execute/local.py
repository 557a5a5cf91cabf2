"""Warm worker processes on this machine (`process.py`): many trials run in each, one at a time.

A worker needs no database and no credentials. It writes only its attempt's folder, tells what happens over a pipe, and
exits when the pipe closes, so a killed controller leaves no strays. A thread of it beats once a second; a busy worker
that is silent for the length of its lease (stopped, swapped out, hung in a file system) counts as lost: another one
takes its slot, and whatever it may still write lies in an attempt that nobody accepts.

Between two jobs a worker is replaced that ran out of memory or did `JOBS_A_WORKER` of them; whoever submits sees
nothing of it but another process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from harness.execute.base import ENDS, Event, Executor, Job, Message
from harness.execute.memory import out_of_memory_kills
from harness.execute.process import WorkerProcess
from harness.execute.work import Workplace, do_job, warm_up

# A worker between two batches answers a stop within a second; after that it is ended from outside.
CLOSE_TIMEOUT_S = 2.0
BEAT_EVERY_S = 1.0
LEASE_S = 60.0
# What native libraries leak, and how the heap is fragmented, ends with the process. A new one makes its networks anew,
# and where it is no fork it imports for 8 s: of a hundred trials of a minute each .1 %.
JOBS_A_WORKER = 100
# An idle worker whose pipe is closed ends by itself, after removing what it still has to of its last trial.
RETIRE_TIMEOUT_S = 10.0


@dataclass
class _Worker:
    place: Workplace
    log: Path
    process: WorkerProcess
    job: Job | None = None
    pending: list[Message] = field(default_factory=list)
    heard: float = field(default_factory=time.monotonic)  # when the controller last received anything from it
    memory_kills: int = field(default_factory=out_of_memory_kills)  # of the kernel, when it was started
    given_up: bool = False
    jobs: int = 0  # that it was given
    short_of_memory: bool = False  # a job failed for that: the allocator keeps what it has, in pieces


class LocalExecutor(Executor):
    """One process per workplace (a device share or a CPU core).

    `lease_s`: how long a busy worker may be silent; `end`: what is done to one that was. `jobs_a_worker`: after how
    many jobs a worker is replaced.
    """

    def __init__(
        self,
        places: list[Workplace],
        *,
        logs: Path,
        lease_s: float = LEASE_S,
        end: Callable[[WorkerProcess], None] = WorkerProcess.kill,
        jobs_a_worker: int = JOBS_A_WORKER,
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._lease_s, self._end, self._jobs_a_worker = lease_s, end, jobs_a_worker
        self._given_up: list[WorkerProcess] = []
        self._workers = [_started(place, logs / f"{index}.log") for index, place in enumerate(places)]

    @property
    def slots(self) -> int:
        return len(self._workers)

    def free(self) -> int:
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        index = next(i for i, worker in enumerate(self._workers) if worker.job is None)
        worker = self._workers[index]
        worn = worker.short_of_memory or worker.jobs >= self._jobs_a_worker
        if worn and not worker.given_up:
            _retire(worker)
        if worn or worker.given_up or not worker.process.is_alive():
            worker = self._workers[index] = _started(worker.place, worker.log)
        worker.job, worker.heard = job, time.monotonic()
        worker.jobs += 1
        try:
            worker.process.pipe.send(("do", job))
        except OSError:
            worker.pending.append(_lost(worker))

    def messages(self, timeout_s: float) -> list[Message]:
        found = [message for worker in self._workers for message in _taken(worker)]
        if found:
            return found
        for worker in self._workers:
            if worker.job is None and not worker.given_up:
                _ignore_beats(worker)
        busy = [worker for worker in self._workers if worker.job is not None]
        ready = wait([worker.process.pipe for worker in busy], timeout_s) if busy else []
        for worker in busy:
            if worker.process.pipe in ready:
                found += _received(worker)
            elif worker.process.is_starting:
                worker.heard = time.monotonic()
            elif time.monotonic() - worker.heard > self._lease_s:
                found.append(self._give_up(worker))
        return found

    def _give_up(self, worker: _Worker) -> Message:
        """A worker that fell silent: nothing that it still says is heard."""
        job, worker.job, worker.given_up = worker.job, None, True
        assert job is not None
        worker.process.pipe.close()
        self._end(worker.process)
        self._given_up.append(worker.process)
        message = f"the worker did not beat for {self._lease_s:g} s and was given up; its output is in {worker.log}"
        return Message(job, {"event": "lost", "message": message, "cause": "lost"})

    def stop(self, job: Job) -> None:
        for worker in self._workers:
            if worker.job == job:
                with contextlib.suppress(OSError):  # it died: `messages` will say so
                    worker.process.pipe.send(("stop", job))

    def close(self) -> None:
        for worker in self._workers:
            worker.process.pipe.close()
            if worker.job is None:  # nothing to write; it may still be importing, and hears the pipe only afterwards
                worker.process.terminate()
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        for process in (*(worker.process for worker in self._workers), *self._given_up):
            if not process.is_starting:  # that one will hear of its pipe first
                _ended(process, max(deadline - time.monotonic(), 0.0))


def _started(place: Workplace, log: Path) -> _Worker:
    return _Worker(place=place, log=log, process=WorkerProcess(_serve, place, log))


def _retire(worker: _Worker) -> None:
    """End an idle worker: its memory is free before another one starts."""
    worker.process.pipe.close()
    _ended(worker.process, RETIRE_TIMEOUT_S)


def _ended(process: WorkerProcess, timeout_s: float) -> None:
    """Wait for the end of a process; after a while end it from outside."""
    process.join(timeout_s)
    if process.is_alive():
        process.kill()  # ends one that is stopped, too
        process.join()


def _taken(worker: _Worker) -> list[Message]:
    pending, worker.pending = worker.pending, []
    return pending


def _received(worker: _Worker) -> list[Message]:
    """All events that lie in the worker's pipe; a closed pipe means it is lost."""
    found: list[Message] = []
    while worker.job is not None:
        try:
            if not worker.process.pipe.poll():
                break
            event: Event = worker.process.pipe.recv()
        except (EOFError, OSError):
            found.append(_lost(worker))
            break
        worker.heard = time.monotonic()
        if event["event"] == "beat":
            continue
        found.append(Message(worker.job, event))
        if event["event"] in ENDS:
            worker.job = None
            worker.short_of_memory = event.get("cause") == "out_of_memory"
    return found


def _ignore_beats(worker: _Worker) -> None:
    """Empty the pipe of a worker that has nothing to do: it says nothing but that it is there."""
    with contextlib.suppress(EOFError, OSError):
        while worker.process.pipe.poll():
            worker.process.pipe.recv()


def _lost(worker: _Worker) -> Message:
    job = worker.job
    assert job is not None
    worker.job = None
    worker.process.join(1.0)
    code = worker.process.exit_code
    if code is not None and code < 0:
        how = f"by signal {signal.Signals(-code).name}"
    else:
        how = "before it began" if worker.process.pid is None else f"with exit code {code}"
    killed = code == -signal.SIGKILL and out_of_memory_kills() > worker.memory_kills
    cause, why = ("out_of_memory", " (the kernel was out of memory)") if killed else ("lost", "")
    message = f"the worker ended {how}{why}; its output is in {worker.log}"
    return Message(job, {"event": "lost", "message": message, "cause": cause})


def _serve(pipe: Connection, place: Workplace, log: Path) -> None:
    """A worker's life: warm up, then do jobs until the pipe closes."""
    # Ctrl-C reaches the whole terminal group; the controller alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = log.open("a", buffering=1, encoding="utf-8")
    os.dup2(stream.fileno(), sys.stdout.fileno())
    os.dup2(stream.fileno(), sys.stderr.fileno())
    told = _Told(pipe)
    threading.Thread(target=told.beat, name="beat", daemon=True).start()
    warm_up()
    told.importing = False
    threading.current_thread().name = "work"
    with contextlib.suppress(EOFError, OSError, _ControllerGone):
        while True:
            word, job = pipe.recv()
            if word == "do":
                do_job(job, place, told.send, lambda job=job: _told_to_stop(pipe, job))  # type: ignore[misc]


class _Told:
    """The worker's end of the pipe, to which two threads send."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()
        self.importing = True

    def send(self, event: Event) -> None:
        with self._lock:
            self._pipe.send(event)

    def beat(self) -> None:
        """Say that the process lives, until the pipe closes; what is still importing then ends at once."""
        with contextlib.suppress(OSError, ValueError):
            while True:
                self.send({"event": "beat"})
                time.sleep(BEAT_EVERY_S)
        if self.importing:
            os._exit(0)  # importing takes up to 20 s on a busy machine, and leaves nothing half-written


class _ControllerGone(BaseException):
    """The pipe closed in the middle of a job. Not an Exception: no trial failed, so none may be recorded as failed."""


def _told_to_stop(pipe: Connection, job: Job) -> bool:
    """Whether the controller asked for a stop; _ControllerGone, which ends the worker, when it is there no more."""
    try:
        while pipe.poll():
            word, about = pipe.recv()
            if word == "stop" and about == job:
                return True
    except (EOFError, OSError):
        raise _ControllerGone from None
    return False
