"""Services as processes: begun so that they outlive whoever began them, found again, and ended with all they began."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from deploy.account import Account
from harness.files import read_json, write_json
from harness.sweep.lock import boot_id

_STEP_S = 0.05


@dataclass(frozen=True, slots=True)
class Leader:
    """The first process of a service, which leads a session of its own."""

    pid: int
    started: float  # unix seconds: with the pid it names one process, also after pids wrap around
    boot: str | None


def begin(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, account: Account | None = None
) -> Leader:
    """Start a process that survives this one and its terminal; what it says goes to `log` (mode 600)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as stream:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **(account.options if account else {}),
        )
    # It is meant to outlive this object; without an end noted, Python would warn about that.
    process.returncode = 0
    return Leader(process.pid, psutil.Process(process.pid).create_time(), boot_id())


def write_leader(path: Path, leader: Leader) -> None:
    """Keep it for later commands."""
    write_json(path, asdict(leader))


def read_leader(path: Path) -> Leader | None:
    """The one that was kept; None where there is none, or one of before the machine was started anew."""
    try:
        leader = Leader(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None
    return leader if leader.boot == boot_id() else None


def leads(leader: Leader) -> bool:
    """Whether the first process itself still runs."""
    return any(process.pid == leader.pid for process in members(leader))


def members(leader: Leader) -> list[psutil.Process]:
    """All processes of a service: the leader, its descendants, and its session, which orphans stay in."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(leader.pid, os.WNOHANG)  # where we are its parent, an ended leader waits for this
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.NoSuchProcess):
        first = psutil.Process(leader.pid)
        if abs(first.create_time() - leader.started) > 1.0:
            return []  # somebody else's, with the same number
        found = {process.pid: process for process in [first, *first.children(recursive=True)]}
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(process.pid) == leader.pid:
                found.setdefault(process.pid, process)
    return [process for process in found.values() if _runs(process)]


def end(leader: Leader, gently: signal.Signals, *, patience_s: float) -> None:
    """Ask the leader to end, then end whatever is left of the service."""
    deadline = time.monotonic() + patience_s
    if leads(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader.pid, gently)
    while members(leader) and time.monotonic() < deadline:
        time.sleep(_STEP_S)
    kill(leader)


def kill(leader: Leader) -> None:
    """End all processes of a service at once, as a power cut would; returns when they are gone."""
    while left := members(leader):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(_STEP_S)


def memory_bytes(processes: Sequence[psutil.Process]) -> int:
    """Their memory together; what several share counts once (PSS)."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total


def _runs(process: psutil.Process) -> bool:
    try:
        # A zombie whose other threads are still ending holds its files and ports.
        return process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
    except psutil.NoSuchProcess:
        return False
