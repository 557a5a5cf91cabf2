"""What the report says of claims: verdict, numbers, what would settle it; and the exit code of `--check`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.files import read_json, write_json
from harness.inference.claims import Arm, Cell, Contest
from harness.report.claims import claims_document, findings
from harness.report.page import write_report
from harness.report.queries import read_sweep
from tests.report.factory import Cohort, SweepFolder

SEEDS = (11, 12, 13, 14)
TEXT = "learning_rate=0.1 > learning_rate=0.2 on val/iou by 0.02"


def claimed(home: Path, errors: tuple[float, float], *, patients: int = 12, ended: int = 3, failed: int = 0) -> Path:
    """A sweep with one claim and so many rounds of it; `errors`: each side's share of wrong pixels."""
    folder = SweepFolder(home, cohort=Cohort(rois=patients, patients=patients, side=32))
    document = read_json(folder.path / "space.json")
    document["space"]["claims"] = [TEXT]
    write_json(folder.path / "space.json", document)
    arms = []
    for number, (rate, error) in enumerate(zip((0.1, 0.2), errors, strict=True)):
        parameters = {"architecture": "unet", "learning_rate": rate}
        uid = folder.trial(parameters, error=error)
        arms.append(Arm(uid=uid, stratum="unicorn3", number=number, parameters=parameters))
        for place, seed in enumerate(SEEDS[:ended]):
            state = "failed" if number and place < failed else "complete"
            folder.trial(parameters, error=error, uid=f"{uid}.s{seed}", replicate_of=uid, seed=seed, state=state)
    contest = Contest(
        text=TEXT, metric="val/iou", margin=0.02, cells=(Cell(better=arms[0], worse=arms[1]),), seeds=SEEDS
    )
    write_json(folder.path / "claims.json", {"claims": [contest.model_dump(mode="json")]})
    return folder.path


@pytest.mark.parametrize(
    ("errors", "word"), [((0.1, 0.5), "supported"), ((0.5, 0.1), "refuted"), ((0.3, 0.3), "undecided")]
)
def test_the_verdict_follows_the_runs(tmp_path: Path, errors: tuple[float, float], word: str) -> None:
    """10 % of wrong pixels against 50 %, the other way round, and 30 % each."""
    path = claimed(tmp_path, errors)
    (found,) = findings(read_sweep(path))
    assert found.verdict.word == word
    assert found.sentence.startswith(f"{word.capitalize()}: ")
    assert (
        "against +0.020 claimed; 3 fresh seeds a side, 1 pair of settings, 12 validation patients, which is few."
        in (found.sentence)
    )
    assert f"the claim is {word}." in found.methods
    assert found.methods.startswith("The claim was stated before the first training of the sweep.")
    assert found.cells == ("lr\N{NO-BREAK SPACE}0.1 against lr\N{NO-BREAK SPACE}0.2; both: unet",)
    (document,) = claims_document(read_sweep(path))
    value, low, high = document["difference"]
    assert low < value < high


def test_the_difference_is_the_mean_over_seeds_of_paired_scores(tmp_path: Path) -> None:
    """From the report's own scores of the six runs; the search's runs are not in it."""
    sweep = read_sweep(claimed(tmp_path, (0.1, 0.5)))
    (found,) = findings(sweep)
    fresh = [trial for trial in sweep.trials if trial.replicate_of is not None]
    by_side = {rate: [t.scored.scores["val/iou"] for t in fresh if t.scored and t.parameters["learning_rate"] == rate]
               for rate in (0.1, 0.2)}  # fmt: skip
    assert found.verdict.difference is not None
    assert found.verdict.difference.value == pytest.approx(np.mean(by_side[0.1]) - np.mean(by_side[0.2]))


def test_a_round_with_a_failed_run_is_left_out(tmp_path: Path) -> None:
    """Four rounds, one of which failed on one side: three count."""
    (found,) = findings(read_sweep(claimed(tmp_path, (0.1, 0.5), ended=4, failed=1)))
    assert (found.verdict.word, found.verdict.seeds) == ("supported", 3)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """Two seeds; nothing chosen yet; too few patients for any verdict."""
    (two,) = findings(read_sweep(claimed(tmp_path / "a", (0.1, 0.5), ended=2)))
    assert two.sentence == "Undecided: 2 of the 3 seeds that a first look needs."
    path = claimed(tmp_path / "b", (0.1, 0.5), ended=0)
    (path / "claims.json").unlink()
    (none,) = findings(read_sweep(path))
    assert none.sentence == "Undecided: its runs have not begun; they follow the search."
    path = claimed(tmp_path / "c", (0.1, 0.5), ended=0, patients=5)
    (path / "claims.json").unlink()
    (few,) = findings(read_sweep(path))
    assert few.sentence == "Undecided: 5 validation patients, and a verdict needs 6; nothing was trained for it."


@pytest.mark.parametrize(("errors", "code"), [((0.1, 0.5), 0), ((0.5, 0.1), 4), ((0.3, 0.3), 0)])
def test_check_exits_with_4_only_when_a_claim_is_refuted(
    tmp_path: Path, errors: tuple[float, float], code: int
) -> None:
    """The report is written first, whatever comes out; without --check the code is 0."""
    claimed(tmp_path, errors)
    asked = ["report", "small", "--home", str(tmp_path), "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(main, asked).exit_code == 0
    said = CliRunner().invoke(main, [*asked, "--check", "--json"])
    assert said.exit_code == code
    assert (tmp_path / "out/small/index.html").exists()
    assert json.loads(said.stdout)["claims"][0]["claim"] == TEXT


def test_a_claim_on_the_page_is_text(tmp_path: Path) -> None:
    """Escaped, and before the answer."""
    path = claimed(tmp_path, (0.1, 0.5))
    document = read_json(path / "space.json")
    document["space"]["claims"] = ["<script>alert(1)</script> > b on val/iou by 0", TEXT]
    write_json(path / "space.json", document)
    page = write_report(read_sweep(path), tmp_path / "out").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert page.index('id="claims"') < page.index('id="answer"')
