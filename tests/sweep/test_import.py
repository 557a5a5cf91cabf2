"""`harness import`: everything arrives once, whatever is in the way, and goes on in the new home."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli import main
from harness.cli_import import import_sweep
from harness.errors import BadInput, Refused
from harness.files import read_json, sha256_file, write_json
from harness.report.held_out import openings_key
from harness.report.queries import read_sweep
from harness.sweep.bring import bring, open_old_home
from harness.sweep.carrying import carried, carry, damaged
from harness.sweep.doctor import examine
from harness.sweep.layout import HOME_VERSION, GenerationFolder, Home, open_home
from harness.sweep.ledger import read_records, write_record
from harness.sweep.lock import held
from harness.trial.folder import TrialFolder
from tests.postgres import programs, server
from tests.sweep.moving import QUIET, content, facts, importing, in_a_process, openings
from tests.sweep.test_adopt import OLD, WIDER, swept

pytestmark = pytest.mark.timeout(600)  # a sweep is trained first
IMPORT = "from harness.cli_import import import_sweep; import_sweep()"
ARRIVED = "tiny, 2 generations: 6 of 6 trials copied to"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a sweep of two generations whose controller was killed in the last trial."""
    place = Path(in_a_process("make", tmp_path_factory.mktemp("import") / "made"))
    return Home(place / "home")


@pytest.fixture
def homes(tmp_path: Path) -> tuple[Home, Home]:
    """Two homes with the same finished trials, which nobody trained."""
    (tmp_path / "old").mkdir()
    swept(tmp_path / "old", OLD)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    return Home(tmp_path / "old"), Home(tmp_path / "new")


