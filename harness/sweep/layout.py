"""Where a sweep keeps its things: the home, its databases, and the folders of sweeps and generations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.space import SearchSpace
from harness.errors import BadInput, Refused
from harness.files import read_json, write_json
from harness.tracking.store import sqlite_uri
from harness.trial.folder import TrialFolder

# Raise it when an older harness would misread, or harm, what is written now.
HOME_VERSION = 1

# SQLite's locks do not hold there, so a database can break.
NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smbfs", "smb3", "fuse.sshfs", "lustre", "gpfs", "beegfs", "9p"}
)


@dataclass(frozen=True, slots=True)
class Home:
    """The one folder that holds everything `harness` writes, except reports."""

    path: Path

    @property
    def optuna_file(self) -> Path:
        """Optuna's default storage: SQLite in the home."""
        return self.path / "optuna.db"

    @property
    def optuna_url(self) -> str:
        """The same as an SQLAlchemy URL."""
        return sqlite_uri(self.optuna_file)

    @property
    def stores(self) -> Path:
        """Patch stores by content."""
        return self.path / "stores"

    @property
    def phantoms(self) -> Path:
        """Synthetic cohorts by their settings."""
        return self.path / "phantoms"

    @property
    def checks(self) -> Path:
        """Results of data checks, by file name, size and time."""
        return self.path / "checks"

    @property
    def leases(self) -> Path:
        """Mailboxes of Slurm jobs, a folder per controller."""
        return self.path / "leases"

    @property
    def sweeps(self) -> Path:
        """One folder per sweep."""
        return self.path / "sweeps"

    @property
    def singles(self) -> Path:
        """Trials that belong to no sweep."""
        return self.path / "single"

    @property
    def openings(self) -> Path:
        """How often each set of test patients was looked at, by any sweep of this home."""
        return self.path / "test-openings.json"

    @property
    def note(self) -> Path:
        """Which version of the layout this is."""
        return self.path / "home.json"

    def sweep(self, name: str) -> SweepFolder:
        """The folder of a sweep, there or not."""
        return SweepFolder(self.sweeps / name)

    def refuse_network_file_system(self) -> None:
        """Refused when the home's databases would lie on a network file system."""
        kind = _file_system(self.path)
        if kind in NETWORK_FILE_SYSTEMS:
            raise Refused(
                f"{self.path} is on a network file system ({kind}), where SQLite breaks; "
                "choose a local --home, or PostgreSQL by --storage and MLFLOW_TRACKING_URI"
            )


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """A sweep's folder; each change of what is computed makes a new generation in it."""

    path: Path

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.name

    @property
    def lock(self) -> Path:
        """Held by the one controller at work on this sweep."""
        return self.path / "lock"

    @property
    def holder(self) -> Path:
        """Who holds the lock: process id and start time."""
        return self.path / "holder.json"

    @property
    def slots(self) -> Path:
        """The devices of the slots, as the last controller used them."""
        return self.path / "slots.json"

    @property
    def last(self) -> Path:
        """The number of the generation that ran last."""
        return self.path / "last.json"

    def generations(self) -> list[GenerationFolder]:
        """All generations, oldest first; what a sweep was killed in before its space was written is none yet."""
        if not self.path.is_dir():
            return []
        found = [GenerationFolder(p) for p in self.path.iterdir() if p.name[:1] == "g" and p.name[1:].isdigit()]
        return sorted((g for g in found if g.space_file.exists()), key=lambda g: g.number)

    def last_generation(self) -> GenerationFolder:
        """The generation that ran last; BadInput when the sweep has none."""
        generations = self.generations()
        if not generations:
            known = ", ".join(sorted(p.name for p in self.path.parent.iterdir())) if self.path.parent.is_dir() else ""
            raise BadInput(f"no sweep named {self.name!r} in {self.path.parent}; there are: {known or 'none yet'}")
        number = read_json(self.last)["generation"] if self.last.exists() else generations[-1].number
        return GenerationFolder(self.path / f"g{number}")

    def generation_for(self, key: str) -> GenerationFolder:
        """The generation of that key, or the next free one."""
        generations = self.generations()
        for generation in generations:
            if generation.read_space()["key"] == key:
                return generation
        return GenerationFolder(self.path / f"g{generations[-1].number + 1 if generations else 1}")

    def remember_last(self, generation: GenerationFolder) -> None:
        """Note the generation as the one that reports show."""
        write_json(self.last, {"generation": generation.number})


