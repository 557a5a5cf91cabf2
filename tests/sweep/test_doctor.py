"""`harness doctor` on a real sweep: nothing to find, then each kind of damage by hand, repaired once and for all."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli import main
from harness.files import read_json, write_json
from tests.faults.tiny import Place, phantom, prepared


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A finished sweep."""
    folder = tmp_path_factory.mktemp("doctor")
    place = prepared(folder / "place", phantom(folder / "regions"))
    place.run()
    return place


def run(place: Place, *arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(main, ["doctor", "tiny", "--home", str(place.home.path), *arguments])


def kinds(place: Place, *arguments: str) -> list[str]:
    """The kinds of what it finds."""
    document = json.loads(run(place, "--json", *arguments).stdout)
    return sorted(finding["kind"] for sweep in document["sweeps"] for finding in sweep["findings"])


@pytest.mark.slow
def test_each_damage_is_found_named_and_repaired_once(swept: Place) -> None:
    """A healthy home; then a flipped byte, a leftover, a torn line, states that differ."""
    assert run(swept).exit_code == 0, run(swept).output
    first, second = sorted(swept.generation.trials.iterdir())

    (first / ".result.json.abcd1234.json").write_text("{")
    torn = first / "attempts/1/events.jsonl"
    torn.write_text(torn.read_text() + '{"event": "ep')
    with closing(sqlite3.connect(swept.home.path / "mlflow.db")) as db:
        db.execute("update runs set status = 'RUNNING'")
        db.commit()
    found = kinds(swept)
    assert {"leftover", "torn"} <= set(found) and len(found) >= 4  # two trials' runs among them
    assert run(swept).exit_code == 4
    assert run(swept, "--fix").exit_code == 0, run(swept, "--fix").output
    assert kinds(swept) == []

    record = read_json(second / "trial.json")
    write_json(second / "trial.json", {**record, "state": "running"})
    assert "unaccepted" in kinds(swept, "--fix")
    assert read_json(second / "trial.json")["state"] == "complete"

    weights = second / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    said = run(swept)
    assert said.exit_code == 4
    assert "weights.safetensors: not there, or not as it was written" in said.output
    run(swept, "--fix")
    assert read_json(second / "trial.json")["state"] == "waiting"
    assert (second / "damaged/1/weights.safetensors").read_bytes() == bytes(content)
    outcome = swept.run()
    assert (outcome.complete, outcome.epochs_trained) == (2, 2)
    assert kinds(swept) == []


def test_an_empty_home_has_nothing_to_find(tmp_path: Path) -> None:
    """And says so."""
    done = CliRunner().invoke(main, ["doctor", "--home", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, "0 sweeps: everything is as it should be\n")
