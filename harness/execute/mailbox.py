"""Words between a controller and a job on another machine, as files in a folder that both see.

Slurm gives a job no line to whoever submitted it, and compute nodes often cannot be reached over the network; what
they do share is the file system with the home. A word is one file, written aside and renamed, numbered by its sender; a
beat is a file whose content changes. Clocks of two machines are never compared: each side times the other's beats on
its own.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.config.pause import Pause
from harness.execute.base import Job
from harness.files import read_json, write_json


@dataclass(slots=True)
class Box:
    """One direction of a mailbox: numbered words in a folder, read in order."""

    folder: Path
    last: int = 0  # the number of the last word that was written, or read, by this side

    def put(self, word: dict[str, Any]) -> int:
        """Write a word; its number."""
        self.last += 1
        write_json(self.folder / f"{self.last:06d}.json", word)
        return self.last

    def take(self) -> list[dict[str, Any]]:
        """All words that were not read yet, in order."""
        found = []
        if self.folder.is_dir():
            list(self.folder.iterdir())  # a network file system then asks its server, instead of remembering
            while (file := self.folder / f"{self.last + 1:06d}.json").exists():
                found.append(read_json(file))
                self.last += 1
        return found


@dataclass(slots=True)
class Pulse:
    """The other side's beats: how long it has been silent, on this side's clock."""

    file: Path
    content: str | None = None
    heard: float | None = None  # None: never

    def look(self) -> float | None:
        """Seconds since the last beat that was new to this side; None before the first."""
        try:
            now = self.file.read_text(encoding="utf-8")
        except OSError:
            now = self.content or ""
        if now != (self.content or ""):
            self.content, self.heard = now, time.monotonic()
        return None if self.heard is None else time.monotonic() - self.heard


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The folder of one lease."""

    path: Path

    @property
    def orders(self) -> Path:
        """Words of the controller."""
        return self.path / "orders"

    @property
    def said(self) -> Path:
        """Words of the lease."""
        return self.path / "said"

    @property
    def beat(self) -> Path:
        """Of the lease."""
        return self.path / "beat"

    @property
    def begun(self) -> Path:
        """Made by the lease when it begins, once: a job that Slurm starts a second time finds it and ends."""
        return self.path / "begun"


def job_words(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return {**asdict(job), "folder": str(job.folder)}


def job_of(words: dict[str, Any]) -> Job:
    """The same job again."""
    weights, pause = words["weights"], words["pause"]
    return Job(
        Path(words["folder"]),
        words["attempt"],
        words["task"],
        tuple(weights) if weights is not None else None,
        Pause(**pause) if pause is not None else None,
    )
