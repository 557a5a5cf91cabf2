"""Rows of other tools in a sweep's generation: `external/<uid>/`, laid out like a trial's folder.

A row is written aside and renamed into place, so that a report never reads half of one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness.errors import BadInput
from harness.files import fsync_folder, read_json, safe_name, sha256_file, write_json
from harness.sweep.layout import GenerationFolder
from harness.trial.folder import TrialFolder

MAX_NAME = 60  # characters: it stands in tables


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of other tools in one generation."""

    generation: GenerationFolder

    @property
    def folder(self) -> Path:
        """Where reports look for them."""
        return self.generation.path / "external"

    @property
    def _aside(self) -> Path:
        # Beside, not inside: a report reads every folder in there.
        return self.generation.path / ".external"

    def names(self) -> dict[str, str]:
        """{uid: the name it was given}."""
        found = {}
        for path in sorted(self.folder.glob("*/trial.json")):
            with suppress(OSError, ValueError, KeyError):
                found[path.parent.name] = str(read_json(path)["external"])
        return found

    def uid(self, name: str, label_map: str | None) -> str:
        """The folder's name of a row; `label_map` is None where the sweep has one. BadInput when it is another's."""
        uid = safe_name(name) + (f".{safe_name(label_map)}" if label_map is not None else "")
        if self.names().get(uid, name) != name:
            raise BadInput(f"--name: {name!r} and {self.names()[uid]!r} would share the folder {uid}; choose another")
        if (self.generation.trials / uid).exists():
            raise BadInput(f"--name: {uid} is a trial of this sweep; choose another name")
        return uid

    @contextmanager
    def written(self) -> Iterator[Path]:
        """Yield an empty folder for new rows, each in a folder named by its uid; on leaving they take their places.

        After an exception all rows are as before. One process at a time.
        """
        self.folder.mkdir(exist_ok=True)
        with FileLock(self.folder / ".lock"):
            self._restore()
            new, old = self._aside / "new", self._aside / "old"
            new.mkdir(parents=True)
            try:
                yield new
                old.mkdir()
                for row in sorted(new.iterdir()):
                    place = self.folder / row.name
                    if place.exists():
                        place.rename(old / row.name)
                    row.rename(place)
                fsync_folder(self.folder)
            finally:
                shutil.rmtree(self._aside, ignore_errors=True)

    def remove(self, name: str) -> tuple[str, ...]:
        """Delete the rows of that name; their uids. BadInput when there is none."""
        with FileLock(self._made() / ".lock"):
            self._restore()
            names = self.names()
            uids = tuple(uid for uid, given in names.items() if given == name)
            if not uids:
                there = ", ".join(sorted(set(names.values()))) or "none yet"
                raise BadInput(f"--name: no row {name!r} in {self.generation.path.parent.name}; there are: {there}")
            old = self._aside / "old"
            old.mkdir(parents=True)
            for uid in uids:
                (self.folder / uid).rename(old / uid)
            shutil.rmtree(self._aside)
        return uids

    def _made(self) -> Path:
        self.folder.mkdir(exist_ok=True)
        return self.folder

    def _restore(self) -> None:
        """Put back what a killed process had moved away, and clear its leftovers. The caller holds the lock."""
        old = self._aside / "old"
        for row in old.iterdir() if old.is_dir() else ():
            if not (self.folder / row.name).exists():
                row.rename(self.folder / row.name)
        shutil.rmtree(self._aside, ignore_errors=True)


def checked_name(name: str) -> str:
    """The name of a row as people see it. BadInput when it cannot stand in a table."""
    plain = name.strip()
    if not plain or not plain.isprintable() or len(plain) > MAX_NAME:
        raise BadInput(f"--name: {name[: MAX_NAME + 1]!r}: write 1 to {MAX_NAME} printable characters, such as nnunet")
    return plain


def write_manifest(folder: TrialFolder) -> None:
    """sha256 of every file, written last; with it the row is whole."""
    files = sorted(path for path in folder.path.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder.path).as_posix(): sha256_file(path) for path in files}
    write_json(folder.manifest, {"attempt": None, "sha256": hashes})
