"""The source report's own sweep: its cells, and every figure and table of it, small and on synthetic tissue."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from harness.config.cells import baselines_of, combinations, strata_of
from harness.config.load import load_space
from harness.sweep.vocabulary import CHECKS
from tests.sweep.conftest import Lab

PAPER = Path(__file__).parents[2] / "search_spaces" / "paper.yaml"
# What the source states (docs/paper.md): classes, training patches, network.
CELLS = {
    ("tiger7", "all", "unet_plain"),
    ("tiger7", "all", "unet"),
    ("unicorn3", "all", "unet"),
    ("unicorn3", "all", "attention_unet"),
    ("unicorn3", "non_homogeneous", "attention_unet"),
}


def test_the_sources_cells_are_marked_and_the_grid_holds_all_others() -> None:
    """Five cells, each under both treatments of label 0, are `in_paper`; with the rest there are 24, trained once."""
    space = load_space(PAPER, checks=CHECKS)
    marked, cells = set(), 0
    for stratum in strata_of(space):
        rows = baselines_of(space, stratum)
        assert {mark for _, mark in rows} <= {"in_paper"}
        marked |= {(*stratum.values.values(), row["architecture"], row["undefined"]) for row, _ in rows}
        cells += len(list(combinations(space, stratum)))
    assert marked == {(*cell, undefined) for cell in CELLS for undefined in ("as_paper", "ignore")}
    assert cells == 24 == space.budget.trials * 4


@pytest.mark.slow
@pytest.mark.long
def test_every_figure_and_table_of_the_source_is_reproduced(lab: Lab, phantom: Path) -> None:
    """One epoch of `as_paper` on six regions: nothing listed in `reproduces:` is missing or blank."""
    ended = lab.run(
        "sweep", PAPER, "--smoke", "--data", phantom, "--set", "parameters.undefined={value: as_paper}",
        "--set", "baselines=[]", "--set", "train.epochs=1", "--set", "data.limit_rois=6",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    report = lab.path / "reports/paper-smoke"
    rows = json.loads((report / "source.json").read_text())["rows"]
    assert len(rows) == len(load_space(PAPER).reproduces) > 30
    assert [row for row in rows if row["status"] != "drawn"] == []
    assert all((report / unquote(row["file"])).is_file() for row in rows)
    assert "U-Net + EfficientNet-B0 (source)" in (report / "index.html").read_text()
