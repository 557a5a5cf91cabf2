"""scripts/check-deps: a vulnerability is open until somebody has said why it does not reach us, and until when."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scripts.vulnerabilities import BAD_FILE, NOTHING_OPEN, TO_DO, UNKNOWN, main, read_accepted

TODAY = date(2026, 11, 26)
HOLE = {"id": "PYSEC-2026-7", "fix_versions": ["2.1"], "aliases": ["CVE-2026-1234", "GHSA-aaaa-bbbb-cccc"]}
SOUND = {"name": "numpy", "version": "2.4", "vulns": []}
HOLED = {"name": "some_lib", "version": "2.0", "vulns": [HOLE]}
SKIPPED = {"name": "some-lib", "skip_reason": "Dependency not found on PyPI and could not be audited"}
ENTRY = """
[[accepted]]
id = "CVE-2026-1234"
package = "Some.Lib"
reason = "its server is never started"
look_again = 2026-12-31
"""


def weighed(folder: Path, packages: list[dict[str, Any]] | None, accepted: str = "") -> int:
    """The exit code for pip-audit's answer (None: it gave up) and a triage file."""
    audit, file = folder / "audit.json", folder / "accepted.toml"
    audit.write_text("" if packages is None else json.dumps({"dependencies": packages, "fixes": []}))
    file.write_text(accepted)
    return main(audit, file, TODAY)


def test_sound_packages_leave_nothing_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And it says how many were looked up."""
    assert weighed(tmp_path, [SOUND]) == NOTHING_OPEN
    assert capsys.readouterr().err == "1 packages looked up, 0 findings, 0 accepted\n"


def test_a_finding_is_open_and_named_with_the_release_that_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under all of its names, since advisories are looked up by any."""
    assert weighed(tmp_path, [SOUND, HOLED]) == TO_DO
    names = "PYSEC-2026-7 = CVE-2026-1234 = GHSA-aaaa-bbbb-cccc"
    assert f"open: some-lib 2.0: {names} (fixed in 2.1)" in capsys.readouterr().err


@pytest.mark.parametrize("name", HOLE["aliases"] + [HOLE["id"]])
def test_an_accepted_finding_is_not_open(tmp_path: Path, name: str) -> None:
    """By whichever of its names, and however the package is spelled."""
    assert weighed(tmp_path, [HOLED], ENTRY.replace("CVE-2026-1234", name)) == NOTHING_OPEN


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("2026-12-31", "2026-11-25"), "look again at CVE-2026-1234 of Some.Lib: accepted until 2026-11-25"),
        (("CVE-2026-1234", "CVE-2020-1"), "remove CVE-2020-1 of Some.Lib: no finding matches it any more"),
        (("Some.Lib", "other"), "remove CVE-2026-1234 of other: no finding matches it any more"),
    ],
)
def test_an_entry_does_not_outlive_its_date_or_its_finding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: tuple[str, str], said: str
) -> None:
    """A list that only grows would hide the next hole."""
    assert weighed(tmp_path, [HOLED], ENTRY.replace(*changed)) == TO_DO
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (('reason = "its server is never started"', ""), "entry 1: `reason` is missing"),
        (("its server is never started", "  "), "entry 1: `reason` is missing"),
        (("look_again = 2026-12-31", 'look_again = "soon"'), "entry 1: `look_again` is no date"),
        (("look_again = 2026-12-31", "look_again = 2026-12-31T00:00:00"), "entry 1: `look_again` is no date"),
        (("reason", "because"), "entry 1: unknown key `because`; allowed: id, package, reason, look_again"),
        (("[[accepted]]", "[[ignored]]"), "unknown key `ignored`"),
        (("[[accepted]]", "[accepted]"), "`accepted` is no list of tables"),
        (('"Some.Lib"', "Some.Lib"), "Invalid value"),
    ],
)
def test_an_entry_says_all_it_has_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: tuple[str, str], problem: str
) -> None:
    """Nothing is accepted by a slip of the pen."""
    assert weighed(tmp_path, [HOLED], ENTRY.replace(*changed)) == BAD_FILE
    assert problem in capsys.readouterr().err


def test_a_service_that_is_away_is_not_a_clean_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pip-audit itself says "No known vulnerabilities found" when it could look up none of them."""
    assert weighed(tmp_path, None) == UNKNOWN
    assert "could not be reached" in capsys.readouterr().err
    assert weighed(tmp_path, [SKIPPED]) == UNKNOWN
    assert "1 of 1 packages could not be looked up, some-lib first" in capsys.readouterr().err
    assert weighed(tmp_path, [SOUND, SKIPPED]) == UNKNOWN
    assert weighed(tmp_path, [HOLED | {"name": "other"}, SKIPPED]) == TO_DO


def test_nothing_is_removed_while_nobody_knows(tmp_path: Path) -> None:
    """An entry whose package could not be looked up stays."""
    assert weighed(tmp_path, [SKIPPED], ENTRY) == UNKNOWN


def test_our_own_file_is_well_formed() -> None:
    """So that scripts/check-deps never fails for its form."""
    read_accepted((Path(__file__).parent.parent / "scripts" / "vulnerabilities.toml").read_text(encoding="utf-8"))