@dataclass(frozen=True, slots=True)
class GenerationFolder:
    """All trials of one sweep under one resolved space."""

    path: Path

    @property
    def number(self) -> int:
        """1, 2, ..."""
        return int(self.path.name[1:])

    @property
    def space_file(self) -> Path:
        """The resolved space, the data and how the sweep was started."""
        return self.path / "space.json"

    @property
    def split_file(self) -> Path:
        """The patients by role."""
        return self.path / "split.json"

    @property
    def clock(self) -> Path:
        """Wall seconds spent so far, added up over restarts."""
        return self.path / "clock.json"

    @property
    def claims_file(self) -> Path:
        """The claims with the cells chosen for them, once the search is over."""
        return self.path / "claims.json"

    @property
    def held_out(self) -> Path:
        """Finalists judged on the test patients: `<uid>.json`, as a trial's scores.json."""
        return self.path / "test"

    @property
    def report_note(self) -> Path:
        """Where the report was written last."""
        return self.path / "report.json"

    @property
    def tryouts(self) -> Path:
        """Specs with which imported parts are tried before the first trial."""
        return self.path / "tryouts"

    @property
    def figures(self) -> Path:
        """Pictures of the data and of the networks of the whole sweep."""
        return self.path / "figures"

    @property
    def trials(self) -> Path:
        """One folder per trial."""
        return self.path / "trials"

    def read_space(self) -> dict[str, Any]:
        """The content of space.json."""
        value: dict[str, Any] = read_json(self.space_file)
        return value

    def search_space(self) -> SearchSpace:
        """The resolved space as a value."""
        return SearchSpace.model_validate(self.read_space()["space"])

    def trial_folders(self) -> Iterator[TrialFolder]:
        """Every trial folder, by name."""
        if self.trials.is_dir():
            for path in sorted(self.trials.iterdir()):
                if not path.name.startswith("."):
                    yield TrialFolder(path)

    def wall_s(self) -> float:
        """Wall seconds spent so far."""
        return float(read_json(self.clock)["wall_s"]) if self.clock.exists() else 0.0


def open_home(given: Path | None) -> Home:
    """The home by `--home`, else HARNESS_HOME, else `runs/` here; made if absent, refused if not writable."""
    path = given or Path(os.environ.get("HARNESS_HOME") or "runs")
    home = Home(path.expanduser().resolve())
    try:
        home.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{home.path}: cannot be made: {error.strerror}; choose another --home") from None
    if not os.access(home.path, os.W_OK):
        raise Refused(f"{home.path}: not writable; choose another --home")
    _check_version(home)
    return home


def _check_version(home: Home) -> None:
    """Refused for a home that a newer harness wrote; a home without a note gets one."""
    if not home.note.exists():
        with suppress(OSError):  # a full disk keeps nobody from looking
            write_json(home.note, {"version": HOME_VERSION})
        return
    try:
        version = int(read_json(home.note)["version"])
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{home.note}: cannot be read; is {home.path} a home of harness?") from None
    if version > HOME_VERSION:
        raise Refused(
            f"{home.path} was written by a newer harness (layout {version}; this one knows up to {HOME_VERSION}): "
            "upgrade, or choose another --home"
        )


def _file_system(path: Path) -> str:
    """The kind of file system `path` is on, by the longest mount point above it."""
    import psutil  # .02 s that `harness report` need not spend

    mounts = [p for p in psutil.disk_partitions(all=True) if path.is_relative_to(p.mountpoint)]
    return max(mounts, key=lambda p: len(p.mountpoint)).fstype if mounts else ""
