"""The page: what it says, that it opens alone, and that no name can break out of its cell."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from harness.report import details, figures, tables
from harness.report.page import write_report
from harness.report.queries import read_sweep
from harness.report.tables import Links, end_table
from harness.report.wording import ABSENT
from tests.report.factory import SweepFolder
from tests.report.hostile import HOSTILE
from tests.report.pages import full, report, sentences


def test_the_page_opens_alone_and_asks_for_nothing(tmp_path: Path) -> None:
    """No link, frame or script from elsewhere; pictures only beside it; the policy forbids the rest."""
    path, html, page = report(full(tmp_path), tmp_path)
    assert not page.all("link") and not page.all("iframe") and not page.all("object")
    assert all("src" not in script for script in page.all("script"))
    for image in page.all("img"):
        assert image["alt"] and (path.parent / str(image["src"])).is_file()
    assert not re.search(r"@import|url\(|https?://", re.sub(r'href="[^"]*"', "", html))
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv")) or ""
    script = re.search(r"<script>(.*)</script>", html, re.S)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{digest}'" in policy


def test_tables_are_named_and_their_heads_are_heads(tmp_path: Path) -> None:
    """Captions, scopes, a skip link whose target exists, a label on every figure."""
    _, _, page = report(full(tmp_path), tmp_path)
    assert len(page.all("caption")) == len(page.all("table")) >= 8
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    identities = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(set(identities)) == len(identities)
    targets = [str(a["href"])[1:] for a in page.all("a") if str(a.get("href")).startswith("#")]
    assert "answer" in targets and set(targets) <= set(identities)
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg") if svg.get("class") == "figure")


def test_the_answer_names_winner_margin_and_caveat(tmp_path: Path) -> None:
    """Best of each group with its interval, and that it is one seed."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet"}, error=0.1)
    folder.trial({"architecture": "unet_plain"}, error=0.5)
    _, _, page = report(folder, tmp_path)
    text = sentences(page)
    assert re.search(
        r"For unicorn3, unet \(unicorn3 #1\) leads with IoU 0\.\d{3} "
        r"\(95 % interval 0\.\d{3}\sto\s[01]\.\d{3}\), 0\.\d{3} ahead",
        text,
    )
    assert "one seed a run" in text and "3 validation patients, which is few (below 15)" in text
    assert "without the luck of the pick IoU 0." in text


def test_a_single_trial_wins_against_nobody(tmp_path: Path) -> None:
    """It leads, and the page says that there is nothing to compare it with; no factor has an effect."""
    folder = SweepFolder(tmp_path)
    folder.trial()
    _, _, page = report(folder, tmp_path)
    assert "no other completed run to compare it with" in sentences(page)
    assert "Each comparison uses pairs" not in sentences(page)


