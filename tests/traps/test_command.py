"""`harness traps`: its files, its names, and the page of the docs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from click.testing import CliRunner

from harness.cli import main
from harness.files import read_json
from harness.traps.catalogue import TRAPS

DOCS = Path(__file__).parents[2] / "docs"


def test_a_trap_is_written_as_page_picture_and_numbers(tmp_path: Path) -> None:
    """Index, Markdown, JSON and PNG; stdout is one object with --json; the numbers are those of torch's scheduler."""
    result = CliRunner().invoke(main, ["traps", "plateau_and_stop", "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == read_json(tmp_path / "traps.json") and document["schema"] == "harness.traps/1"
    (trap,) = document["traps"]
    assert trap["shows"] is True
    assert trap["numbers"][0] == {"what": "cuts of the rate", "usual": 0, "harness": 1}
    assert (tmp_path / trap["picture"]).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'src="plateau_and_stop.png"' in page and "http" not in page.replace("http-equiv", "")
    assert "harness traps plateau_and_stop --seed 7" in (tmp_path / "traps.md").read_text(encoding="utf-8")


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    """Two runs of a cheap trap write the same traps.json and the same picture."""
    for name in ("a", "b"):
        result = CliRunner().invoke(main, ["traps", "plateau_and_stop", "--seed", "3", "--out", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
    for file in ("traps.json", "plateau_and_stop.png", "index.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_name_that_is_no_trap_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """Exit 2 before anything is painted or written."""
    result = CliRunner().invoke(main, ["traps", "patient_spilt", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "'patient_spilt' is not a trap; did you mean 'patient_split'?" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_list_and_the_docs_tell_every_trap_once() -> None:
    """docs/traps.md has a section and a small picture for each name of `harness traps --list`."""
    listed = CliRunner().invoke(main, ["traps", "--list"]).stdout.split()
    text = (DOCS / "traps.md").read_text(encoding="utf-8")
    assert sorted(listed) == sorted(TRAPS) == sorted(re.findall(r"^\*`(\w+)`:", text, re.M))
    for name in listed:
        assert f"](traps/{name}.png)" in text
        assert 5_000 < (DOCS / "traps" / f"{name}.png").stat().st_size <= 120_000
