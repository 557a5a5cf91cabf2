"""`harness gc`: what a home holds that nothing will read again. Results, curves and what trials continue from stay.

A checkpoint matters while its trial may go on from it: of a waiting or failed trial the newest one, and the one before
it in case that is damaged. A patch store matters while a trial of the home is cut that way; it can be built again.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.spec import Cut
from harness.data.patches import is_store_of, validation_cut
from harness.errors import BadInput, Refused
from harness.files import size_text
from harness.report.wording import plural
from harness.sweep.invariants import files_aside
from harness.sweep.layout import Home, SweepFolder
from harness.sweep.ledger import Record
from harness.sweep.lock import held, holder_of
from harness.sweep.mending import DAMAGED, read_record
from harness.trial.folder import Attempt, TrialFolder

CHECKPOINTS_KEPT = 2
# What all sweeps of a home share has no lock: a file this old that is still aside is nobody's any more.
LEFT_FOR_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Piece:
    """A file or folder that can go."""

    path: Path
    kind: str  # a noun, in the singular
    why: str  # what follows it
    size_bytes: int  # that its removal frees


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What went, or would go, and what was not looked at."""

    pieces: tuple[Piece, ...]
    notes: tuple[str, ...]

    @property
    def size_bytes(self) -> int:
        """Freed in all."""
        return sum(piece.size_bytes for piece in self.pieces)


def clean(home: Home, sweeps: Sequence[SweepFolder], *, epochs: bool = False, dry_run: bool = False) -> Cleaned:
    """Remove what nothing will read again; `epochs`: kept epochs, too. A sweep that runs is left alone."""
    pieces: list[Piece] = []
    notes: list[str] = []
    for sweep in sweeps:
        if dry_run:
            pieces += _of_sweep(sweep, epochs)
            continue
        try:
            with held(sweep):
                pieces += _removed(_of_sweep(sweep, epochs))
        except Refused:
            notes.append(f"{sweep.name} is running: left alone")
    everything = [home.sweep(path.name) for path in sorted(home.sweeps.glob("*")) if path.is_dir()]
    if len(sweeps) < len(everything):
        return Cleaned(tuple(pieces), tuple(notes))  # asked for some sweeps: what all share is not theirs
    left = list(_leftovers(home))
    pieces += left if dry_run else _removed(left)
    if any((holder := holder_of(sweep)) is not None and holder.alive for sweep in everything):
        notes.append("patch stores were left alone, since a sweep is running")
    else:
        stores = list(_unused_stores(home))
        pieces += stores if dry_run else _removed(stores)
    return Cleaned(tuple(pieces), tuple(notes))


def summary_of(cleaned: Cleaned, *, dry_run: bool) -> Iterator[str]:
    """A line for each kind, then what was freed."""
    sizes: defaultdict[tuple[str, str], int] = defaultdict(int)
    counts = Counter((piece.kind, piece.why) for piece in cleaned.pieces)
    for piece in cleaned.pieces:
        sizes[piece.kind, piece.why] += piece.size_bytes
    for kind, why in sorted(sizes, key=lambda key: -sizes[key]):
        yield f"{plural(counts[kind, why], kind)} {why}: {size_text(sizes[kind, why])}"
    yield from (f"note: {note}" for note in cleaned.notes)
    verb = "would free" if dry_run else "freed"
    yield f"{verb} {size_text(cleaned.size_bytes)}; results, curves and what trials continue from stay"


def _removed(pieces: Sequence[Piece]) -> Sequence[Piece]:
    for piece in pieces:
        if piece.path.is_dir():
            shutil.rmtree(piece.path, ignore_errors=True)
        else:
            piece.path.unlink(missing_ok=True)
    return pieces


def _of_sweep(sweep: SweepFolder, epochs: bool) -> list[Piece]:
    found: list[Piece] = []
    for generation in sweep.generations():
        for folder in generation.trial_folders():
            try:
                record = read_record(folder)
            except (OSError, ValueError):
                continue  # the doctor's
            found += _of_trial(folder, record)
            if epochs:
                found += [
                    _piece(kept, "epoch", "that was kept")
                    for attempt in folder.attempts()
                    for kept in attempt.kept_epochs()
                ]
    return found


def _of_trial(folder: TrialFolder, record: Record) -> Iterator[Piece]:
    attempts = folder.attempts()
    for attempt in _dispensable([a for a in attempts if a.states], record):
        for file in attempt.states:
            yield _piece(file, "checkpoint", "that no trial continues from")
    for attempt in attempts[:-1] if not record.is_final else attempts:
        if any(file.is_file() for file in attempt.outputs.rglob("*")):  # those of the accepted one were moved
            yield _piece(attempt.outputs, "result", "not accepted")
    if record.state == "complete" and (folder.path / DAMAGED).is_dir():
        yield _piece(folder.path / DAMAGED, "damaged result", "trained again since")


def _dispensable(saved: list[Attempt], record: Record) -> list[Attempt]:
    return saved if record.state in ("complete", "pruned") else saved[:-CHECKPOINTS_KEPT]


def _leftovers(home: Home) -> Iterator[Piece]:
    """What a process that was killed while writing left outside sweeps; in them the doctor removes it."""
    for folder in (home.checks, home.phantoms):
        for file in files_aside(folder):
            if time.time() - file.stat().st_mtime > LEFT_FOR_S:
                yield _piece(file, "file", "left by a killed process")
    # A controller beats there every few seconds; its Slurm jobs end minutes after its last beat.
    for mailboxes in home.leases.glob("*"):
        if time.time() - mailboxes.stat().st_mtime > LEFT_FOR_S:
            yield _piece(mailboxes, "mailbox folder", "of Slurm jobs that are over")


def _unused_stores(home: Home) -> Iterator[Piece]:
    """Stores that no trial of the home is cut as; none when a spec cannot be read."""
    wanted: set[tuple[str, Cut]] = set()
    for file in (*home.sweeps.glob("*/g*/trials/*/spec.json"), *home.singles.glob("*/spec.json")):
        try:
            dataset = TrialFolder(file.parent).read_spec().dataset
        except BadInput:
            return
        wanted |= {(dataset.data_hash, cut) for cut in (dataset.cut, validation_cut(dataset.cut))}
    for store in sorted(home.stores.glob("*")):
        if store.is_dir() and not any(is_store_of(store, data_hash, cut) for data_hash, cut in wanted):
            yield _piece(store, "patch store", "of no trial")


def _piece(path: Path, kind: str, why: str) -> Piece:
    """With the bytes of files that are linked nowhere else: only those are freed."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    sizes = (file.lstat() for file in files)
    return Piece(path, kind, why, sum(stat.st_size for stat in sizes if stat.st_nlink == 1))
