"""Parallel coordinates, quality against cost, and the section that holds them."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from harness.report.boards import group_boards
from harness.report.domains import Domain, domains
from harness.report.matters import effects_of, left_out
from harness.report.parallel import ALWAYS_DRAWN, MAX_LINES, Track, parallel_figure, picked
from harness.report.queries import read_sweep
from harness.report.render import Beside
from harness.report.tradeoff import Point, front, fronts, missing_note, points, tradeoff_figure
from tests.report.factory import SweepFolder
from tests.report.hostile import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ET.Element:
    return ET.fromstring(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))


def priced(tmp_path: Path, runs: list[tuple[float, float | None]]) -> list[Point]:
    """Points of (seconds, score) with the price that is given."""
    folder = SweepFolder(tmp_path)
    folder.trial()
    (point,) = points(group_boards(read_sweep(folder.path))[0])
    return [
        replace(point, rank=rank, score=score, costs={"seconds": seconds, "parameters": None, "speed": None})
        for rank, (score, seconds) in enumerate(runs, start=1)
    ]


def test_the_front_holds_what_nobody_beats(tmp_path: Path) -> None:
    """By hand: .8 for 100 s is beaten by .8 for 50 s, .6 for 60 s by .8 for 50 s; .5 for 10 s is the cheapest."""
    runs = [(0.9, 200.0), (0.8, 50.0), (0.8, 100.0), (0.6, 60.0), (0.5, 10.0), (0.4, None)]
    found = front(priced(tmp_path, runs), "seconds")
    assert [(point.score, point.costs["seconds"]) for point in found] == [(0.5, 10.0), (0.8, 50.0), (0.9, 200.0)]


def test_a_lower_score_may_be_the_better_one(tmp_path: Path) -> None:
    """Minimised: .4 for 60 s beats .8 for 100 s, and .9 for 50 s stays as the cheapest."""
    found = front(priced(tmp_path, [(0.4, 60.0), (0.8, 100.0), (0.9, 50.0)]), "seconds", minimize=True)
    assert [point.score for point in found] == [0.9, 0.4]


def test_prices_that_differ_in_the_third_digit_are_equal(tmp_path: Path) -> None:
    """6.251 M and 6.252 M parameters are one network with another head; exact twins both stay."""
    found = front(priced(tmp_path, [(0.9, 6_252.0), (0.8, 6_251.0), (0.9, 6_252.0)]), "seconds")
    assert [point.score for point in found] == [0.9, 0.9]


def test_costs_of_older_results_are_left_out_and_counted(tmp_path: Path) -> None:
    """One run of three was timed: no panel of speed, and a note; two timed ones have a panel."""
    folder = SweepFolder(tmp_path)
    for speed in (None, None, 140.0):
        folder.trial(result={} if speed is None else {"ms_per_megapixel": speed})
    found = points(group_boards(read_sweep(folder.path))[0])
    assert set(fronts(found, minimize=False)) == {"seconds", "parameters"}
    assert missing_note(found) == "Not drawn: 2 runs without ms per megapixel."
    folder.trial(result={"ms_per_megapixel": 70.0})
    assert "speed" in fronts(points(group_boards(read_sweep(folder.path))[0]), minimize=False)


def test_higher_scores_stand_higher_and_the_front_is_filled(tmp_path: Path) -> None:
    """Two runs on the front, one beaten; the best has the smallest y."""
    runs = priced(tmp_path, [(0.9, 200.0), (0.5, 10.0), (0.4, 100.0)])
    svg = drawn(tradeoff_figure(runs, fronts(runs, minimize=False), metric="val/iou", title="t"))
    full = [dot for dot in svg.iter(f"{SVG}circle") if dot.attrib["class"].startswith("full")]
    assert len(full) == 2 and len(list(svg.iter(f"{SVG}circle"))) == 3
    cheap, dear = sorted(full, key=lambda dot: float(dot.attrib["cx"]))
    assert float(dear.attrib["cy"]) < float(cheap.attrib["cy"])


def tracks(count: int) -> list[Track]:
    return [Track(("a" if n % 2 else "b", 10.0 ** -(n % 4 + 1)), 1 - n / count, f"run {n}") for n in range(count)]


AXES = [Domain("arch", ("a", "b")), Domain("learning_rate", (), 1e-4, 1e-1, log=True)]


def test_logarithmic_ranges_stand_at_equal_steps() -> None:
    """1e-1, 1e-2, 1e-3, 1e-4: their heights on the second axis are a third of the axis apart; scores fall from 1."""
    svg = drawn(parallel_figure(tracks(4), AXES, score_name="IoU", title="t"))
    lines = [[pair.split(",") for pair in one.attrib["points"].split()] for one in svg.iter(f"{SVG}polyline")]
    heights = sorted(float(line[1][1]) for line in lines)
    steps = [b - a for a, b in itertools.pairwise(heights)]
    assert steps == pytest.approx([90, 90, 90], abs=0.2)  # 270 px in three
    best = max(lines, key=lambda line: -float(line[2][1]))
    assert float(best[1][1]) == pytest.approx(min(heights), abs=0.1)  # run 0: the rate 1e-1, on top


def test_a_thousand_runs_are_bounded_with_the_best_kept() -> None:
    """200 lines: the first 50 and an even choice of the rest, three of them bold."""
    chosen = picked(tracks(1000))
    assert len(chosen) == MAX_LINES and chosen[:ALWAYS_DRAWN] == tuple(tracks(1000)[:ALWAYS_DRAWN])
    gaps = {int(b.label[4:]) - int(a.label[4:]) for a, b in itertools.pairwise(chosen[50:])}
    assert gaps <= {6, 7}  # 950 runs in 150 steps
    svg = parallel_figure(tracks(1000), AXES, score_name="IoU", title="t")
    assert svg.count("<polyline") == MAX_LINES and svg.count("lead") == 3


def test_an_inactive_parameter_leaves_its_axis() -> None:
    """A run without it passes below the axis, at a place of its own that says so."""
    runs = [Track(("a", None), 0.4, "x"), Track(("b", 1e-2), 0.5, "y")]
    svg = parallel_figure(runs, AXES, score_name="IoU", title="t")
    assert "inactive" in svg and "344.0" in svg
    assert "inactive" not in parallel_figure(tracks(3), AXES, score_name="IoU", title="t")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_make_no_element(name: str) -> None:
    """Whatever a parameter, choice or run is called, the drawing holds only its own elements."""
    axes = [Domain(name, (name, "other"))]
    runs = [Track((name,), 0.4, name), Track(("other",), 0.5, name)]
    svg = drawn(parallel_figure(runs, axes, score_name=name, title=name))
    assert {re.sub(r"\{.*\}", "", one.tag) for one in svg.iter()} <= {
        "svg", "text", "title", "line", "circle", "polyline",
    }  # fmt: skip


def test_domains_are_the_files_and_widened_by_what_was_run(tmp_path: Path) -> None:
    """Choices in the file's order with a baseline's own value last; ranges as declared; strata are choices."""
    space = {
        "strata": {"labels": ["unicorn3", "tiger7"]},
        "parameters": {
            "loss": {"values": ["jaccard", "dice"]},
            "learning_rate": {"min": 1e-5, "max": 1e-2, "log": True},
        },
    }
    folder = SweepFolder(tmp_path, space=space)
    folder.trial({"loss": "focal", "learning_rate": 3e-2})
    folder.trial({"loss": "dice", "learning_rate": 1e-3}, labels="tiger7")
    sweep = read_sweep(folder.path)
    found = domains(sweep, ("labels", "loss", "learning_rate"), sweep.trials)
    assert found["labels"].choices == ("unicorn3", "tiger7")
    assert found["loss"].choices == ("jaccard", "dice", "focal")
    rate = found["learning_rate"]
    assert (rate.low, rate.high, rate.log, rate.whole) == (1e-5, 3e-2, True, False)


def test_the_section_counts_what_it_leaves_out(tmp_path: Path) -> None:
    """24 runs have an importance; a pruned and two failed ones of this label map are said, another map's are not."""
    folder = SweepFolder(tmp_path)
    for index in range(24):
        arch, loss = ("unet", "unet_plain")[index % 2], ("dice", "jaccard")[index // 2 % 2]
        folder.trial({"architecture": arch, "loss": loss, "batch_size": index // 4}, error=0.1 + 0.3 * (index % 2))
    folder.trial({"architecture": "unet", "loss": "dice"}, state="pruned")
    for _ in range(2):
        folder.trial({"architecture": "unet", "loss": "dice"}, state="failed")
    folder.trial({"architecture": "unet", "loss": "dice"}, state="failed", labels="tiger7")
    sweep = read_sweep(folder.path)
    (board,) = group_boards(sweep)
    beside = Beside()
    (block,) = effects_of(sweep, [board], [], beside)
    assert left_out(board, sweep) == (1, 2)
    assert "Left out: 1 pruned and 2 failed runs." in block.importance_note and block.importance
    assert any("1 pruned and 2 failed runs are left out: a level that was pruned" in s for s in block.sentences)
    assert sorted(name.split("-")[0] for name in beside.drawn) == ["effects", "importance", "parallel", "tradeoff"]


def test_replicates_and_other_tools_are_in_no_number(tmp_path: Path) -> None:
    """The same section with and without four replicates of the best run, and with masks of another tool."""
    folder = SweepFolder(tmp_path)
    uids = [
        folder.trial({"architecture": arch, "patch_px": px}, error=error, draw=px)
        for arch, error in (("unet", 0.1), ("unet_plain", 0.4))
        for px in (64, 96, 128, 256)
    ]

    def section() -> object:
        sweep = read_sweep(folder.path)
        (block,) = effects_of(sweep, group_boards(sweep), [], Beside())
        return block.sentences, block.table, block.parallel

    before = section()
    for seed in range(4):
        folder.trial({"architecture": "unet", "patch_px": 64}, error=0.9, replicate_of=uids[0], seed=100 + seed)
    masks = folder.trial({}, error=0.0, external="nnunet")
    (folder.path / "external").mkdir()
    (folder.path / "trials" / masks).rename(folder.path / "external" / masks)
    assert section() == before


def test_few_runs_say_why_there_is_no_importance(tmp_path: Path) -> None:
    """Three runs: no bar, the threshold in words."""
    folder = SweepFolder(tmp_path)
    for arch in ("unet", "unet_plain", "fpn"):
        folder.trial({"architecture": arch})
    sweep = read_sweep(folder.path)
    (block,) = effects_of(sweep, group_boards(sweep), [], Beside())
    assert not block.importance and "3 completed runs; below 24" in block.importance_note