def test_ties_are_told(tmp_path: Path) -> None:
    """Two equal scores: both are named first, both stand at rank 1=."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet"}, draw=5)
    folder.trial({"architecture": "unet_plain"}, draw=5)
    _, _, page = report(folder, tmp_path)
    text = sentences(page)
    assert "2 runs tie at IoU" in text and "1=" in text
    assert "Rows with exactly equal scores share a rank." in text


def test_all_failed_says_so_with_the_causes(tmp_path: Path) -> None:
    """Nothing ranks; every failure stands with its message."""
    folder = SweepFolder(tmp_path)
    folder.trial(state="failed", cause="out_of_memory", message="CUDA out of memory at batch 32")
    folder.trial(state="failed", cause="nan", message="loss is not a number in epoch 2")
    path, _, page = report(folder, tmp_path)
    text = sentences(page)
    assert "No trial has completed (2 failed), so nothing can be ranked." in text
    assert "out of memory (1) and nan (1)" in text
    assert "CUDA out of memory at batch 32" in text and "loss is not a number in epoch 2" in text
    assert end_table(read_sweep(folder.path)) == []
    assert (path.parent / "leaderboard.tex").is_file()


def test_only_pruned_and_nothing_at_all_still_make_a_page(tmp_path: Path) -> None:
    """A sweep of pruned trials, and one without a trial."""
    folder = SweepFolder(tmp_path / "a", name="pruned")
    folder.trial(state="pruned", pruned_epoch=3)
    assert "No trial has completed (1 pruned)" in sentences(report(folder, tmp_path)[2])
    empty = SweepFolder(tmp_path / "b", name="empty")
    assert "No trial has started yet." in sentences(report(empty, tmp_path)[2])


def test_an_unfinished_sweep_says_how_far_it_is(tmp_path: Path) -> None:
    """The status line counts states; a finished sweep has none."""
    folder = SweepFolder(tmp_path)
    folder.trial()
    assert "not finished" not in sentences(report(folder, tmp_path)[2])
    folder.trial(state="running")
    folder.trial(state="waiting")
    assert "The sweep is not finished: 1 complete, 1 running, 1 waiting." in sentences(report(folder, tmp_path)[2])


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    """Names in parameters, strata, causes, centres and patients make no element, attribute or link."""
    folder = SweepFolder(tmp_path, name="<i>&'\"")
    for name in HOSTILE:
        folder.trial({"architecture": name, "encoder": name}, stratum=name, mark=name)
        folder.trial({"architecture": name}, state="failed", cause=name, message=name, run_id=name, experiment_id=name)
    path, _html, page = report(folder, tmp_path, links=Links("http://127.0.0.1:5000"))
    names = """a b body caption circle code dd details div dl dt figcaption figure footer h1 h2 h3 head header html i
        img li line main meta nav ol p path polyline pre script section small span style summary svg table tbody td
        text th thead title tr ul wbr"""
    allowed = set(names.split())
    assert {tag for tag, _ in page.elements} <= allowed
    assert all(i == {"style": i.get("style")} for i in page.all("i"))
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert len(page.all("script")) == 1
    for link in page.all("a"):
        assert re.match(
            r"#|http://127\.0\.0\.1:5000/#/experiments/[^/]*/runs/[^/]*$|\.\./|leaderboard\.|pivot\.|figures/",
            str(link["href"]),
        )
    for name in ("<script>alert(1)</script>", "{{ 7*7 }}", '=HYPERLINK("http://evil.example")'):
        assert name in page.text
    for figure in (path.parent / "figures").glob("*.svg"):
        ET.parse(figure)


def test_rows_link_to_their_run_and_their_folder(tmp_path: Path) -> None:
    """With an MLflow address to the run; without, to the trial's folder; never to anything but the web."""
    folder = SweepFolder(tmp_path)
    uid = folder.trial()
    _, _, page = report(folder, tmp_path, links=Links("http://localhost:5000/"))
    run = "http://localhost:5000/#/experiments/3/runs/run1?workflowType=machine_learning"
    assert run in [a["href"] for a in page.all("a")]
    _, _, page = report(folder, tmp_path, links=Links("javascript:alert(1)"))
    hrefs = [str(a["href"]) for a in page.all("a")]
    assert f"../../sweeps/small/g1/trials/{uid}/" in hrefs and not any("javascript" in href for href in hrefs)


def test_visible_effects_are_sentences_with_numbers(tmp_path: Path) -> None:
    """unet beats unet_plain in all four sizes, by label map and over both."""
    path, _, page = report(full(tmp_path), tmp_path)
    assert re.search(
        r"Architecture: unet is 0\.\d{3} yardstick better than unet_plain \(SD 0\.\d{3} over 8 paired",
        sentences(page),
    )
    assert len(list((path.parent / "figures").glob("effects-*.svg"))) == 3


def test_reference_rows_are_shown_unranked(tmp_path: Path) -> None:
    """A quoted result stands on the board of its label map, without rank or difference."""
    row = {"name": "U-Net, paper", "labels": "unicorn3", "scores": {"iou": 0.57794, "dice": 0.713}}
    folder = SweepFolder(tmp_path, reference_rows=[row])
    folder.trial()
    _, _html, page = report(folder, tmp_path)
    assert "U-Net, paper" in page.text and "split unknown" in page.text and "0.578" in page.text
    assert "Reference rows are quoted" in page.text


def test_the_end_table_holds_the_best_of_each_group_as_text(tmp_path: Path) -> None:
    """Three rows a group, best first."""
    rows = end_table(read_sweep(full(tmp_path).path))
    assert [(row.board, row.rank) for row in rows] == [(b, r) for b in ("tiger7", "unicorn3") for r in ("1", "2", "3")]
    assert {row.model for row in rows} == {"unet"}
    assert rows[0].behind == "" and rows[1].behind.startswith("\N{MINUS SIGN}0.")


