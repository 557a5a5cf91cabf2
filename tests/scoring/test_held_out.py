"""`harness test` on a real sweep: patients that nobody trained on, opened for the leader alone, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.data.phantom import Phantom, synthesize
from harness.files import read_json, write_json
from harness.report.queries import read_sweep
from harness.scores import read_scores, score_rois
from harness.trial.folder import TrialFolder
from harness.trial.held_out import scores_held_out
from tests.faults.tiny import Place, prepared
from tests.report.factory import SweepFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The tiny sweep with two test patients kept apart."""
    folder = tmp_path_factory.mktemp("held out")
    place = prepared(folder / "place", synthesize(folder / "regions", Phantom(patients=8, roi_px=128, tiny_share=0.0)))
    file = place.path / "tiny.yaml"
    file.write_text(
        file.read_text().replace("validation: 0.34", "validation: 0.25, test: 0.25").replace("epochs: 2", "epochs: 1")
    )
    place.run()
    return place


def asked(place: Place, *more: str) -> dict[str, object]:
    """What `harness test --json` says."""
    out = ["--home", str(place.home.path), "--out", str(place.path / "reports"), "--json"]
    said = CliRunner().invoke(main, ["test", "tiny", *out, *more])
    assert said.exit_code == 0, said.output
    return dict(json.loads(said.stdout))


@pytest.mark.slow
def test_the_leader_alone_is_scored_and_every_opening_is_counted(finished: Place) -> None:
    """The other run has no test score; asked again nothing is opened; another look at the same patients counts."""
    sweep = read_sweep(finished.generation.path)
    held, watched = (set(sweep.data["split"][role]) for role in ("test", "validation"))
    assert len(held) == 2 and not held & watched
    first = asked(finished)
    leader = max(sweep.complete, key=lambda trial: trial.scored.scores["val/iou"] if trial.scored else 0).uid
    (row,) = first["rows"]  # type: ignore[misc]  # the document's rows
    assert (row["trial"], first["opened"], row["patients"]) == (leader, 1, 2)
    files = list(finished.generation.held_out.iterdir())
    assert [file.stem for file in files] == [leader]
    rois, scheme = read_scores(read_json(files[0]))
    assert {roi.patient for roi in rois} == held
    assert row["score"] == pytest.approx(score_rois(rois, scheme)["val/iou"])

    assert asked(finished)["opened"] == 1
    files[0].unlink()
    again = asked(finished)
    assert again["opened"] == 2 and again["rows"][0]["score"] == row["score"]  # type: ignore[index]
    page = (finished.path / "reports/tiny/index.html").read_text()
    assert "They were opened 2 times" in page


@pytest.mark.slow
def test_a_test_score_is_that_of_validation_where_the_patients_are_the_same(finished: Place, tmp_path: Path) -> None:
    """The same code on the validation patients gives the trial's own matrices, pixel by pixel."""

    folder = next(iter(finished.generation.trial_folders()))
    document = read_json(folder.spec_file)
    split = document["dataset"]["split"]
    split["test"], split["validation"] = split["validation"], split["test"]
    copy = TrialFolder(tmp_path / folder.uid)
    copy.path.mkdir()
    for name in ("weights.safetensors", "result.json"):
        (copy.path / name).symlink_to(folder.path / name)
    write_json(copy.spec_file, document)
    found = scores_held_out(copy, stores=finished.home.stores, device="cpu")
    assert found["rois"] == read_json(folder.scores)["rois"]


def test_without_test_patients_it_is_refused_with_the_way_to_have_them(tmp_path: Path) -> None:
    """Exit code 3, one line."""

    SweepFolder(tmp_path).trial()
    said = CliRunner().invoke(main, ["test", "small", "--home", str(tmp_path), "--out", str(tmp_path / "out")])
    assert said.exit_code == 3
    assert "keeps no test patients apart; `data.split.test: 0.2` does" in said.output
