"""Trials of a sweep's other generations that an edited space still has: kept in the new generation, not trained again.

Kept is a complete trial whose settings are a combination of the new space and whose spec, resolved in it, has the same
fingerprint: training it again would give the same weights. A pruned one was judged beside trials that may be gone, and
what failed may go well now: those are left where they are, as is everything else that does not fit.

A kept trial is a folder of its own with links to the same files. It is made aside and renamed into place, so that a
kill leaves all of it or nothing. What is kept is settled before the first own trial of a generation, never later: so a
sweep that was killed proposes what an undisturbed one would have.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from harness.config.cells import Assignment, DataFacts, baselines_of, resolve, strata_of
from harness.config.knobs import label_of
from harness.config.place import Place, place_of
from harness.config.space import SearchSpace
from harness.config.spec import TrialSpec
from harness.errors import BadInput
from harness.files import fsync_folder, read_json
from harness.sweep.failures import halved
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record, read_records, trial_uid, write_record
from harness.sweep.prepare import Steps
from harness.tracking.project import CURSOR
from harness.trial.folder import TrialFolder

# Of the generation that trained the trial, not of the trial: its record there, and its run in MLflow.
NOT_LINKED = frozenset({"trial.json", CURSOR, "lock"})


@dataclass(frozen=True, slots=True)
class Finished:
    """A complete trial of another generation."""

    folder: TrialFolder
    record: Record
    spec: TrialSpec

    @property
    def name(self) -> str:
        """Its folder within the sweep's: `g1/trials/unicorn3.0003`."""
        return self.folder.path.relative_to(self.folder.path.parents[2]).as_posix()

    @property
    def fingerprint(self) -> str:
        """Of its spec as it is hashed today."""
        return self.spec.fingerprint


@dataclass(frozen=True, slots=True)
class Fit:
    """The complete trials of other generations: those a space still has, with their places, and the others."""

    kept: tuple[tuple[Finished, Place], ...]  # by stratum, generation and number
    set_aside: tuple[Finished, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.kept) + len(self.set_aside)


def fit(space: SearchSpace, facts: DataFacts, generations: Iterable[GenerationFolder]) -> Fit:
    """Which complete trials of these generations (oldest first) the space still has; what several have counts once."""
    distinct: dict[str, tuple[Finished, Place | None]] = {}
    for generation in generations:
        for finished in _finished(generation):
            if (key := finished.fingerprint) not in distinct:
                distinct[key] = finished, _place(space, facts, finished)
    order = {stratum.name: index for index, stratum in enumerate(strata_of(space))}
    kept = [(finished, place) for finished, place in distinct.values() if place is not None]
    kept.sort(key=lambda pair: (order[pair[1].stratum.name], pair[0].record.generation, pair[0].record.number))
    return Fit(tuple(kept), tuple(finished for finished, place in distinct.values() if place is None))


@dataclass(frozen=True, slots=True)
class Adopted:
    """What a generation has of others: the records of the kept trials, and what was not taken because of its files."""

    records: tuple[Record, ...] = ()  # of all that it has
    newly: int = 0  # how many of them it did not have before
    damaged: tuple[str, ...] = ()  # one line each


def may_adopt(generation: GenerationFolder) -> bool:
    """Whether the generation has no trial of its own yet."""
    return all(record.adopted_from is not None for record in read_records(generation).values())


def adopt(space: SearchSpace, generation: GenerationFolder, found: Fit, steps: Steps) -> Adopted:
    """Give a generation that `may_adopt` the trials that fit and that it does not have yet.

    For the holder of the sweep's lock. A call that is cut off is finished by the next.
    """
    aside = generation.path / "adopting"
    shutil.rmtree(aside, ignore_errors=True)
    present = {record.fingerprint: record for record in read_records(generation).values()}
    missing = [pair for pair in found.kept if pair[0].fingerprint not in present]
    if not missing:
        return Adopted(tuple(present.values()))
    with steps.step(f"keeping {len(missing)} finished trials") as on_progress:
        damaged = {}
        for done, (finished, _) in enumerate(missing, start=1):
            damaged[finished.name] = _damaged(finished.folder)
            on_progress(done, len(missing))
        sound = [pair for pair in missing if not damaged[pair[0].name]]
        new = list(_records(space, generation.number, sound, present.values()))
        for finished, record in new:
            _link_trial(finished.folder, record, aside / record.uid, generation.trials / record.uid)
    shutil.rmtree(aside, ignore_errors=True)
    lines = [f"{name} is damaged ({', '.join(files[:3])}) and is not kept" for name, files in damaged.items() if files]
    return Adopted((*present.values(), *(record for _, record in new)), len(new), tuple(lines))