def command(name: str, old: Home, new: Path, *more: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(import_sweep, [name, "--from", str(old.path), "--home", str(new), *more])


def process(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    """A command of its own: what it leaves open is nobody else's."""
    return subprocess.run(
        [sys.executable, *arguments, "--home", str(home)], capture_output=True, text=True, timeout=200
    )


def rows(home: Path, out: Path) -> list[dict[str, Any]]:
    """The complete rows of the generation that ran last, without what says where they lie."""
    done = CliRunner().invoke(main, ["report", "tiny", "--json", "--home", str(home), "--out", str(out)])
    complete = (row for row in json.loads(done.stdout)["rows"] if row["state"] == "complete")
    return [{key: value for key, value in row.items() if key not in ("run_id", "folder")} for row in complete]


@pytest.mark.slow
def test_a_sweep_moves_whole(old: Home, tmp_path: Path) -> None:
    """The same rows, nothing for the doctor, nothing twice, the old home as it was."""
    before, new = content(old.path), Home(tmp_path / "new")
    first = command("tiny", old, new.path)
    assert first.exit_code == 0 and ARRIVED in first.stdout, first.output
    assert content(old.path) == before
    arrived = facts(new)
    again = json.loads(command("tiny", old, new.path, "--json").stdout)
    assert (again["copied"], again["optuna"]["told"], again["mlflow"]["runs"], again["left"]) == (0, 0, 0, [])
    assert facts(new) == arrived
    assert len(arrived["runs"]) == 7  # two generations and their trials, but for the one that waits to go on
    assert examine(new.sweep("tiny"), new).found == ()

    generation = GenerationFolder(new.sweep("tiny").path / "g2")
    kept = read_records(generation)["default.0001"]
    assert kept.adopted_from == "g1/trials/default.0001"
    trained = new.sweep("tiny").path / kept.adopted_from
    assert (generation.trials / kept.uid / "weights.safetensors").samefile(trained / "weights.safetensors")
    assert (generation.path.parent / "g1/external/theirs/manifest.json").exists()
    said = [generation.space_file, *(folder.spec_file for folder in generation.trial_folders())]
    assert not [file for file in said if str(old.path) in file.read_text()]
    stayed = shutil.copytree(old.path, tmp_path / "stayed")
    board = rows(new.path, tmp_path / "reports")
    assert len(board) == 2 and board == rows(stayed, tmp_path / "reports of old")


@pytest.mark.slow
def test_what_waits_goes_on_in_the_new_home_without_the_old_one(old: Home, tmp_path: Path) -> None:
    """One epoch of two was trained; the weights become those of a sweep that stayed where it was."""
    new = Home(tmp_path / "home")
    importing(old.path, new.path)
    shutil.copy(old.path.parent / "tiny.yaml", tmp_path)
    away = old.path.rename(old.path.with_name("away"))
    try:
        code, error = in_a_process("finish", tmp_path)
    finally:
        away.rename(old.path)
    assert code == 0, error
    generation = GenerationFolder(new.sweep("tiny").path / "g2")
    stayed = old.path.parents[1] / "finished/home/sweeps/tiny/g2/trials"
    records = read_records(generation)
    assert sorted(records) == sorted(path.name for path in stayed.iterdir()) and len(records) == 4
    for uid in records:
        here, there = (trials / uid / "weights.safetensors" for trials in (generation.trials, stayed))
        assert sha256_file(here) == sha256_file(there)
    (resumed,) = (a.read_events()[0] for a in TrialFolder(generation.trials / "default.0002").attempts()[1:])
    assert resumed["resumed_epoch"] == 1
    again = json.loads(command("tiny", old, new.path, "--json").stdout)
    assert (again["copied"], again["went_on"], again["left"]) == (0, 1, [])
    assert examine(new.sweep("tiny"), new).found == ()


@pytest.mark.slow
def test_an_import_that_is_killed_ends_the_same_when_it_is_started_again(old: Home) -> None:
    """kill -9 at steps spread over the whole import; files, runs and studies as of an undisturbed one."""
    outcome = in_a_process("kill", old.path.parents[1], "6")
    assert outcome["wrong"] == []
    assert outcome["steps"] > 100 and outcome["tries"] == 6


@pytest.mark.slow
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed")
def test_optunas_studies_may_go_to_postgresql(old: Home, tmp_path: Path) -> None:
    """The studies are there, replicates are not among them, and the doctor asks for the storage."""
    new = tmp_path / "new"
    with server() as url:
        for told in (5, 0):
            done = process("-c", IMPORT, "tiny", "--from", str(old.path), "--storage", url, "--json", home=new)
            document = json.loads(done.stdout)
            assert (document["optuna"]["told"], document["left"]) == (told, [])
        found = process("-m", "harness.cli", "doctor", "tiny", "--storage", url, home=new)
        assert found.stdout == "1 sweep: everything is as it should be\n"
    (note,) = examine(Home(new).sweep("tiny"), Home(new), mlflow=False).notes
    assert "the sweep was run with --storage" in note
    assert not (new / "optuna.db").exists()


@pytest.mark.slow
def test_a_damaged_trial_is_named_and_waits_to_be_trained_again(old: Home, tmp_path: Path) -> None:
    """Its files are there, in `damaged/`; all others arrived."""
    copy = Home(shutil.copytree(old.path, tmp_path / "old"))
    weights = copy.sweep("tiny").path / "g1/trials/default.0000/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.unlink()  # else it would change in the second generation, too
    weights.write_bytes(content)
    done = command("tiny", copy, tmp_path / "new")
    assert done.exit_code == 4
    assert "g1/trials/default.0000 is damaged in" in done.stdout and "(weights.safetensors)" in done.stdout
    trial = Home(tmp_path / "new").sweep("tiny").path / "g1/trials/default.0000"
    assert read_json(trial / "trial.json")["state"] == "waiting"
    assert (trial / "damaged/1/weights.safetensors").read_bytes() == bytes(content)
    assert examine(Home(tmp_path / "new").sweep("tiny"), Home(tmp_path / "new")).found == ()
    again = json.loads(command("tiny", copy, tmp_path / "new", "--json").stdout)
    assert (again["copied"], again["left"]) == (0, [])


@pytest.mark.slow
def test_looks_at_test_patients_come_along_once(old: Home, tmp_path: Path) -> None:
    """Those of any sweep at this one's patients; what the new home knew of them stays."""
    copy, new = Home(shutil.copytree(old.path, tmp_path / "old")), Home(tmp_path / "new")
    new.path.mkdir()
    key = openings_key(read_sweep(copy.sweep("tiny").path / "g1"))
    openings(copy, key)
    openings(copy, key, sweep="another", time="2025-01-01T00:00:00+00:00")
    openings(copy, "other patients")
    openings(new, key, sweep="here", time="2024-01-01T00:00:00+00:00")
    assert [importing(copy.path, new.path).openings for _ in range(2)] == [2, 0]
    known = read_json(new.openings)
    assert list(known) == [key]
    assert [look["sweep"] for look in known[key]["openings"]] == ["here", "another", "tiny"]


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"]).returncode != 0, reason="no file systems of our own here"
)
def test_the_old_home_may_be_read_only(old: Home, tmp_path: Path) -> None:
    """All arrives, and a sweep that runs there is refused all the same."""
    mounted = f"mount --bind '{old.path}' '{old.path}' && mount -o remount,ro,bind '{old.path}' && exec \"$@\""
    ask = ["unshare", "-rm", "sh", "-c", mounted, "sh", sys.executable, "-c", IMPORT, "tiny"]
    ask += ["--from", str(old.path), "--home", str(tmp_path / "new")]
    with held(old.sweep("tiny")):
        done = subprocess.run(ask, capture_output=True, text=True, timeout=200)
        assert done.returncode == 3, done.stderr
        assert f"is being run by process {os.getpid()} on " in done.stderr
    done = subprocess.run(ask, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and ARRIVED in done.stdout, done.stderr


def test_what_goes_on_from_the_other_home_is_ahead_of_it(homes: tuple[Home, Home], tmp_path: Path) -> None:
    """By the epochs trained: it is copied when the old home has more, and left when the new one has."""
    old, new = (TrialFolder(home.sweep("small").path / "g1/trials/default.0000") for home in homes)
    assert carried(old, new).standing == "same"
    for folder in (old, new):
        folder.manifest.unlink()
        write_record(folder, read_record(folder).model_copy(update={"state": "waiting"}))
    old.attempt(1).append_event({"event": "epoch", "epoch": 2, "objective": 0.5})
    trial = carried(old, new)
    assert trial.standing == "behind"
    assert carry(trial, tmp_path / "aside", {}, {}) == []
    assert carried(old, new).standing == "same"
    new.new_attempt().append_event({"event": "started", "resumed_epoch": 2})
    assert carried(old, new).standing == "ahead"
    old.new_attempt().append_event({"event": "started", "resumed_epoch": 1})
    with pytest.raises(Refused, match=r"g1/trials/default.0000 was trained in .*new, too"):
        carried(old, new)


def read_record(folder: TrialFolder) -> Any:
    """The record of one trial."""
    return read_records(GenerationFolder(folder.path.parents[1]))[folder.uid]


def test_another_sweep_of_the_same_name_is_refused_by_its_difference(homes: tuple[Home, Home], tmp_path: Path) -> None:
    """Another space, another trial under the same name, another result of the same trial; nothing is written."""
    old, new = homes
    (tmp_path / "wider").mkdir()
    swept(tmp_path / "wider", WIDER)
    with pytest.raises(Refused, match=r"has another sweep 'small': patch_px: 32, 64, 128 -> 32, 64 in g1; choose"):
        bring("small", old, Home(tmp_path / "wider"), QUIET)
    before = content(new.path)
    trial = TrialFolder(new.sweep("small").path / "g1/trials/default.0002")
    record = read_record(trial)
    write_record(trial, record.model_copy(update={"parameters": {**record.parameters, "learning_rate": 0.5}}))
    with pytest.raises(Refused, match=r"default.0002 is another trial in .*new: learning_rate 0.5 instead of 0.001"):
        bring("small", old, new, QUIET)
    write_record(trial, record)
    write_json(trial.manifest, {**read_json(trial.manifest), "sha256": {}})
    with pytest.raises(
        Refused, match=r"default.0002 was trained in .*new, too, and has other epochs or another result"
    ):
        bring("small", old, new, QUIET)
    assert {name for name in content(new.path) if before.get(name) != content(new.path)[name]} == {str(trial.manifest)}


def test_a_sweep_that_runs_in_either_home_is_refused(homes: tuple[Home, Home]) -> None:
    """It is held here, by this process."""
    for home in homes:
        with held(home.sweep("small")), pytest.raises(Refused, match=f"is being run by process {os.getpid()}"):
            bring("small", *homes, QUIET)


def test_homes_that_cannot_be_read_are_refused_in_one_line(homes: tuple[Home, Home], tmp_path: Path) -> None:
    """A newer harness's, no home at all, the same home, a sweep that is not there, a record that is damaged."""
    old, new = homes
    with pytest.raises(BadInput, match="not a home of harness"):
        open_old_home(tmp_path / "nowhere")
    with pytest.raises(Refused, match="--from and --home are the same"):
        bring("small", old, old, QUIET)
    with pytest.raises(BadInput, match=r"no sweep named 'large' .*there are: small"):
        bring("large", old, new, QUIET)
    for home, opened in ((old, open_old_home), (new, open_home)):
        write_json(home.note, {"version": HOME_VERSION + 1})
        with pytest.raises(Refused, match="was written by a newer harness"):
            opened(home.path)
    (old.sweep("small").path / "g1/trials/default.0001/trial.json").write_text("{")
    with pytest.raises(BadInput, match=r"default.0001/trial.json: cannot be read"):
        bring("small", old, new, QUIET)


def test_a_copy_shares_what_the_original_shares_and_leaves_out_what_is_not_the_trials(
    homes: tuple[Home, Home], tmp_path: Path
) -> None:
    """A checkpoint and the epoch kept of it are one file; a cursor and a half-written file stay."""
    old, new = homes
    shutil.rmtree(new.sweep("small").path / "g1/trials/default.0003")
    folders = [TrialFolder(home.sweep("small").path / "g1/trials/default.0003") for home in (old, new)]
    attempt = folders[0].attempt(1)
    attempt.checkpoint.write_bytes(b"state")
    attempt.keep_epoch(1)
    (folders[0].path / ".result.json.abcd1234.json").write_text("{")
    trial = carried(*folders)
    assert trial.standing == "absent"
    assert carry(trial, tmp_path / "aside", {}, {}) == []
    copy = folders[1].attempt(1)
    assert copy.checkpoint.samefile(copy.kept_epochs()[0]) and not copy.checkpoint.samefile(attempt.checkpoint)
    assert damaged(folders[1]) == []
    left_out = {path.name for path in folders[0].path.iterdir()} - {path.name for path in folders[1].path.iterdir()}
    assert left_out == {"mlflow.json", ".result.json.abcd1234.json"}
    assert carried(*folders) == replace(trial, standing="same")
