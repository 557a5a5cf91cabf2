"""Row 11: `harness report` and `harness status` of 10, 1,000 and 10,000 finished trials, and of 1,000 without columns.

Eight trials with real matrices (13 regions of 6 patients, 3 epochs) are cloned as in benchmarks/report_scale.py; each
clone has another learning rate, seed and other predictions. Both commands run once before, so that files lie in the
system's cache, bytecode is there and figures are drawn; the side without columns then removes them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bench.row import Comparison, Row, Side
from benchmarks.report_scale import GOALS_S, clone

WITHOUT = 1000
SPACE = """name: index
seed: 3
data: {root: phantom}
labels: {tiger7: builtin, unicorn3: builtin}
strata: {labels: [tiger7, unicorn3]}
parameters:
  architecture: {values: [unet, unet_plain]}
  learning_rate: {min: 1e-5, max: 1e-1, log: true}
budget: {trials: 5000}
"""


def measured(trials: int, *, kept: bool = True) -> dict[str, float]:
    """Seconds of both commands; without `kept` every file of every trial is read."""
    with TemporaryDirectory(prefix="index-") as name:
        folder = Path(name)
        home = clone(_made(folder / "source"), "index", trials, folder / "home")
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


def side(trials: int) -> str:
    """The name of a side with columns."""
    return f"{trials:,} trials"


NO_COLUMNS = f"{side(WITHOUT)}, no columns"
ROW = Row(
    number=11,
    work="report and status of finished trials from columns, against every file of every trial",
    sides=(
        *(Side(side(trials), partial(measured, trials)) for trials in GOALS_S),
        Side(NO_COLUMNS, partial(measured, WITHOUT, kept=False)),
    ),
    comparisons=(
        *(Comparison(side(trials), None, "seconds", goal) for trials, goal in GOALS_S.items()),
        *(Comparison(side(trials), None, "status_seconds", goal) for trials, goal in GOALS_S.items()),
        Comparison(side(WITHOUT), NO_COLUMNS, "seconds"),
        Comparison(side(WITHOUT), NO_COLUMNS, "status_seconds"),
    ),
    timeout_s=900.0,
)
