"""The pictures on the page: which, of whom, in which order, and whether they are those of today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.report.page import write_report
from harness.report.queries import read_sweep
from tests.report.factory import SweepFolder, tiny_png
from tests.report.pages import full, report, sentences


def test_confusion_rows_sum_to_hundred_percent(tmp_path: Path) -> None:
    """Percent of the true class's pixels."""
    _, html, _ = report(full(tmp_path), tmp_path)
    tables = re.findall(r'<table class="matrix.*?</table>', html, re.S)
    assert len(tables) == 2
    for table in tables:
        for row in re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.S):
            shares = [float(value) for value in re.findall(r'data-sort="(0\.\d+|0|1\.0|0\.0)" title', row)]
            assert sum(shares) == pytest.approx(1)


def test_the_best_runs_pictures_are_shown_beside_the_page(tmp_path: Path) -> None:
    """Those that its folder has, in a fixed order, lazily, each once and openable at full size; no other run's but
    the finalists' Grad-CAM, which is made smaller."""
    folder = SweepFolder(tmp_path)
    note = "attention.png: RuntimeError: no gate"
    best = folder.trial({"architecture": "unet"}, error=0.1, result={"figure_notes": [note]})
    other = folder.trial({"architecture": "unet_plain"}, error=0.5)
    drawn = ("confusion", "confusion_non_homogeneous", "gallery", "gallery_fixed", "gradcam", "curves")
    for uid, names, grey in ((best, drawn, 100), (other, (*drawn, "attention"), 200)):
        for name in names:
            tiny_png(folder.path / "trials" / uid / "figures" / f"{name}.png", grey=grey)
    path, html, page = report(folder, tmp_path)
    images = page.all("img")
    kinds = [re.sub(r"-unicorn3-[0-9a-z]+(\.png|-[12]\.webp)$", "", str(image["src"])) for image in images]
    assert [kind.removeprefix("figures/") for kind in kinds] == [
        "confusion", "confusion-mixed", "gallery", "curves-best", "gradcam", "gradcam",
    ]  # fmt: skip
    assert all(image["loading"] == "lazy" for image in images) and "data:image" not in html
    source = (folder.path / "trials" / best / "figures" / "gallery.png").read_bytes()
    for image in images:
        content = (path.parent / str(image["src"])).read_bytes()
        assert content == source or (b"WEBP" in content and "gradcam" in str(image["src"]))
        assert image["src"] in [link["href"] for link in page.all("a")]
    assert f"Not drawn: {note}" in sentences(page)


def test_pictures_of_data_and_models_stand_in_a_block_of_their_own(tmp_path: Path) -> None:
    """Known kinds in order, then others; the file's name gives the caption; an odd name stays text and one file."""
    folder = SweepFolder(tmp_path)
    folder.trial()
    assert "Data and models" not in sentences(report(folder, tmp_path)[2])
    figures = folder.path / "figures"
    for name in ("zoom", "class_ratio_tiger7", "augmented_samples_paper", "roi_sizes", '"><script> #1?'):
        tiny_png(figures / f"{name}.png")
    (figures / "architecture_unet_efficientnet-b0.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    (figures / "notes.txt").write_text("no picture")
    path, _, page = report(folder, tmp_path)
    assert [image["alt"] for image in page.all("img")] == [
        "Class ratio: tiger7", "ROI sizes", "Augmented samples: paper", "Architecture: unet efficientnet-b0",
        '"><script> #1?', "Zoom",
    ]  # fmt: skip
    shown = {str(image["src"]) for image in page.all("img")}
    assert "figures/sweep/architecture_unet_efficientnet-b0.svg" in shown and len(shown) == 6
    assert all((path.parent / src).is_file() for src in shown)
    assert len(page.all("script")) == 1


def test_a_figure_that_changed_has_a_new_png(tmp_path: Path) -> None:
    """The PNG is that of its SVG after another trial, too; one that did not change is left as it is."""
    folder = SweepFolder(tmp_path)
    for number in range(3):
        folder.trial(error=0.1 * number)
    figures_of = write_report(read_sweep(folder.path), tmp_path / "out").parent / "figures"
    drawn = figures_of / "scores.png"
    before, inode = drawn.read_bytes(), drawn.stat().st_ino
    write_report(read_sweep(folder.path), tmp_path / "out")
    assert drawn.stat().st_ino == inode
    folder.trial(error=0.7)
    write_report(read_sweep(folder.path), tmp_path / "out")
    assert drawn.read_bytes() != before
