"""The executors of the behaviour suite, and how each loses a worker or a whole node."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from harness.config.resources import Resources
from harness.execute.base import Executor
from harness.execute.inline import InlineExecutor
from harness.execute.local import LocalExecutor
from harness.execute.work import Workplace

KINDS = ("inline", "local", "ray", "slurm")
# Executors whose jobs run beside the caller.
BESIDE = ("local", "ray", "slurm")
# Executors whose slots may lie on another machine.
ELSEWHERE = ("ray", "slurm")


def made(kind: str, folder: Path, slots: int, **options: Any) -> Executor:
    """One of `slots` slots; its home is `folder`."""
    place = Workplace(folder / "stores")
    if kind == "inline":
        return InlineExecutor(place, lambda: False)
    if kind == "local":
        return LocalExecutor([place] * slots, logs=folder / "logs", **options)
    common = {"device": "cpu", "need": Resources(), "stores": place.stores, "logs": folder / "logs", "home": folder}
    if kind == "ray":
        from harness.execute.ray import RayExecutor

        return RayExecutor(slots=slots, **common, **options)  # type: ignore[arg-type]
    from harness.execute.slurm import SlurmExecutor

    return SlurmExecutor(slots=slots, name="suite", cluster="local", **common, **options)  # type: ignore[arg-type]


def lose_node(worker: psutil.Process) -> None:
    """End a worker and everything above it that is on its machine, at once, as if the machine were switched off.

    Under Ray that is the actor, under Slurm the job with its step; the caller's own process is above them all.
    """
    above = []
    for parent in worker.parents():
        if parent.pid == os.getpid() or "raylet" in parent.name():
            break
        above.append(parent)
    for process in (*reversed(above), worker):
        if process.is_running():
            process.send_signal(signal.SIGKILL)


@contextmanager
def environment(**changes: str | None) -> Iterator[None]:
    """Within it these environment variables are so."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        _set(changes)
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
