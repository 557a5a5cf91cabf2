"""What a sweep at rest promises of its folders, one check each. The databases: see `projections`.

A check yields findings and changes nothing; a finding carries its own repair, where there is one. At rest means that
nobody holds the sweep's lock: while a controller works, a trial may run and a file may be half written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from harness.files import read_json, sha256_file
from harness.sweep import mending
from harness.sweep.layout import GenerationFolder, SweepFolder
from harness.sweep.ledger import Record
from harness.trial.folder import Attempt, TrialFolder

# As `harness.files.written_aside` names them.
_ASIDE = re.compile(r"\..+\.[a-z0-9_]{8}(\.\w+)?")


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that does not hold."""

    kind: str  # one word for scripts: stale, unaccepted, damaged, ...
    where: Path
    what: str
    repair: str | None = None  # what `doctor --fix` does about it; None: nothing can be done
    mend: Callable[[], None] | None = field(default=None, repr=False, compare=False)


def check_folders(sweep: SweepFolder, *, hashes: bool) -> Iterator[Finding]:
    """Everything about a sweep's folders. `hashes`: read every result and compare (else only whether it is there)."""
    yield from _leftovers(sweep.path)
    for generation in sweep.generations():
        yield from _unreadable_space(generation)
        records: list[tuple[TrialFolder, Record]] = []
        for folder in generation.trial_folders():
            if not folder.state_file.exists():
                continue  # killed before it was submitted; the controller makes it anew
            try:
                records.append((folder, mending.read_record(folder)))
            except (OSError, ValueError) as error:
                reason = str(error).splitlines()[0]
                yield Finding("unreadable", folder.state_file, f"the trial's record cannot be read: {reason}")
        for folder, record in records:
            yield from check_trial(folder, record, hashes=hashes)
        yield from _twice(records)


def check_results(sweep: SweepFolder) -> Iterator[Finding]:
    """Complete trials only, every byte: what can be checked while somebody trains others."""
    for generation in sweep.generations():
        for folder in generation.trial_folders():
            if folder.complete:
                yield from _damage(folder, hashes=True)


def check_trial(folder: TrialFolder, record: Record, *, hashes: bool) -> Iterator[Finding]:
    """One trial: its record against its files."""
    attempts = folder.attempts()
    for attempt in attempts:
        yield from _events(attempt)
    if not record.is_final:
        yield from _unfinished(folder, record, attempts)
        return
    accepted = record.accepted_attempt
    if accepted is not None and not folder.attempt(accepted).path.is_dir():
        what = f"attempt {accepted}, which was accepted, is not there: its curves are lost, the result stands"
        yield Finding("no_attempt", folder.path, what)
    # A result without a finite score is a failed trial's, and stays with it.
    if record.state == "complete" or (folder.complete and record.cause != "nan"):
        yield from _ended(folder, record, hashes=hashes)


def _unfinished(folder: TrialFolder, record: Record, attempts: list[Attempt]) -> Iterator[Finding]:
    last = attempts[-1].read_events()[-1:] if attempts and not list(_events(attempts[-1])) else []
    finished = bool(last) and last[0]["event"] == "finished" and last[0]["state"] == "complete"
    if finished and not (attempts[-1].outputs / "result.json").exists() and not folder.result.exists():
        what = f"attempt {attempts[-1].number} says that it finished, and its result is not there"
        repair = "the trial is trained again"
        yield Finding("damaged", folder.path, what, repair, partial(mending.train_again, folder))
    elif finished or folder.complete:
        what = "an attempt finished and was not accepted"
        yield Finding("unaccepted", folder.path, what, "it is accepted", partial(mending.accept_now, folder))
    elif record.state == "running":
        what = "said to be running, and nobody runs it"
        repair = "it waits to be continued"
        yield Finding("stale", folder.path, what, repair, partial(mending.let_wait, folder))


def _ended(folder: TrialFolder, record: Record, *, hashes: bool) -> Iterator[Finding]:
    """A trial with a result, or one that should have one."""
    damage = list(_damage(folder, hashes=hashes))
    yield from damage
    if damage or record.state == "complete":
        return
    what = f"said to be {record.state}, and its result is whole"
    yield Finding("unaccepted", folder.path, what, "it is accepted", partial(mending.accept_now, folder))


def _damage(folder: TrialFolder, *, hashes: bool) -> Iterator[Finding]:
    """At most one: what is wrong with a complete trial's files."""
    try:
        expected = dict(read_json(folder.manifest)["sha256"])
    except FileNotFoundError:
        what = "complete, but without manifest.json: nothing vouches for its files"
    except (OSError, ValueError, KeyError, TypeError):
        what = "manifest.json cannot be read: nothing vouches for its files"
    else:
        different = [name for name, digest in expected.items() if _differs(folder.path / name, digest, hashes)]
        if not different:
            return
        more = f" and {len(different) - 1} more" if len(different) > 1 else ""
        what = f"{different[0]}{more}: not there, or not as it was written"
    repair = "its files are moved to `damaged/`, and it is trained again"
    yield Finding("damaged", folder.path, what, repair, partial(mending.train_again, folder))


def _differs(file: Path, digest: str, hashes: bool) -> bool:
    try:
        return sha256_file(file) != digest if hashes else not file.stat().st_size
    except OSError:
        return True


def _events(attempt: Attempt) -> Iterator[Finding]:
    """Every line is an event, and the last one is whole."""
    try:
        *lines, tail = attempt.events.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    if not all(mending.is_event(line) for line in lines if line):
        what = "lines that cannot be read"
        repair = "they are left out; the file as it was stays as events.damaged"
        yield Finding("events", attempt.events, what, repair, partial(mending.keep_whole_lines, attempt))
    elif tail:
        what = "the last line was not written to its end"
        yield Finding("torn", attempt.events, what, "it is cut", partial(mending.cut_torn_line, attempt.events))


def _twice(records: list[tuple[TrialFolder, Record]]) -> Iterator[Finding]:
    """A combination is complete once per seed."""
    seen: dict[str, str] = {}
    for folder, record in records:
        key = json.dumps([record.stratum, record.parameters, record.seed], sort_keys=True)
        if record.state == "complete" and seen.setdefault(key, record.uid) != record.uid:
            what = f"complete with the parameters and the seed of {seen[key]}: one of them should not be there"
            yield Finding("twice", folder.path, what)


def _unreadable_space(generation: GenerationFolder) -> Iterator[Finding]:
    try:
        generation.read_space()["space"]
    except (OSError, ValueError, KeyError, TypeError):
        yield Finding("unreadable", generation.space_file, "the generation's space cannot be read")


def _leftovers(folder: Path) -> Iterator[Finding]:
    for file in files_aside(folder):
        what = "left by a process that ended while writing"
        yield Finding("leftover", file, what, "it is removed", partial(mending.remove_leftover, file))


def files_aside(folder: Path) -> Iterator[Path]:
    """Files that are being written aside, or were when their process ended."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent) / name for name in names if name.startswith(".") and _ASIDE.fullmatch(name))
