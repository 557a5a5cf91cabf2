"""Row 11: `harness report` and `harness status` of 1,000 finished trials, with and without the files of columns.

Eight trials with real matrices (13 regions of 6 patients, 3 epochs) are cloned as in benchmarks/report_scale.py; each
clone has another learning rate, seed and other predictions. Both commands run once before, so that files lie in the
system's cache, bytecode is there and figures are drawn; the side "folders" then removes the columns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench.row import Comparison, Row, Side
from benchmarks.report_scale import clone

TRIALS = 1000
GOAL_S = 2.0
SPACE = """name: index
seed: 3
data: {root: phantom}
labels: {tiger7: builtin, unicorn3: builtin}
strata: {labels: [tiger7, unicorn3]}
parameters:
  architecture: {values: [unet, unet_plain]}
  learning_rate: {min: 1e-5, max: 1e-1, log: true}
budget: {trials: 500}
"""


def index() -> dict[str, float]:
    """With the columns."""
    return _measured(kept=True)


def folders() -> dict[str, float]:
    """Without: every file of every trial is read."""
    return _measured(kept=False)


def _measured(*, kept: bool) -> dict[str, float]:
    with TemporaryDirectory(prefix="index-") as name:
        folder = Path(name)
        home = clone(_made(folder / "source"), "index", TRIALS, folder / "home")
        report = ("report", "index", "--out", str(folder / "reports"))
        commands = {"seconds": report, "status_seconds": ("status", "index", "--json")}
        figures = {}
        for figure, command in commands.items():
            _seconds(command, home, folder)
            if not kept:
                for file in home.glob("sweeps/index/g1/index-*.npz"):
                    file.unlink()
            figures[figure] = _seconds(command, home, folder)
        return figures


def _seconds(command: tuple[str, ...], home: Path, folder: Path) -> float:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "harness.cli", *command, "--home", str(home)],
        check=True, stdout=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    return time.perf_counter() - start


def _made(home: Path) -> Path:
    """A home with eight trials, as a controller and its workers leave them."""
    from harness.config.load import load_space
    from tests.report.factory import Cohort, SweepFolder

    home.mkdir()
    (home / "space.yaml").write_text(SPACE, encoding="utf-8")
    space = load_space(home / "space.yaml").model_dump(mode="json")
    sweep = SweepFolder(home, name="index", cohort=Cohort(rois=13, patients=6, side=64), key="k", space=space)
    for number in range(8):
        labels = ("tiger7", "unicorn3")[number % 2]
        architecture = ("unet", "unet_plain")[number // 2 % 2]
        values = {"architecture": architecture, "learning_rate": 1e-3}
        sweep.trial(values, labels=labels, error=0.05 * number, created="2026-01-01", sweep="index", value=0.5)
    return home


ROW = Row(
    number=11,
    work=f"report of {TRIALS:,} finished trials from columns, against every file of every trial",
    sides=(Side("index", index), Side("folders", folders)),
    comparisons=(
        Comparison("index", None, goal=GOAL_S),
        Comparison("index", "folders"),
        Comparison("index", None, "status_seconds", goal=GOAL_S),
        Comparison("index", "folders", "status_seconds"),
    ),
    timeout_s=600.0,
)