def test_the_end_table_does_not_cut_between_rows_that_tie(tmp_path: Path) -> None:
    """Four equal rows are all there, each `1=`; of ten, eight and how many more."""
    folder = SweepFolder(tmp_path)
    for _ in range(4):
        folder.trial(draw=1)
    assert [row.rank for row in end_table(read_sweep(folder.path))] == ["1="] * 4
    for _ in range(6):
        folder.trial(draw=1)
    rows = end_table(read_sweep(folder.path))
    assert [row.rank for row in rows] == ["1="] * 8 + [""]
    assert rows[-1].model == "2 more tie"


def test_a_report_on_24_trials_takes_less_than_two_seconds(tmp_path: Path) -> None:
    """After imports; processor time, since the machine is shared."""
    folder = SweepFolder(tmp_path)
    for number in range(24):
        folder.trial({"architecture": "unet", "learning_rate": 10.0 ** -(2 + number / 8)}, epochs=[0.5] * 30)
    write_report(read_sweep(folder.path), tmp_path / "warm")
    start = time.process_time()
    write_report(read_sweep(folder.path), tmp_path / "reports")
    assert time.process_time() - start < 2


def test_reports_load_no_torch_no_mlflow_no_optuna() -> None:
    """A report opens on a laptop in a second; the heavy libraries would take ten."""
    heavy = ["torch", "torchvision", "torchmetrics", "segmentation_models_pytorch", "timm", "captum"]
    heavy += ["mlflow", "optuna", "albumentations", "pandas", "matplotlib"]
    code = f"import sys, harness.report.page; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("root", "command", "said"),
    [
        ("phantom", ["harness", "sweep", "x", "--smoke"], "A smoke run: every part of the sweep once"),
        ("data/tiger", ["harness", "sweep", "x", "--smoke"], "on a few regions. Its numbers mean nothing"),
        ("phantom", ["harness", "sweep", "x"], "Synthetic tissue"),
        ("data/tiger", ["harness", "sweep", "x"], None),
    ],
)
def test_a_page_on_synthetic_tissue_or_of_a_smoke_run_says_so(
    tmp_path: Path, root: str, command: list[str], said: str | None
) -> None:
    """Before the first board; a real sweep has no such line."""
    space = {"name": "small", "data": {"root": root}, "objective": {"metric": "val/iou"}}
    folder = SweepFolder(tmp_path, space=space, command=command)
    folder.trial()
    _, _html, page = report(folder, tmp_path)
    if said is None:
        assert "smoke run" not in page.text and "Synthetic tissue" not in page.text
    else:
        assert page.text.index(said) < page.text.index("Leaderboard:")


def test_the_papers_means_over_patches_stand_beside_the_exact_scores(tmp_path: Path) -> None:
    """At the best epoch, each metric at its own best epoch, and the quoted values beside them."""
    scores = {"iou": 0.57794, "dice": 0.713, "loss": 0.24133}
    folder = SweepFolder(tmp_path, reference_rows=[{"name": "source", "labels": "unicorn3", "scores": scores}])
    said = {"paper/val/iou": 0.4111, "paper/val/dice": None, "paper/best_of_any_epoch/val/iou": 0.4222}
    folder.trial(result={"paper": said})
    table = details.paper_table(read_sweep(folder.path))
    ours, source = ([cell.text for cell in row] for row in table.rows)
    assert ours[3:] == ["0.411", "n/a", "n/a", "0.422", "n/a", "n/a"]
    assert source[3:] == [*[ABSENT] * 3, "0.578", "0.713", "0.241"]
    _, _html, page = report(folder, tmp_path)
    assert "Means over patches (torchmetrics)" in page.text


def test_a_table_on_the_page_ends_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for four rows and five curves: the first rows stand there, and where the others are; files have all."""
    for place in (tables, details):
        monkeypatch.setattr(place, "MOST_ROWS", 4)
    monkeypatch.setattr(figures, "MOST_DRAWN", 5)
    folder = SweepFolder(tmp_path)
    for number in range(12):
        folder.trial(error=0.05 * number)
    page = write_report(read_sweep(folder.path), tmp_path / "out")
    html = page.read_text()
    assert "The first 4 of 12 rows; all of them are in leaderboard.csv." in html
    assert html.count(' class="board sortable"') == 2 and html.count("5 of 12 are drawn.") == 4
    assert all(
        html.split('<table class="board')[1].split("</table>")[0].count(f"#{n}<") == (n <= 4) for n in range(1, 13)
    )
    assert len((page.parent / "leaderboard.csv").read_text().splitlines()) == 13
