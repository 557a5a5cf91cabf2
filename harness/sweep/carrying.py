"""A sweep's folders from one home beside those of another: what is there already, and copies of what is not.

A copy is made aside, checked against its manifest and renamed into place, so that a kill leaves all of it or nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.errors import BadInput, Refused
from harness.files import fsync_folder, read_json, sha256_file, write_json
from harness.sweep import mending
from harness.sweep.ledger import Record
from harness.tracking.project import CURSOR
from harness.trial.folder import TrialFolder

# Of the home they lie in: how far its own MLflow store is, who holds a lock, where its report was written.
NOT_CARRIED = frozenset({CURSOR, "lock", "report.json"})
# What makes a trial this one; the fingerprint may change when its batch is cut for want of memory.
_IDENTITY = ("stratum", "number", "parameters", "seed", "replicate_of")

Standing = Literal["absent", "same", "behind", "ahead"]
History = Mapping[int, Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Carried:
    """One trial of the old home, its place in the new one, and how that stands beside it."""

    old: TrialFolder
    new: TrialFolder
    record: Record
    standing: Standing

    @property
    def name(self) -> str:
        """Its folder within the sweep's: `g1/trials/unicorn3.0003`."""
        return name_of(self.old)


def name_of(folder: TrialFolder) -> str:
    """A trial's folder within the sweep's."""
    return "/".join(folder.path.parts[-3:])


def carried(old: TrialFolder, new: TrialFolder) -> Carried:
    """Compare a trial of both homes. BadInput when a record cannot be read; Refused when they are two trials."""
    record = _record(old)
    if not new.state_file.exists():
        return Carried(old, new, record, "absent")
    there, name = _record(new), name_of(old)
    for key in _IDENTITY:
        was, is_now = getattr(record, key), getattr(there, key)
        if was != is_now:
            raise Refused(f"{name} is another trial in {new.path.parents[4]}: {_difference(key, was, is_now)}")
    return Carried(old, new, record, _standing(old, new))


def _standing(old: TrialFolder, new: TrialFolder) -> Standing:
    """By the epochs trained: what goes on from the other is ahead of it."""
    was, is_now = _history(old), _history(new)
    if _begins_with(is_now, was):
        if was != is_now:
            return "ahead"
        if not old.complete or not new.complete:
            return "behind" if old.complete and not damaged(old) else "same"
        if _results(old) == _results(new):
            return "same"
    elif _begins_with(was, is_now):
        return "behind"
    where = new.path.parents[4]
    raise Refused(f"{name_of(old)} was trained in {where}, too, and has other epochs or another result there")


def _results(folder: TrialFolder) -> dict[str, str]:
    """{file: sha256} of a complete trial; without the spec, which says where the data lie."""
    return {name: digest for name, digest in read_json(folder.manifest)["sha256"].items() if name != "spec.json"}


def _history(folder: TrialFolder) -> History:
    """{attempt: its whole events}; an attempt that nothing was written in is none."""
    found = {attempt.number: _events(attempt.events) for attempt in folder.attempts()}
    return {number: events for number, events in found.items() if events}


def _events(file: Path) -> list[bytes]:
    try:
        return [line for line in file.read_bytes().split(b"\n")[:-1] if mending.is_event(line)]
    except FileNotFoundError:
        return []


def _begins_with(history: History, start: History) -> bool:
    return all(list(history.get(number, ()))[: len(events)] == list(events) for number, events in start.items())


def _difference(key: str, was: object, is_now: object) -> str:
    """The one setting that differs, where there are many."""
    if isinstance(was, dict) and isinstance(is_now, dict):
        key = next(name for name in {**was, **is_now} if was.get(name) != is_now.get(name))
        was, is_now = was.get(key), is_now.get(key)
    return f"{key} {is_now} instead of {was}"


def _record(folder: TrialFolder) -> Record:
    try:
        return mending.read_record(folder)
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder.state_file}: cannot be read: {str(error).splitlines()[0]}") from None


def damaged(folder: TrialFolder) -> list[str]:
    """Names of a complete trial's result files that are missing or not as they were written."""
    try:
        return folder.damaged()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return [folder.manifest.name]


