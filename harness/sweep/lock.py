"""One controller per sweep: a file lock, and a note about who holds it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from harness.errors import Refused
from harness.files import read_json, write_json
from harness.sweep.layout import SweepFolder
from harness.sweep.ledger import now


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that runs a sweep."""

    pid: int
    started: float  # of the process, unix seconds: with the pid it names one process, also after pids wrap around
    host: str
    since: str
    boot: str | None = None  # of the machine; None in notes of before it was written down

    @property
    def alive(self) -> bool:
        """Whether it still runs on this machine, since the same start of the machine."""
        if self.boot is not None and self.boot != boot_id():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1.0
        except psutil.NoSuchProcess:
            return False


@contextmanager
def held(sweep: SweepFolder) -> Iterator[None]:
    """Hold the sweep; Refused, naming the holder, when somebody else does. A dead holder's lock is free."""
    sweep.path.mkdir(parents=True, exist_ok=True)
    # The kernel drops the lock with its process, however that ended.
    lock = FileLock(sweep.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = holder_of(sweep)
        who = f"process {holder.pid} on {holder.host} since {holder.since}" if holder else "another process"
        raise Refused(
            f"the sweep {sweep.name!r} is being run by {who}; watch it by `harness status {sweep.name}`, "
            f"end it by `harness stop {sweep.name}`"
        ) from None
    try:
        me = psutil.Process()
        write_json(
            sweep.holder,
            {"pid": os.getpid(), "started": me.create_time(), "host": socket.gethostname(), "since": now(),
             "boot": boot_id()},
        )  # fmt: skip
        yield
    finally:
        sweep.holder.unlink(missing_ok=True)
        lock.release()


def boot_id() -> str | None:
    """Another one after every start of the machine; None where the system does not tell (all but Linux)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def holder_of(sweep: SweepFolder) -> Holder | None:
    """Who runs the sweep, if anyone says so."""
    try:
        return Holder(**read_json(sweep.holder))
    except (OSError, ValueError, TypeError):
        return None


def stop_holder(sweep: SweepFolder) -> str:
    """Send the sweep's controller SIGTERM, which it answers by stopping cleanly; Refused when nobody here runs it."""
    holder = holder_of(sweep)
    if holder is None or holder.host != socket.gethostname() or not holder.alive:
        raise Refused(f"the sweep {sweep.name!r} is not running on this machine")
    os.kill(holder.pid, signal.SIGTERM)
    return f"asked process {holder.pid} to stop; `harness sweep` with the same file continues"
