"""Worker processes: on Linux forks of one process that has imported what they all need.

So a worker is ready in .1 s instead of 5 to 8, and eight of them hold one copy of those libraries: .6 GB altogether
instead of 4.3. Python's forkserver does the forking. Elsewhere every worker is spawned and imports for itself: the
libraries of macOS do not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

# Two threads that ask at a time how a process ended would take the answer from each other, and starting one asks, too.
_ONE_AT_A_TIME = threading.RLock()


def begin_imports() -> ForkServerContext | SpawnContext:
    """How workers are started; where they are forks, the fork server begins to import what they need."""
    if sys.platform == "linux":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["harness.execute.preloaded"])
        with suppress(OSError):  # its socket may have no room in a path of 108 bytes below TMPDIR
            forkserver.ensure_running()
            return context
    return multiprocessing.get_context("spawn")


class WorkerProcess:
    """A process of `target(pipe, *args)`, with this one's environment, and the other end of its pipe.

    It is started in the background, since the first one waits for the imports; what is sent to it waits in the pipe.
    One that cannot be started closes its pipe.
    """

    def __init__(self, target: Callable[..., None], *args: Any) -> None:
        context = begin_imports()
        self.pipe, theirs = context.Pipe()
        run = (target, dict(os.environ), theirs, *args)
        self._process: BaseProcess = context.Process(target=_run, args=run, daemon=True)
        self._starter = threading.Thread(target=self._start, args=(theirs,), name="start", daemon=True)
        self._starter.start()

    def _start(self, theirs: Connection) -> None:
        with _ONE_AT_A_TIME, suppress(OSError, EOFError):
            self._process.start()
        theirs.close()

    @property
    def is_starting(self) -> bool:
        """Whether there is no process yet."""
        return self._starter.is_alive()

    @property
    def pid(self) -> int | None:
        """None while it starts, and of one that could not be started."""
        return None if self.is_starting else self._process.pid

    @property
    def exit_code(self) -> int | None:
        """As `subprocess` has it, -9 after a kill; None while it runs, and where there is no process."""
        if self.pid is None:
            return None
        with _ONE_AT_A_TIME:
            return self._process.exitcode

    def is_alive(self) -> bool:
        """Whether it runs, or will."""
        return self.is_starting or (self.pid is not None and self.exit_code is None)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait for its start and for its end, so long for each."""
        self._starter.join(timeout_s)
        if self.pid is not None:
            with _ONE_AT_A_TIME:
                self._process.join(timeout_s)

    def terminate(self) -> None:
        """Ask it to end."""
        if self.pid is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End it."""
        if self.pid is not None:
            self._process.kill()


def _run(target: Callable[..., None], environment: Mapping[str, str], pipe: Connection, *args: Any) -> None:
    """A fork has the variables that were set when the first worker of all was started."""
    os.environ.clear()
    os.environ.update(environment)
    target(pipe, *args)
