"""`harness retry` and `harness gc` on a real sweep: a second try after a failure, and what may be thrown away."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli import main
from harness.files import read_json, write_json
from harness.sweep.doctor import examine
from harness.trial.folder import TrialFolder
from tests.faults.tiny import Place, phantom, prepared

SHORT = '''
"""A loss that finds too little memory for a batch of 16 while a file says so."""
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy


def short(classes, ignore_index):
    def loss(logits, masks):
        if len(masks) > 2 and (Path(__file__).parent / "memory is short").exists():
            raise torch.OutOfMemoryError("CUDA out of memory, says the test")
        return cross_entropy(logits, masks, ignore_index=ignore_index)
    return loss
'''


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A sweep whose trials both ran out of memory, which by `on_failure` is only recorded."""
    folder = tmp_path_factory.mktemp("retry")
    place = prepared(folder / "place", phantom(folder / "regions"))
    (place.path / "short.py").write_text(SHORT)
    (place.path / "memory is short").touch()
    text = (place.path / "tiny.yaml").read_text().replace(
        "augment: none", "augment: none, loss: {import: short:short, name: short}"
    )  # fmt: skip
    (place.path / "tiny.yaml").write_text(text + "on_failure: {out_of_memory: record}\n")
    assert place.run().failed == 2
    return place


def run(place: Place, *arguments: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(main, [*arguments, "--home", str(place.home.path)])


@pytest.mark.slow
def test_failed_trials_are_tried_again_by_their_cause_and_gc_keeps_what_matters(failed: Place) -> None:
    """Listed, asked for by the wrong cause, then the right one: both complete, and every record agrees."""
    listed = run(failed, "retry", "tiny").stdout.splitlines()
    assert listed[-1] == "failed: 2 out_of_memory; --cause or --trial tries them again"
    assert listed[0].startswith("default.0000  out_of_memory  ")
    assert run(failed, "retry", "tiny", "--cause", "nan").stdout == (
        "no failed trial of that kind; there are: 2 out_of_memory\n"
    )
    assert run(failed, "retry", "tiny", "--cause", "thirst").exit_code == 2
    assert run(failed, "retry", "tiny", "--trial", "default.0009").exit_code == 2

    first = TrialFolder(failed.generation.trials / "default.0000")
    spec, record = first.read_spec(), read_json(first.state_file)
    smaller = spec.model_copy(update={"train": spec.train.model_copy(update={"accumulate": 4})})
    first.write_spec(smaller)
    write_json(first.state_file, {**record, "halved": 2, "fingerprint": smaller.fingerprint})
    one = run(failed, "retry", "tiny", "--trial", "default.0000").stdout
    assert one == "1 trial waits again (1 out_of_memory); `harness sweep` with the same file goes on\n"
    assert first.read_spec() == spec  # with its whole batch
    assert read_json(first.state_file)["fingerprint"] == spec.fingerprint
    assert "1 trial waits again" in run(failed, "retry", "tiny", "--cause", "oom").stdout

    (failed.path / "memory is short").unlink()
    outcome = failed.run()
    assert (outcome.complete, outcome.failed) == (2, 0)
    assert read_json(first.state_file)["accepted_attempt"] == 2
    assert examine(failed.home.sweep("tiny"), failed.home).found == ()

    _garbage(failed, first)


def _garbage(place: Place, first: TrialFolder) -> None:
    """What is put there to go goes, and is said; a second look finds nothing; nothing is trained again."""
    (store, *_) = [path for path in place.home.stores.iterdir() if path.is_dir()]
    shutil.copytree(store, store.with_name("0" * 24))
    first.attempt(1).checkpoint.write_bytes(b"x" * 1000)
    for name, age_s in ((".old.json.abcd1234.json", 2 * 86400), (".new.json.abcd1234.json", 0)):
        (place.home.checks / name).touch()
        os.utime(place.home.checks / name, (time.time() - age_s,) * 2)
    (first.path / "damaged/1").mkdir(parents=True)
    would = json.loads(run(place, "gc", "--dry-run", "--json").stdout)
    kinds = sorted(piece["kind"] for piece in would["pieces"])
    assert (kinds, would["removed"]) == (["checkpoint", "damaged result", "file", "patch store"], False)
    assert would["bytes"] > 1000 and first.attempt(1).checkpoint.exists()
    assert "freed" in run(place, "gc").stdout.splitlines()[-1]
    assert not first.attempt(1).checkpoint.exists() and not store.with_name("0" * 24).exists() and store.exists()
    assert json.loads(run(place, "gc", "--json").stdout)["pieces"] == []
    assert place.run().epochs_trained == 0


@pytest.mark.slow
def test_a_waiting_trial_keeps_its_two_newest_checkpoints(failed: Place, tmp_path: Path) -> None:
    """Three attempts: the oldest checkpoint goes. A kept epoch goes only when asked for."""
    shutil.copytree(failed.path, tmp_path / "copy")
    place = Place(tmp_path / "copy")
    trial = TrialFolder(place.generation.trials / "default.0001")
    write_json(trial.state_file, {**read_json(trial.state_file), "state": "waiting"})
    shutil.rmtree(trial.path / "attempts")
    for _ in range(3):
        attempt = trial.new_attempt()
        attempt.checkpoint.write_bytes(b"x")
        attempt.epochs.mkdir()
        (attempt.epochs / "1.pt").write_bytes(b"x")
    run(place, "gc", "tiny")
    assert [attempt.number for attempt in trial.attempts() if attempt.checkpoint.exists()] == [2, 3]
    assert sum(len(attempt.kept_epochs()) for attempt in trial.attempts()) == 3
    run(place, "gc", "tiny", "--epochs")
    assert sum(len(attempt.kept_epochs()) for attempt in trial.attempts()) == 0


def test_a_home_of_a_newer_harness_is_refused_in_one_line(tmp_path: Path) -> None:
    """Exit 3; a home without a note gets one, and is opened again."""
    for _ in range(2):
        assert CliRunner().invoke(main, ["gc", "--home", str(tmp_path)]).exit_code == 0
    assert read_json(tmp_path / "home.json") == {"version": 1}
    write_json(tmp_path / "home.json", {"version": 99})
    refused = CliRunner().invoke(main, ["gc", "--home", str(tmp_path)])
    assert refused.exit_code == 3
    assert "written by a newer harness (layout 99; this one knows up to 1)" in refused.output


def test_a_home_that_cannot_be_written_to_is_refused_in_one_line(tmp_path: Path) -> None:
    """A read-only file system: exit 3, no traceback. (Permissions alone do not stop root.)"""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mounts of our own (unshare -rm)")
    (tmp_path / "home").mkdir()
    command = shlex.join([sys.executable, "-m", "harness.cli", "status", "--home", "home"])
    script = f"mount --bind home home && mount -o remount,bind,ro home && {command}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"harness: {tmp_path / 'home'}: not writable; choose another --home\n"
