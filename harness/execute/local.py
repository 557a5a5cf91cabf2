"""Warm worker processes on this machine: torch is imported once, then many trials run, one at a time per process.

A worker needs no database and no credentials. It writes only its attempt's folder, tells what happens over a pipe, and
exits when the pipe closes, so a killed controller leaves no strays.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.execute.base import Event, Executor, Job, Message
from harness.execute.work import Workplace, do_job, warm_up

# A worker between two batches answers a stop within a second; after that it is ended from outside.
CLOSE_TIMEOUT_S = 5.0


@dataclass
class _Worker:
    place: Workplace
    log: Path
    process: BaseProcess
    pipe: Connection
    job: Job | None = None
    pending: list[Message] = field(default_factory=list)


class LocalExecutor(Executor):
    """One spawned process per workplace (a device share or a CPU core)."""

    def __init__(self, places: list[Workplace], *, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._workers = [_started(place, logs / f"{index}.log") for index, place in enumerate(places)]

    @property
    def slots(self) -> int:
        return len(self._workers)

    def free(self) -> int:
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        index = next(i for i, worker in enumerate(self._workers) if worker.job is None)
        worker = self._workers[index]
        if not worker.process.is_alive():
            worker = self._workers[index] = _started(worker.place, worker.log)
        worker.job = job
        try:
            worker.pipe.send(("do", job))
        except OSError:
            worker.pending.append(_lost(worker))

    def messages(self, timeout_s: float) -> list[Message]:
        found = [message for worker in self._workers for message in _taken(worker)]
        if found:
            return found
        busy = [worker for worker in self._workers if worker.job is not None]
        ready = wait([worker.pipe for worker in busy], timeout_s) if busy else []
        for worker in busy:
            if worker.pipe in ready:
                found += _received(worker)
        return found

    def stop(self, job: Job) -> None:
        for worker in self._workers:
            if worker.job == job:
                with contextlib.suppress(OSError):  # it died: `messages` will say so
                    worker.pipe.send(("stop", job))

    def close(self) -> None:
        for worker in self._workers:
            worker.pipe.close()
            if worker.job is None:  # nothing to write; it may still be importing, and hears the pipe only afterwards
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(CLOSE_TIMEOUT_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _started(place: Workplace, log: Path) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, place, log), daemon=True)
    process.start()
    theirs.close()
    return _Worker(place=place, log=log, process=process, pipe=ours)


def _taken(worker: _Worker) -> list[Message]:
    pending, worker.pending = worker.pending, []
    return pending


def _received(worker: _Worker) -> list[Message]:
    """All events that lie in the worker's pipe; a closed pipe means it is lost."""
    found: list[Message] = []
    while worker.job is not None:
        try:
            if not worker.pipe.poll():
                break
            event: Event = worker.pipe.recv()
        except (EOFError, OSError):
            found.append(_lost(worker))
            break
        found.append(Message(worker.job, event))
        if event["event"] in ("finished", "exported", "prepared", "sketched"):
            worker.job = None
    return found


def _lost(worker: _Worker) -> Message:
    job = worker.job
    assert job is not None
    worker.job = None
    worker.process.join(1.0)
    code = worker.process.exitcode
    how = f"by signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
    return Message(job, {"event": "lost", "message": f"the worker ended {how}; its output is in {worker.log}"})


def _serve(pipe: Connection, place: Workplace, log: Path) -> None:
    """A worker's life: warm up, then do jobs until the pipe closes."""
    # Ctrl-C reaches the whole terminal group; the controller alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stream = log.open("a", buffering=1, encoding="utf-8")
    os.dup2(stream.fileno(), sys.stdout.fileno())
    os.dup2(stream.fileno(), sys.stderr.fileno())
    warm_up()
    threading.current_thread().name = "work"
    with contextlib.suppress(EOFError, OSError, _ControllerGone):
        while True:
            word, job = pipe.recv()
            if word == "do":
                do_job(job, place, pipe.send, lambda job=job: _told_to_stop(pipe, job))  # type: ignore[misc]


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
