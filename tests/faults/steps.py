"""Every I/O step of a process under one folder, numbered; at a chosen one the process is killed.

Python tells of opening, renaming, removing and making files by audit events; fsync is wrapped, since it has none.
SQLite writes its files itself and is not counted: that it survives kills is its own promise, and its own tests'.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Audit event -> which of its arguments is the path that is changed.
EVENTS = {"os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0, "os.link": 1}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Point:
    """The nth step that a regular expression is found in: it stays when other steps come or go."""

    pattern: str
    nth: int = 1


@dataclass
class Steps:
    """Counts steps under `folder`; `at`: the step (1, 2, ... or a point) before which to die; `torn`: half of what was
    to be fsynced is cut off first, as after a loss of power."""

    folder: Path
    at: int | Point | None = None
    torn: bool = False
    seen: list[str] = field(default_factory=list)

    def install(self) -> None:
        """Begin; there is no way back for an audit hook, so only in a process of its own."""
        sys.addaudithook(self._audit)
        real = os.fsync

        def fsync(descriptor: int) -> None:
            name = self._name(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
            self._step(f"fsync {name}", lambda: _halve(descriptor))
            real(descriptor)

        os.fsync = fsync

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, str | bytes | os.PathLike) and isinstance(flags, int) and flags & WRITING:
                self._count("open", path)
        elif event in EVENTS:
            self._count(event.removeprefix("os."), args[EVENTS[event]])

    def _count(self, what: str, path: Any) -> None:
        name = self._name(os.fsdecode(path))
        if name:
            self._step(f"{what} {name}", None)

    def _name(self, path: str) -> str:
        """Relative to the folder; empty for what lies elsewhere, and for SQLite's own files."""
        if not path.startswith(str(self.folder)) or ".db" in path:
            return ""
        return os.path.relpath(path, self.folder)

    def _step(self, said: str, tear: Callable[[], None] | None) -> None:
        if said.endswith(" "):
            return
        self.seen.append(said)
        if self._is_here(said):
            if self.torn and tear is not None:
                tear()
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_here(self, said: str) -> bool:
        if not isinstance(self.at, Point):
            return len(self.seen) == self.at
        pattern = re.compile(self.at.pattern)
        return bool(pattern.search(said)) and sum(map(bool, map(pattern.search, self.seen))) == self.at.nth


def _halve(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size and Path(f"/proc/self/fd/{descriptor}").is_file():
        os.truncate(f"/proc/self/fd/{descriptor}", size // 2)
