"""`harness doctor`: are the promises about a sweep's folders, Optuna and MLflow kept, and what is done where not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.report.wording import plural
from harness.sweep.invariants import Finding, check_folders, check_results
from harness.sweep.layout import Home, SweepFolder
from harness.sweep.lock import held, holder_of

# A repair may bring the next finding to light (a result moved aside, and its state in Optuna); more rounds than this
# mean that one does not hold.
MAX_ROUNDS = 4
# What a kill leaves behind in the ordinary way: continuing mends it, and nobody need hear of it.
ORDINARY = frozenset({"stale", "unaccepted", "torn", "leftover"})


@dataclass(frozen=True, slots=True)
class Report:
    """What was found in one sweep, and what became of it."""

    sweep: str
    found: tuple[Finding, ...] = ()  # before any repair
    repaired: tuple[Finding, ...] = ()
    left: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()  # what was not looked at, and why


def examine(
    sweep: SweepFolder, home: Home, *, storage: str | None = None, fix: bool = False, mlflow: bool = True
) -> Report:
    """Check everything about a sweep; with `fix`, repair what can be repaired. Refused to `fix` one that is running.

    Of a running sweep only finished results are checked: all else may be in the middle of a change.
    """
    holder = holder_of(sweep)
    if not fix and holder is not None and holder.alive:
        found = tuple(check_results(sweep))
        note = f"{sweep.name} is being run by process {holder.pid}: only finished results were checked"
        return Report(sweep.name, found, left=found, notes=(note,))
    with held(sweep) if fix else nullcontext():
        notes: list[str] = []
        rooms = _rooms(sweep, home, storage, mlflow, notes)
        found = tuple(finding for room in rooms for finding in room())
        if not fix:
            return Report(sweep.name, found, left=found, notes=tuple(dict.fromkeys(notes)))
        repaired, left = _in_rounds(rooms, notes)
        return Report(sweep.name, found, repaired, left, tuple(dict.fromkeys(notes)))


def at_start(sweep: SweepFolder, note: Callable[[str], None]) -> None:
    """Repair a sweep's folders before its controller reads them; only what no kill explains is told.

    Whether results are there is checked, not every byte of them. For the holder of the lock. Optuna is brought to
    agree when its studies are restored, MLflow when the outbox has copied.
    """
    repaired, left = _mended(lambda: check_folders(sweep, hashes=False))
    for finding in (*repaired, *left):
        if finding.kind not in ORDINARY:
            note(f"doctor: {line_of(finding, sweep.path)}")


def line_of(finding: Finding, base: Path) -> str:
    """A finding as one line, its place relative to `base`."""
    where = finding.where.relative_to(base) if finding.where.is_relative_to(base) else finding.where
    return f"{where}: {finding.what}; {finding.repair or 'this cannot be repaired'}"


def document_of(reports: Sequence[Report], home: Home) -> dict[str, Any]:
    """`harness doctor --json`."""
    return {
        "schema": "harness.doctor/1",
        "home": str(home.path),
        "sweeps": [
            {
                "name": report.sweep,
                "findings": [_row(finding, home) for finding in report.found],
                "repaired": [_row(finding, home) for finding in report.repaired],
                "left": [_row(finding, home) for finding in report.left],
                "notes": list(report.notes),
            }
            for report in reports
        ],
    }


def summary_of(reports: Sequence[Report], *, fix: bool) -> str:
    """The last line."""
    found, left = (sum(len(getattr(report, name)) for report in reports) for name in ("found", "left"))
    sweeps = plural(len(reports), "sweep")
    if not found:
        return f"{sweeps}: everything is as it should be"
    if not fix:
        kinds = Counter(finding.kind for report in reports for finding in report.found)
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        return f"{sweeps}: {plural(found, 'finding')} ({counts}); --fix repairs what can be repaired"
    return f"{sweeps}: {plural(found, 'finding')}, {left} left"


Room = Callable[[], Iterable[Finding]]


def _rooms(sweep: SweepFolder, home: Home, storage: str | None, mlflow: bool, notes: list[str]) -> list[Room]:
    """The checks in the order in which they can be trusted: folders first, since the databases are told from them."""
    from harness.sweep.projections import check_mlflow, check_optuna  # Optuna: 1 s

    rooms: list[Room] = [lambda: check_folders(sweep, hashes=True)]
    if storage is None and any(_had_storage(sweep)):
        notes.append(f"{sweep.name}: Optuna was not compared: the sweep was run with --storage; give it here, too")
    else:
        rooms.append(lambda: list(check_optuna(sweep, storage or home.optuna_url)))

    def tracked() -> list[Finding]:
        findings, said = check_mlflow(sweep, home)
        notes.extend(said)
        return findings

    return [*rooms, tracked] if mlflow else rooms


def _had_storage(sweep: SweepFolder) -> Iterable[bool]:
    for generation in sweep.generations():
        command = generation.read_space().get("command", ())
        yield any(str(word).split("=")[0] == "--storage" for word in command)


def _in_rounds(rooms: Sequence[Room], notes: list[str]) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
    repaired: list[Finding] = []
    left: list[Finding] = []
    for room in rooms:
        done, remaining = _mended(room, notes)
        repaired += done
        left += remaining
    return tuple(repaired), tuple(left)


def _mended(room: Room, notes: list[str] | None = None) -> tuple[list[Finding], list[Finding]]:
    """Repair what a check finds until it finds nothing more: (repaired, left)."""
    repaired: list[Finding] = []
    left: list[Finding] = []
    for _ in range(MAX_ROUNDS):
        left = list(room())
        able = [finding for finding in left if finding.mend is not None]
        if not able:
            break
        for mend in dict.fromkeys(finding.mend for finding in able if finding.mend is not None):
            try:
                mend()
            except (HarnessError, OSError) as error:
                if notes is None:
                    raise
                notes.append(f"a repair did not succeed: {error}")
        repaired += able
    still = {(finding.kind, finding.where) for finding in left}
    return [f for f in dict.fromkeys(repaired) if (f.kind, f.where) not in still], left


def _row(finding: Finding, home: Home) -> dict[str, Any]:
    inside = finding.where.is_relative_to(home.path)
    where = finding.where.relative_to(home.path) if inside else finding.where
    return {"kind": finding.kind, "where": str(where), "what": finding.what, "repair": finding.repair}
