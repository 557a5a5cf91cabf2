"""The source's figures and tables: what is there, what is missing and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.report.boards import flags, group_boards
from harness.report.page import write_report
from harness.report.queries import read_sweep
from tests.report.factory import SweepFolder, read_json

WANTED = {"architecture": "unet"}


def item(name: str, file: str, trial: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"item": name, "file": file, "trial": trial or {}}


def test_every_item_is_drawn_missing_or_blank_with_the_reason(tmp_path: Path) -> None:
    """A drawn picture, a one-coloured one, a file the run lacks, a setting nobody ran, and a table of the report."""
    items = [
        item("curves", "figures/curves.png", WANTED),
        item("confusion", "figures/confusion.png", WANTED),
        item("gates", "figures/attention.png", WANTED),
        item("other network", "figures/curves.png", {"architecture": "fpn"}),
        item("results", "leaderboard.tex"),
        item("class ratio", "figures/sweep/class_ratio_tiger7.png"),
    ]
    folder = SweepFolder(tmp_path, space={"name": "small", "reproduces": items, "objective": {"metric": "val/iou"}})
    pictures = folder.path / "trials" / folder.trial(WANTED) / "figures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "curves.png"), np.eye(20, dtype=np.uint8) * 255)
    cv2.imwrite(str(pictures / "confusion.png"), np.full((20, 20), 255, np.uint8))
    page = write_report(read_sweep(folder.path), tmp_path / "reports")
    rows = read_json(page.parent / "source.json")["rows"]
    assert [(row["item"], row["status"], row["reason"]) for row in rows] == [
        ("curves", "drawn", ""),
        ("confusion", "blank", ""),
        ("gates", "missing", "the run has no such file"),
        ("other network", "missing", "no completed run of this setting"),
        ("results", "drawn", ""),
        ("class ratio", "missing", "not drawn in this sweep"),
    ]
    assert (page.parent / rows[0]["file"]).resolve() == (pictures / "curves.png").resolve()
    assert "2 of 6 drawn" in page.read_text(encoding="utf-8")


def test_an_empty_leaderboard_reproduces_nothing(tmp_path: Path) -> None:
    """The file is written all the same; without a completed run it holds none of the source's results."""
    folder = SweepFolder(tmp_path, space={"name": "small", "reproduces": [item("results", "leaderboard.tex")]})
    page = write_report(read_sweep(folder.path), tmp_path / "reports")
    (row,) = read_json(page.parent / "source.json")["rows"]
    assert (row["status"], row["reason"]) == ("missing", "no completed run")


def test_rows_of_the_source_are_marked_and_all_others_are_an_extension(tmp_path: Path) -> None:
    """With one marked row, the other says `extension`; a sweep without marks says neither."""
    folder = SweepFolder(tmp_path)
    folder.trial(mark="in_paper")
    folder.trial()
    sweep = read_sweep(folder.path)
    said = [flags(row, sweep) for row in group_boards(sweep)[0].rows]
    assert sorted("in paper" if "in paper" in found else "extension" for found in said) == ["extension", "in paper"]
    assert not any({"in paper", "extension"} <= set(found) for found in said)
    plain = SweepFolder(tmp_path / "plain")
    plain.trial()
    other = read_sweep(plain.path)
    assert not {"in paper", "extension"} & set(flags(group_boards(other)[0].rows[0], other))
