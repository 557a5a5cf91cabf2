"""Who holds a sweep, and whether that process is still there."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from harness.errors import Refused
from harness.sweep.lock import Holder, boot_id
from harness.sweep.storage_lock import held_in_storage
from tests.faults.tiny import SPACE
from tests.postgres import programs, restartable, server
from tests.toy import write_cohort


def test_a_holder_of_before_the_machine_was_started_again_is_gone() -> None:
    """The same pid and start, another start of the machine; a note without one is believed."""
    me = Holder(os.getpid(), psutil.Process().create_time(), "here", "now", boot_id())
    assert me.alive
    assert not replace(me, boot="another start").alive
    assert replace(me, boot=None).alive
    assert not replace(me, started=me.started - 100).alive


HOLD = """
import sys
from harness.sweep.storage_lock import held_in_storage
with held_in_storage(sys.argv[1], "small"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_on_postgresql_a_sweep_is_held_across_machines_and_freed_with_its_process() -> None:
    """Another home, as on another machine: refused, naming the holder; another sweep is not; kill -9 frees it."""
    with server() as url:
        command = [sys.executable, "-c", HOLD, url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
            with pytest.raises(Refused, match=f"is being run by harness on .*, process {holder.pid}, with the same"):
                _hold(url, "small")
            _hold(url, "another")
            holder.kill()
        _hold(url, "small", tries=100)
    with pytest.raises(Refused, match="Optuna's storage cannot be opened"):
        _hold(url, "small")
    _hold("sqlite:///x.db", "small")
    _hold(None, "small")


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_a_server_that_was_away_finds_its_holder_again_or_a_faster_one() -> None:
    """After a restart the lock is taken again; where somebody else has it by then, the holder learns who."""
    with restartable() as there, held_in_storage(there.url, "small", every_s=0.05) as taken_by:
        there.end()
        time.sleep(0.3)
        there.begin()
        assert _becomes(lambda: _is_held(there.url))
        assert taken_by() is None

    with restartable() as there, held_in_storage(there.url, "small", every_s=1.0) as taken_by:
        there.end()
        there.begin()
        command = [sys.executable, "-c", HOLD, there.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            # The other process imports for longer than the holder takes to look: hold it for it meanwhile.
            assert other.stdout is not None
            held = other.stdout.readline() == b"held\n"
            if held:
                assert _becomes(lambda: taken_by() is not None)
                assert f"process {other.pid}" in str(taken_by())
            else:
                assert taken_by() is None
            other.kill()


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_of_eight_controllers_with_one_storage_one_runs_the_sweep(tmp_path: Path) -> None:
    """Each in a home of its own, as on eight machines, all at once: seven are refused, and say by whom."""
    space = tmp_path / "tiny.yaml"
    space.write_text(SPACE.replace("ROOT", json.dumps(str(write_cohort(tmp_path / "toy")))))
    with server() as url:
        command = [sys.executable, "-m", "harness.cli", "sweep", str(space),
                   "--executor", "inline", "--storage", url]  # fmt: skip
        racing = [
            subprocess.Popen([*command, "--home", str(tmp_path / f"home {number}")], cwd=tmp_path,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for number in range(8)
        ]  # fmt: skip
        ends = [(process.communicate(timeout=200)[0], process.returncode) for process in racing]
    assert sorted(code for _, code in ends) == [0] + [Refused.exit_code] * 7
    (runner,) = [process.pid for process, (_, code) in zip(racing, ends, strict=True) if code == 0]
    refusals = [said for said, code in ends if code != 0]
    assert all(f"is being run by harness on {socket.gethostname()}, process {runner}" in said for said in refusals)


def _becomes(condition: Callable[[], bool], timeout_s: float = 20) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _is_held(url: str) -> bool:
    """By anybody: asked without taking it."""
    with create_engine(url, poolclass=NullPool).connect() as database:
        return bool(database.scalar(text("select count(*) from pg_locks where locktype = 'advisory' and granted")))


def _hold(url: str | None, name: str, *, tries: int = 1) -> None:
    """Hold and let go; the server needs a moment to see that a process is gone."""
    for left in reversed(range(tries)):
        try:
            with held_in_storage(url, name):
                return
        except Refused:
            if not left:
                raise
            time.sleep(0.1)
