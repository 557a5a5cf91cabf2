"""`harness score` and `harness data export-split`, from the command line to the report."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from harness.cli import main
from harness.files import read_json
from harness.report.boards import group_boards
from harness.report.queries import read_sweep
from tests.scoring.conftest import Made
from tests.sweep.conftest import Lab


def run(*arguments: str | Path) -> Result:
    """The command in this process; click keeps stdout and stderr apart."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_row_reaches_page_and_tables_and_leaves_again(made: Made, tmp_path: Path) -> None:
    """A hostile name is text everywhere; counts, costs and effects are those of the trials alone."""
    pred, out, name = made.perfect(tmp_path / "pred"), tmp_path / "reports", "=<b>nn</b>"
    common = ("small", "--name", name, "--home", made.home.path, "--out", out)
    done = run("score", *common, "--pred", pred, "--map", "unicorn3", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [(row["row"], row["title"], row["rank"], row["ranked"], row["score"]) for row in document["rows"]] == [
        ("b_nn_b.unicorn3", "unicorn3", 1, 2, 1.0),
        ("b_nn_b.unicorn3", "all label maps", 1, 3, 1.0),
    ]
    page = (out / "small" / "index.html").read_text()
    assert "<b>nn" not in page
    assert "=&lt;b&gt;nn&lt;/b&gt; (masks of another tool: unicorn3) leads with yardstick 1.000" in page
    assert "the best of 2 completed runs" in page
    rows = read_json(out / "small" / "leaderboard.json")["rows"]
    assert [(row["trial"], row["external"]) for row in rows if row["external"]] == [("b_nn_b.unicorn3", name)]
    with (out / "small" / "leaderboard.csv").open(newline="") as stream:
        assert "b_nn_b.unicorn3" in [row["trial"] for row in csv.DictReader(stream)]
    assert run("score", *common, "--remove").exit_code == 0
    assert "nn&lt;/b&gt;" not in (out / "small" / "index.html").read_text()
    assert made.rows() == {}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--name", "nn"), 2, "--pred: give the folder with the masks"),
        (("--name", "nn", "--remove", "--pred", "."), 2, "not both"),
        (("--name", "nn", "--remove"), 2, "no row 'nn' in small; there are: none yet"),
        (("--name", " ", "--remove"), 2, "1 to 60 printable characters"),
        (("--name", "nn", "--pred", "."), 2, "say whose classes the values are by --map NAME"),
        (("--name", "nn", "--pred", ".", "--labels", "source"), 2, "harness data export-split small --out DIR"),
    ],
)
def test_wrong_input_is_clear_lines_and_its_exit_code(
    arguments: tuple[str, ...], code: int, says: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no report is written."""
    monkeypatch.chdir(tmp_path)
    done = run("score", "small", "--home", made.home.path, *arguments)
    assert (done.exit_code, says in done.stderr) == (code, True), done.output
    assert not (tmp_path / "reports").exists()


def test_a_sweep_and_its_file_export_the_same_split(made: Made, tmp_path: Path) -> None:
    """By name from what was run; by YAML before anything runs."""
    home = ("--home", made.home.path)
    assert run("data", "export-split", "small", "--out", tmp_path / "a", *home).exit_code == 0
    done = run("data", "export-split", made.space_file, "--out", tmp_path / "b", *home)
    assert done.exit_code == 0, done.output
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "a" / file).read_text() == (tmp_path / "b" / file).read_text()


@pytest.mark.slow
def test_predictions_of_trained_trials_fed_back_score_as_the_trials_did(phantom: Path, tmp_path: Path) -> None:
    """K classes and `as_paper` with its 0: the same matrices and scores to the last digit, a shared rank, one board."""
    space = f"""name: small
seed: 3
data: {{root: {json.dumps(str(phantom))}, split: {{validation: 0.34, seed: 1}}}}
labels: {{unicorn3: builtin}}
parameters:
  architecture: {{value: unet_plain}}
  decoder_channels: {{value: [16, 16, 8, 8, 8]}}
  patch_px: {{value: 64}}
  undefined: {{values: [ignore, as_paper]}}
train: {{epochs: 1, batch_size: 8, learning_rate: 0.003, stop_patience: null, augment: none, loss: cross_entropy}}
method: grid
budget: {{trials: 2}}
export: none
"""
    lab = Lab(tmp_path)
    (tmp_path / "small.yaml").write_text(space)
    done = lab.run("sweep", "small.yaml", "--executor", "inline")
    assert done.returncode == 0, done.stderr
    generation = lab.home / "sweeps/small/g1"
    settings = {uid: record["parameters"]["undefined"] for uid, record in lab.records().items()}
    for uid, undefined in settings.items():
        pred = generation / "trials" / uid / "predictions"
        scored = run("score", "small", "--name", undefined, "--pred", pred, "--home", lab.home, "--out", tmp_path)
        assert scored.exit_code == 0, scored.output
        assert re.match(rf"{undefined} on unicorn3: rank \d \(tied\) of \d, IoU", scored.stdout)
        trial, row = (
            read_json(folder / "scores.json") for folder in (pred.parent, generation / "external" / undefined)
        )
        assert trial["rois"] == row["rois"]
        assert trial["classes"] == row["classes"]
        results = [read_json(folder / "result.json") for folder in (pred.parent, generation / "external" / undefined)]
        assert results[0]["scores"] == results[1]["scores"]
    assert sorted(settings.values()) == ["as_paper", "ignore"]
    (board,) = group_boards(read_sweep(generation))
    assert sorted((row.rank, row.tied) for row in board.rows) == [(1, True), (1, True), (3, True), (3, True)]
