"""Who holds a sweep, and whether that process is still there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from harness.errors import Refused
from harness.sweep.lock import Holder, boot_id
from harness.sweep.storage_lock import held_in_storage
from tests.postgres import programs, server


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
