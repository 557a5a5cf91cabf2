"""The saved view that opens MLflow's runs page on a sweep's trials, and what the sweep's own run shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.files import read_json, write_json
from harness.tracking.content import SweepView
from harness.tracking.memory import MemoryTracker
from harness.tracking.project import Projection, read_cursor
from harness.tracking.view import view_tags
from tests.tracking.sweeps import CREATED, complete, make_trial, set_state, start

PNG = bytes.fromhex("89504e470d0a1a0a")


def space_with(generation: Path, **space: Any) -> SweepView:
    """The generation, its space's fields replaced."""
    document = read_json(generation / "space.json")
    document["space"] = {**document["space"], **space}
    write_json(generation / "space.json", document)
    return SweepView.read(generation)


def state_of(sweep: SweepView) -> dict[str, Any]:
    """What MLflow's page would read."""
    (value,) = view_tags(sweep).values()
    found: dict[str, Any] = json.loads(json.loads(value)["state"])
    return found


def test_the_view_filters_sorts_and_starts_with_scores(generation: Path) -> None:
    """One label map: sorted by the objective; searched parameters beside it; charts of scores before those of cost."""
    searched = {"patch_px": {"values": [64, 128]}, "loss": {"value": "dice"}}
    state = state_of(space_with(generation, strata={"labels": ["unicorn3"]}, parameters=searched))
    assert state["searchFilter"] == "tags.stratum != '' AND tags.generation = '1'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`objective`", False)
    assert "params.`patch_px`" in state["selectedColumns"] and "params.`loss`" not in state["selectedColumns"]
    assert [chart.get("metricKey") for chart in state["compareRunCharts"]][:2] == ["objective", "yardstick"]
    sections = [section["name"] for section in state["compareRunSections"]]
    assert sections.index("Curves") < sections.index("cost")
    known = {section["uuid"] for section in state["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} <= known


def test_across_label_maps_the_view_ranks_by_the_yardstick(generation: Path) -> None:
    """A Dice over three classes is no rival of one over seven; and what is minimized sorts upwards within a map."""
    state = state_of(space_with(generation, strata={"labels": ["tiger7", "unicorn3"]}))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`yardstick`", False)
    loss = {"metric": "val/loss", "goal": "minimize"}
    state = state_of(space_with(generation, strata={"labels": ["tiger7"]}, objective=loss))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`objective`", True)


def test_the_experiment_gets_a_view_once_per_generation(generation: Path) -> None:
    """A person's change to a saved view is not undone by the next start; a cursor of an older version gets one."""
    tracker = MemoryTracker()
    Projection(tracker, "store", SweepView.read(generation)).sweep_changed("running")
    cursor = read_cursor(generation)
    assert cursor is not None and cursor.view == "harness-g1"
    tags = tracker.experiment_tags[cursor.experiment_id]
    assert "mlflow.sharedViewState.harness-g1" in tags
    tags["mlflow.sharedViewState.harness-g1"] = "a person's"
    Projection(tracker, "store", SweepView.read(generation)).sweep_changed("finished")
    assert tags["mlflow.sharedViewState.harness-g1"] == "a person's"
    document = read_json(generation / "mlflow.json")
    del document["view"]
    write_json(generation / "mlflow.json", document)
    Projection(tracker, "store", SweepView.read(generation)).sweep_changed("running")
    assert tags["mlflow.sharedViewState.harness-g1"] != "a person's"
    assert len(tracker.runs) == 1


def test_the_sweeps_own_run_counts_trials_and_shows_the_best(generation: Path) -> None:
    """Two complete with .2 and .4, one pruned, one running: 2, 1, 0 failed, best .4; saying it again adds nothing."""
    complete(make_trial(generation, "t1"))
    for uid, value in (("t1", 0.2), ("t2", 0.4)):
        set_state(make_trial(generation, uid), "complete", value=value, finished=CREATED + 100)
    make_trial(generation, "t3", "pruned", finished=CREATED + 90)
    start(make_trial(generation, "t4"))
    tracker = MemoryTracker()
    projection = Projection(tracker, "store", SweepView.read(generation))
    projection.sweep_changed("running")
    projection.sweep_changed("finished")
    cursor = read_cursor(generation)
    assert cursor is not None
    expected = {"complete": 2.0, "pruned": 1.0, "failed": 0.0, "best/unicorn3/all": 0.4}
    assert tracker.read(cursor.run_id).metrics == expected
    assert len(tracker.curve(cursor.run_id, "complete")) == 1


def test_an_attached_page_carries_its_pictures(generation: Path, tmp_path: Path) -> None:
    """MLflow shows it in a frame that sees no file beside it; a picture that is not there stays a link."""
    (tmp_path / "report/figures").mkdir(parents=True)
    (tmp_path / "report/figures/a b.png").write_bytes(PNG)
    page = '<img src="figures/a%20b.png"><img src="figures/gone.png"><a href="figures/a%20b.png">large</a>'
    (tmp_path / "report/index.html").write_text(page, encoding="utf-8")
    tracker = MemoryTracker()
    Projection(tracker, "store", SweepView.read(generation)).attach(tmp_path / "report", "report")
    (run,) = tracker.runs.values()
    assert sorted(run.files) == ["report/figures/a b.png", "report/index.html"]
    expected = page.replace('src="figures/a%20b.png"', 'src="data:image/png;base64,iVBORw0KGgo="')
    assert run.files["report/index.html"].decode() == expected
    assert (tmp_path / "report/index.html").read_text(encoding="utf-8") == page


@pytest.mark.slow
def test_mlflow_keeps_the_view_and_the_description(generation: Path, request: pytest.FixtureRequest) -> None:
    """As tags of the experiment, where its page looks for them, whole."""
    real = request.getfixturevalue("mlflow_tracker")
    sweep = SweepView.read(generation)
    Projection(real, "mlflow", sweep).sweep_changed("running")
    cursor = read_cursor(generation)
    assert cursor is not None
    tags = real._client.get_experiment(cursor.experiment_id).tags
    assert view_tags(sweep).items() <= tags.items()
    assert tags["mlflow.note.content"].startswith(f"The sweep **{sweep.name}**")
