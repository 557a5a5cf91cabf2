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
from harness.files import fingerprint, read_json, write_json
from harness.sweep.layout import SweepFolder
from harness.sweep.ledger import now
from harness.tracking.store import printable


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


@contextmanager
def held_in_storage(url: str | None, name: str) -> Iterator[None]:
    """Where Optuna's storage is PostgreSQL, hold the sweep's name there, too: another machine may have its own home.

    An advisory lock of a session: the server frees it when the process, or its machine, is gone. Refused, naming the
    holder, when somebody else has it.
    """
    if url is None or not url.startswith("postgres"):
        yield
        return
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    number = int(fingerprint(["harness sweep", name])[:16], 16) - 2**63  # a signed 64-bit integer
    me = f"harness on {socket.gethostname()}, process {os.getpid()}"[:63]  # PostgreSQL cuts it there
    try:
        engine = create_engine(url, poolclass=NullPool, connect_args={"application_name": me})
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    except (SQLAlchemyError, ImportError) as error:
        raise Refused(f"Optuna's storage cannot be opened: {printable(str(error).splitlines()[0][:200])}") from None
    with connection:
        if not connection.scalar(text("select pg_try_advisory_lock(:number)"), {"number": number}):
            holder = connection.scalar(text(_HOLDER), {"number": number}) or "another process"
            raise Refused(f"the sweep {name!r} is being run by {holder}, with the same storage")
        yield


_HOLDER = """select a.application_name from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and ((l.classid::bigint << 32) | l.objid::bigint) = :number limit 1"""


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
