"""SIGINT, SIGTERM and SIGHUP to a real sweep: how soon it ends, and in what state.

python -m tests.faults.signals
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil

from tests.faults.real import Bench, Outcome, bench, regions, shown, wait_for, workers_of

# Promise 11.
CLEAN_S, SECOND_S = 10.0, 1.0
STRAY_S = 10.0
INTERRUPTED = 130


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Each signal while two trials run; one before the first trial; one with a worker that hangs; a second Ctrl-C."""
    data = regions(folder / "data")
    there = bench(folder / "sweep", data, epochs=100_000)  # it never ends by itself
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield _ended(there, f"{number.name} while trials run", number, when=there.trained)
    early = bench(folder / "early", data, epochs=100_000)
    yield _ended(early, "SIGINT while workers import torch", signal.SIGINT, when=(early.home / "sweeps/real/g1").exists)
    yield outcome_with_a_hung_worker(there)
    yield _second(there)


def _ended(there: Bench, name: str, number: signal.Signals, *, when: Callable[[], object]) -> Outcome:
    sweep, known = there.start(), len(there.trained())
    if not wait_for(lambda: (len(there.trained()) > known) if known else when()):
        return Outcome(name, [f"nothing was trained: {there.said[-300:]}", *_cut(sweep)])
    return _measured(there, name, sweep, number)


def outcome_with_a_hung_worker(there: Bench) -> Outcome:
    """One worker is stopped, as if it hung in a file system: it cannot answer, and is ended from outside."""
    name = "SIGINT while a worker hangs"
    sweep, known = there.start(), len(there.trained())
    if not wait_for(lambda: len(there.trained()) > known):
        return Outcome(name, ["nothing was trained", *_cut(sweep)])
    workers_of(sweep)[0].suspend()
    return _measured(there, name, sweep, signal.SIGINT)


def _measured(there: Bench, name: str, sweep: subprocess.Popen[bytes], number: signal.Signals) -> Outcome:
    children = psutil.Process(sweep.pid).children(recursive=True)
    sent = time.monotonic()
    sweep.send_signal(number)
    try:
        code = sweep.wait(30)
    except subprocess.TimeoutExpired:
        return Outcome(name, ["it did not end within 30 s", *_cut(sweep)])
    seconds = time.monotonic() - sent
    wrong = [] if seconds <= CLEAN_S else [f"it took {seconds:.1f} s"]
    wrong += [] if code == INTERRUPTED else [f"exit code {code}"]
    return Outcome(name, wrong + _strays(children) + _unclean(there), {"s": seconds})


def _second(there: Bench) -> Outcome:
    """The second Ctrl-C falls into the wait for a worker that does not answer."""
    name = "a second SIGINT"
    sweep, known = there.start(), len(there.trained())
    if not wait_for(lambda: len(there.trained()) > known):
        return Outcome(name, ["nothing was trained", *_cut(sweep)])
    workers = workers_of(sweep)
    workers[0].suspend()
    sweep.send_signal(signal.SIGINT)
    time.sleep(1.5)
    wrong = [] if sweep.poll() is None else ["the first one ended it although a worker hung"]
    sent = time.monotonic()
    sweep.send_signal(signal.SIGINT)
    try:
        sweep.wait(20)
    except subprocess.TimeoutExpired:
        return Outcome(name, ["it did not end within 20 s", *_cut(sweep)])
    seconds = time.monotonic() - sent
    wrong += [] if seconds <= SECOND_S else [f"it took {seconds:.2f} s"]
    with suppress(psutil.NoSuchProcess):
        workers[0].resume()  # what we stopped hears only now that its pipe is closed
    return Outcome(name, wrong + _strays(workers), {"s": seconds})


def _strays(children: list[psutil.Process]) -> list[str]:
    _, alive = psutil.wait_procs(children, timeout=STRAY_S)
    for child in alive:
        child.kill()
    return [f"process {child.pid} was still there {STRAY_S:.0f} s later" for child in alive]


def _unclean(there: Bench) -> list[str]:
    """No record says `running`, nobody is named as the holder, and Optuna's file is whole."""
    wrong = [f"{uid} is `running`" for uid, record in there.records().items() if record["state"] == "running"]
    if (there.home / "sweeps/real/holder.json").exists():
        wrong.append("holder.json was left")
    if (there.home / "optuna.db").exists():
        with closing(sqlite3.connect(there.home / "optuna.db")) as database:
            answer = database.execute("pragma integrity_check").fetchone()[0]
        wrong += [] if answer == "ok" else [f"optuna.db: {answer}"]
    return wrong


def _cut(sweep: subprocess.Popen[bytes]) -> list[str]:
    """End it whatever it does, so that the next try begins afresh."""
    for process in [*psutil.Process(sweep.pid).children(recursive=True), psutil.Process(sweep.pid)]:
        process.kill()
    sweep.wait()
    return []


if __name__ == "__main__":
    sys.exit(bool(shown(outcomes)))