def carry(trial: Carried, aside: Path, sources: Mapping[str, Path], cohorts: Mapping[str, Path]) -> list[str]:
    """Copy a trial into its place, by way of `aside`. Returns the result files that are damaged in the old home.

    Such a result is moved aside in the copy, and the trial waits to be trained again. `sources`: where other trials of
    the sweep are by now, by name, for those that were adopted from them. `cohorts`: where synthetic data are by now, by
    the name of their folder. Refused when the copy is not the original.
    """
    shutil.rmtree(aside, ignore_errors=True)
    origin = trial.record.adopted_from or ""
    twin = (trial.old.path.parents[2] / origin, sources[origin]) if origin in sources else None
    Copying(twin).folder(trial.old.path, aside)
    copy = TrialFolder(aside)
    spoiled = damaged(copy) if copy.complete else []
    if spoiled:
        if not damaged(trial.old):
            raise Refused(f"{trial.name}: {spoiled[0]} is not the same after copying to {trial.new.path.parents[4]}")
        mending.train_again(copy)
    _name_data(copy, cohorts)
    in_place(aside, trial.new.path)
    return spoiled


def _name_data(copy: TrialFolder, cohorts: Mapping[str, Path]) -> None:
    """Let a spec name the synthetic data of the new home; the manifest vouches for it again."""
    try:
        spec = read_json(copy.spec_file)
        root = Path(spec["dataset"]["root"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # damaged, and written anew when the trial is trained again
    if root.parent.name != "phantoms" or root.name not in cohorts:
        return
    write_json(copy.spec_file, {**spec, "dataset": {**spec["dataset"], "root": str(cohorts[root.name])}})
    if copy.complete:
        manifest = read_json(copy.manifest)
        hashes = {**manifest["sha256"], "spec.json": sha256_file(copy.spec_file)}
        write_json(copy.manifest, {**manifest, "sha256": hashes})


def in_place(aside: Path, place: Path) -> None:
    """Rename a whole copy to where it belongs; an older one makes way."""
    place.parent.mkdir(parents=True, exist_ok=True)
    former = aside.with_name(f"{aside.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if place.exists():
        place.rename(former)
    aside.rename(place)
    fsync_folder(place.parent)
    shutil.rmtree(former, ignore_errors=True)


def missing(source: Path, target: Path, aside: Path, *, leave_out: frozenset[str] = NOT_CARRIED) -> Iterator[Path]:
    """Copy the entries of a folder that another one lacks, each as a whole; yields those copied."""
    for entry in entries(source, leave_out):
        place = target / entry.name
        if place.exists():
            continue
        shutil.rmtree(aside, ignore_errors=True)
        if entry.is_dir():
            Copying().folder(entry, aside)
        else:
            aside.parent.mkdir(parents=True, exist_ok=True)
            Copying().file(entry, aside)
        in_place(aside, place)
        yield place


def entries(folder: Path, leave_out: frozenset[str] = NOT_CARRIED) -> list[Path]:
    """What is to be carried of a folder, if it is there: neither links nor what a killed process left."""
    if not folder.is_dir():
        return []
    found = (entry for entry in folder.iterdir() if not entry.name.startswith(".") and not entry.is_symlink())
    return sorted(entry for entry in found if entry.name not in leave_out)


@dataclass(slots=True)
class Copying:
    """Copies files durably. What is one file under two names is one file in the copy, too.

    `twin`: a trial in the old home and its copy, with which this one may share files.
    """

    twin: tuple[Path, Path] | None = None
    _copied: dict[tuple[int, int], Path] = field(default_factory=dict)

    def folder(self, source: Path, target: Path, within: Path = Path()) -> None:
        """Copy a folder to a new place."""
        target.mkdir(parents=True)
        for entry in entries(source):
            if entry.is_dir():
                self.folder(entry, target / entry.name, within / entry.name)
            else:
                self.file(entry, target / entry.name, within / entry.name)
        fsync_folder(target)

    def file(self, source: Path, target: Path, within: Path = Path()) -> None:
        """Copy a file, or link it to the copy of the same file."""
        stat = source.stat()
        inode = stat.st_dev, stat.st_ino
        if stat.st_nlink > 1 and (known := self._copied.get(inode) or self._at_twin(source, within)) is not None:
            try:
                os.link(known, target)
                return
            except OSError:  # no links here
                pass
        shutil.copyfile(source, target)
        with target.open("rb") as stream:
            os.fsync(stream.fileno())
        self._copied[inode] = target

    def _at_twin(self, source: Path, within: Path) -> Path | None:
        if self.twin is None:
            return None
        old, new = (root / within for root in self.twin)
        return new if old.is_file() and old.samefile(source) and new.is_file() else None
