"""What pip-audit found, weighed against what has been accepted.

python scripts/vulnerabilities.py AUDIT.json ACCEPTED.toml; exit codes as in scripts/check-deps, which calls this.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

NOTHING_OPEN, TO_DO, BAD_FILE, UNKNOWN = 0, 1, 2, 75  # 75: "try again later" (sysexits.h)
_FIELDS = {"id": str, "package": str, "reason": str, "look_again": date}


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability of one package, under all of its names."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no release without it"
        return f"{self.package} {self.version}: {' = '.join(self.ids)} ({fix})"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A vulnerability that somebody has looked at, until when, and why it does not reach us."""

    id: str
    package: str
    reason: str
    look_again: date

    def covers(self, finding: Finding) -> bool:
        """Whether this is that one, by any of its names."""
        return self.id in finding.ids and canonical(self.package) == finding.package


@dataclass(frozen=True, slots=True)
class Audit:
    """What pip-audit found out: findings, and the packages that it could not look up, with its reason."""

    findings: tuple[Finding, ...]
    unknown: tuple[tuple[str, str], ...]
    packages: int


def canonical(name: str) -> str:
    """A package's name as indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_audit(text: str) -> Audit | None:
    """pip-audit's JSON; None when there is none, because it gave up on the way."""
    if not text.strip():
        return None
    rows = json.loads(text)["dependencies"]
    findings = [
        Finding(canonical(row["name"]), row["version"], _names(found), tuple(found["fix_versions"]))
        for row in rows
        for found in row.get("vulns", ())
    ]
    unknown = [(row["name"], row["skip_reason"]) for row in rows if "skip_reason" in row]
    return Audit(tuple(findings), tuple(unknown), len(rows))


def _names(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([found["id"], *found.get("aliases", ())]))


def read_accepted(text: str) -> tuple[Accepted, ...]:
    """The accepted ones. ValueError, one line per mistake."""
    document = tomllib.loads(text)
    problems = [f"unknown key `{key}`; allowed: [[accepted]]" for key in document if key != "accepted"]
    entries = document.get("accepted", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("`accepted` is no list of tables: each begins with [[accepted]]")
    for number, entry in enumerate(entries, start=1):
        problems += [f"entry {number}: {problem}" for problem in _problems(entry)]
    if problems:
        raise ValueError("\n".join(problems))
    return tuple(Accepted(**entry) for entry in entries)


def _problems(entry: dict[str, Any]) -> Iterator[str]:
    yield from (f"unknown key `{key}`; allowed: {', '.join(_FIELDS)}" for key in entry if key not in _FIELDS)
    for field, kind in _FIELDS.items():
        value = entry.get(field, "")
        if value == "" or (isinstance(value, str) and not value.strip()):
            yield f"`{field}` is missing"
        elif type(value) is not kind:  # a time of day is a date, too
            yield f"`{field}` is no {'date (2027-01-31, unquoted)' if kind is date else 'text'}"


def weigh(audit: Audit, accepted: Sequence[Accepted], today: date) -> tuple[str, ...]:
    """One line for each thing to do."""
    unsettled = [f"open: {finding}" for finding in audit.findings if not any(one.covers(finding) for one in accepted)]
    for one in accepted:
        if one.look_again < today:
            unsettled.append(f"look again at {one.id} of {one.package}: accepted until {one.look_again}")
        # Of a package that could not be looked up, nobody knows whether it still has the hole.
        known = canonical(one.package) not in {canonical(name) for name, _ in audit.unknown}
        if known and not any(one.covers(finding) for finding in audit.findings):
            unsettled.append(f"remove {one.id} of {one.package}: no finding matches it any more")
    return tuple(unsettled)


def main(audit_file: Path, accepted_file: Path, today: date) -> int:
    """Say what is to be done, on stderr, and return the exit code."""
    try:
        accepted = read_accepted(accepted_file.read_text(encoding="utf-8"))
    except ValueError as error:  # a syntax error of TOML is one as well
        _say(*(f"{accepted_file}: {line}" for line in str(error).splitlines()))
        return BAD_FILE
    audit = read_audit(audit_file.read_text(encoding="utf-8"))
    if audit is None:
        _say("the vulnerability service could not be reached: nothing is known about any package")
        return UNKNOWN
    unsettled = weigh(audit, accepted, today)
    _say(*unsettled)
    if audit.unknown:
        name, reason = audit.unknown[0]
        _say(f"{len(audit.unknown)} of {audit.packages} packages could not be looked up, {name} first: {reason}")
    else:
        _say(f"{audit.packages} packages looked up, {len(audit.findings)} findings, {len(accepted)} accepted")
    if unsettled:
        return TO_DO
    return UNKNOWN if audit.unknown or not audit.packages else NOTHING_OPEN


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), date.today()))
