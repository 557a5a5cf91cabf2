"""The report's columns of finished trials: a cache that nobody can tell from the folders."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.index import DERIVED, FILE, read_indexed
from harness.report.page import write_report
from harness.report.queries import read_sweep
from harness.sweep.columns import WORTH_KEEPING, read_columns, rows_of, table, write_columns
from tests.report.factory import SweepFolder

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """Complete runs on two label maps with a replicate, a failed one, a pruned one, and one that still runs."""
    made = SweepFolder(tmp_path, strata={"labels": ["unicorn3", "tiger7"]})
    for number in range(WORTH_KEEPING):
        labels = ("unicorn3", "tiger7")[number % 2]
        made.trial({"architecture": "unet", "learning_rate": 10.0 ** -(number % 4)}, labels=labels, error=0.02 * number)
    made.trial(replicate_of="u001", seed=99, result={"flags": ["best epoch is the last"], "scores": {"val/iou": 0.5}})
    made.trial(state="failed", cause="nan", message="no finite value", epochs=())
    made.trial(state="pruned", pruned_epoch=2)
    made.trial(state="running")
    return made


def read(folder: SweepFolder, *, indexed: bool) -> list[str]:
    """All that is known of every trial, but for what the report leaves in the files; and the problems."""
    sweep = read_indexed(folder.path) if indexed else read_sweep(folder.path)
    known = []
    for trial in sweep.trials:
        result = {key: value for key, value in (trial.result or {}).items() if key not in DERIVED}
        curve = [(e.number, e.seconds, e.values.get("val/iou")) for e in trial.epochs]
        scored = trial.scored and [
            trial.scored.counts_2PSC.tolist(), trial.scored.matrix.tolist(), dict(trial.scored.scores),
            trial.scored.group, trial.scored.patients, trial.scored.rois[0].name, trial.scored.scheme,
        ]  # fmt: skip
        others = replace(trial, result=result, epochs=(), scored=None)
        known.append(repr((others, curve, scored)))
    return [*known, *sweep.problems]


def said(folder: SweepFolder, out: Path, *, indexed: bool) -> dict[str, str]:
    """Every text of the report, but for when it was written."""
    sweep = read_indexed(folder.path) if indexed else read_sweep(folder.path)
    page = write_report(sweep, out)
    texts = {file.name: file.read_text() for file in sorted(page.parent.glob("*.*"))}
    shutil.rmtree(out)
    return {name: re.sub(r"written [-0-9: ]+UTC", "", text) for name, text in texts.items()}


def test_the_report_says_the_same_with_and_without_the_columns(folder: SweepFolder, tmp_path: Path) -> None:
    """Byte for byte: from the folders, while the columns are made, and from the columns."""
    expected = said(folder, tmp_path / "out", indexed=False)
    assert not (folder.path / FILE).exists()
    assert said(folder, tmp_path / "out", indexed=True) == expected
    assert (folder.path / FILE).exists()
    assert said(folder, tmp_path / "out", indexed=True) == expected
    assert {"leaderboard.json", "index.html", "leaderboard.csv"} <= set(expected)


def test_finished_trials_are_not_opened_again(folder: SweepFolder) -> None:
    """Files of the same size, time and inode stand for what was read: the columns are what is read the second time."""
    before = read_indexed(folder.path).trials
    inside = folder.path / "trials/u001/result.json"
    status, text = inside.stat(), inside.read_text()
    with inside.open("r+") as stream:
        stream.write(text.replace('"lr_cuts": 0', '"lr_cuts": 7'))
    os.utime(inside, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = {trial.uid: trial for trial in read_indexed(folder.path).trials}
    assert again["u001"].result == next(trial.result for trial in before if trial.uid == "u001")
    assert [trial.uid for trial in before] == list(again)


@pytest.mark.parametrize("name", ["trial.json", "scores.json", "result.json", "mlflow.json", "attempts/1/events.jsonl"])
def test_a_file_that_changed_is_read_again(folder: SweepFolder, name: str) -> None:
    """Whatever file of a finished trial is replaced, damaged or gone, the report is that of the folders."""
    read_indexed(folder.path)
    file = folder.path / "trials/u003" / name
    other = folder.path / "trials/u005" / name
    shutil.copy(other, file)
    assert read(folder, indexed=True) == read(folder, indexed=False)
    file.write_text("{")
    assert read(folder, indexed=True) == read(folder, indexed=False)
    file.unlink()
    assert read(folder, indexed=True) == read(folder, indexed=False)


def test_trials_come_and_go(folder: SweepFolder) -> None:
    """A trial that was taken away is gone, one that ended is there, and one tried again is running."""
    read_indexed(folder.path)
    shutil.rmtree(folder.path / "trials/u002")
    record = folder.path / "trials/u022/trial.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "state": "running"}))
    folder.trial(error=0.01)
    states = {trial.uid: trial.state for trial in read_indexed(folder.path).trials}
    assert ("u002" in states, states["u022"], states["u025"]) == (False, "running", "complete")
    assert read(folder, indexed=True) == read(folder, indexed=False)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_file_of_columns_is_made_anew(folder: SweepFolder, damage: str) -> None:
    """Half of it, a changed byte, none, or something else altogether: the trials are those of the folders."""
    expected = [(trial.uid, trial.epochs_trained) for trial in read_indexed(folder.path).trials]
    file = folder.path / FILE
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    damaged = {"cut": content[: len(content) // 2], "flipped": content, "empty": b"", "other": b"[1, 2]"}
    file.write_bytes(bytes(damaged[damage]))
    assert [(trial.uid, trial.epochs_trained) for trial in read_indexed(folder.path).trials] == expected
    assert len(file.read_bytes()) > 1000


def test_a_home_that_may_not_be_written_is_read(folder: SweepFolder) -> None:
    """Where no file can be made, the report is there and the columns are not."""
    (folder.path / FILE).mkdir()  # whatever one's rights, no file replaces a folder
    (folder.path / FILE / "held").touch()
    assert len(read_indexed(folder.path).trials) == folder.count


@given(rows=st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=6))
def test_a_table_gives_back_its_rows(rows: list[dict[str, object]]) -> None:
    """Values, their types and the order of keys: as their JSON text."""
    given_back = list(rows_of(table(rows, "t"), "t"))
    assert [json.dumps(row) for row in given_back] == [json.dumps(row) for row in rows]


def test_columns_of_another_version_are_not_read(tmp_path: Path) -> None:
    """The key names the code that wrote them."""
    write_columns(tmp_path / "c.npz", "one", {"numbers": np.arange(3)})
    assert read_columns(tmp_path / "c.npz", "two") is None
    found = read_columns(tmp_path / "c.npz", "one")
    assert found is not None and found["numbers"].tolist() == [0, 1, 2]