def _finished(generation: GenerationFolder) -> Iterator[Finished]:
    """The complete trials of a generation; one that cannot be read is nobody's to keep."""
    for folder in generation.trial_folders():
        try:
            record = Record.model_validate(read_json(folder.state_file))
            if record.state == "complete" and record.replicate_of is None and folder.complete:
                yield Finished(folder, record, folder.read_spec())
        except (OSError, ValueError, BadInput):
            continue


def _place(space: SearchSpace, facts: DataFacts, finished: Finished) -> Place | None:
    place = place_of(space, finished.spec)
    if place is None:
        return None
    # One that ran out of memory would do so again: it is kept as it ended, with its flag.
    resolved = halved(resolve(space, facts, place.assignment, seed=space.seed), finished.record.halved)
    return place if resolved.fingerprint == finished.fingerprint else None


def _damaged(folder: TrialFolder) -> list[str]:
    try:
        return folder.damaged()
    except (OSError, ValueError, KeyError):
        return [folder.manifest.name]


def _records(
    space: SearchSpace, generation: int, sound: Sequence[tuple[Finished, Place]], present: Iterable[Record]
) -> Iterator[tuple[Finished, Record]]:
    """Records of newly kept trials: numbered on from those present, a baseline's row taken by the first that is it."""
    rows = {stratum.name: dict(enumerate(baselines_of(space, stratum))) for stratum in strata_of(space)}
    numbers: Counter[str] = Counter()
    for record in present:
        numbers[record.stratum] += 1
        if record.baseline_row is not None:
            rows[record.stratum].pop(record.baseline_row, None)
    for finished, place in sound:
        name, values = place.stratum.name, place.assignment
        row = next((row for row, (given, _) in rows[name].items() if _is_baseline(given, values)), None)
        own = {
            "uid": trial_uid(name, numbers[name]),
            "generation": generation,
            "stratum": name,
            "number": numbers[name],
            "parameters": values,
            "baseline": row is not None,
            "baseline_row": row,
            "mark": None if row is None else rows[name].pop(row)[1],
            "fingerprint": finished.fingerprint,
            "adopted_from": finished.name,
            "rung": 0,  # those of its own generation may lie elsewhere
            "rungs": (),
        }
        numbers[name] += 1
        yield finished, finished.record.model_copy(update=own)


def _is_baseline(given: Assignment, assignment: Assignment) -> bool:
    """Whether the combination has the values of a baseline, but for those that are inactive in it."""
    stated = {name: value for name, value in given.items() if value is not None and assignment[name] is not None}
    return all(label_of(value) == label_of(assignment[name]) for name, value in stated.items())


def _link_trial(source: TrialFolder, record: Record, aside: Path, place: Path) -> None:
    """Make the kept trial's folder aside, whole and durable, and rename it into place."""
    _link_folder(source.path, aside, leave_out=NOT_LINKED)
    write_record(TrialFolder(aside), record)
    fsync_folder(aside)
    shutil.rmtree(place, ignore_errors=True)  # begun by a killed sweep, but never recorded
    aside.rename(place)
    fsync_folder(place.parent)


def _link_folder(source: Path, target: Path, *, leave_out: Set[str] = frozenset()) -> None:
    """The same tree under another name, file by file; a copy where the file system has no links."""
    target.mkdir(parents=True)
    for entry in sorted(source.iterdir()):
        if entry.name in leave_out or entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            _link_folder(entry, target / entry.name)
        else:
            _link_file(entry, target / entry.name)
    fsync_folder(target)


def _link_file(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no links here, or too many of them; a full disk fails the copy, too
        shutil.copyfile(source, target)
        with target.open("rb") as stream:
            os.fsync(stream.fileno())
