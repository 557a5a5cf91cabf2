"""How long `harness report` and `harness status` take, and what the page costs a browser: on clones of trials.

    python benchmarks/report_scale.py runs quickstart

Every clone has another uid, number, seed and learning rate, and other matrices: a random share of the pixels, at most a
tenth, is predicted as the next class. The true pixels stay, and so does the comparability group. Prints the medians.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

GOALS_S = {10: 0.5, 1000: 2.0, 10_000: 10.0}  # of either command
HEAVY = ("torch", "mlflow", "optuna", "matplotlib", "pandas")


def clone(home: Path, name: str, number: int, target: Path) -> Path:
    """A home in `target` whose sweep `name` has `number` trials, cloned in turn from the last generation's."""
    generation = sorted((home / "sweeps" / name).glob("g*"), key=lambda path: int(path.name[1:]))[-1]
    copy = target / "sweeps" / name / generation.name
    copy.mkdir(parents=True)
    for file in generation.glob("*.json"):
        shutil.copy(file, copy / file.name)
    if (generation / "figures").is_dir():
        (copy / "figures").symlink_to((generation / "figures").resolve())
    sources = itertools.cycle(sorted((generation / "trials").iterdir()))
    for index, source in zip(range(number), sources, strict=False):
        clone_trial(source, copy / "trials", index)
    return target


def clone_trial(source: Path, trials: Path, index: int) -> None:
    """One trial as number `index`: its small files rewritten, its pictures and predictions linked to."""
    rng = np.random.default_rng(index)
    said, spec = (json.loads((source / file).read_text(encoding="utf-8")) for file in ("trial.json", "spec.json"))
    uid = f"{said['stratum'].replace('/', '.')}.{index:05d}"
    rate = float(spec["train"]["learning_rate"] * 10 ** rng.uniform(-1, 1))
    said |= {"uid": uid, "number": index, "seed": index, "parameters": {**said["parameters"], "learning_rate": rate}}
    spec["train"]["learning_rate"], spec["seed"] = rate, index
    folder = trials / uid
    shutil.copytree(source / "attempts", folder / "attempts")
    for name in ("figures", "predictions"):
        if (source / name).is_dir():
            (folder / name).symlink_to((source / name).resolve())
    for name in ("environment.json", "result.json", "mlflow.json"):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)
    _write(folder / "trial.json", said)
    _write(folder / "spec.json", spec)
    if (source / "scores.json").is_file():
        document = json.loads((source / "scores.json").read_text(encoding="utf-8"))
        share = rng.uniform(0, 0.1)
        for roi in document["rois"]:
            for key in ("matrix", "matrix_non_homogeneous"):
                counts = np.asarray(roi[key])
                moved = rng.binomial(counts, share)
                roi[key] = (counts - moved + np.roll(moved, 1, axis=1)).tolist()
        _write(folder / "scores.json", document)


def seconds_of(*command: str, home: Path) -> float:
    """Wall seconds of a command as a process, from start to exit, with its bytecode written as for any user."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    argv = [sys.executable, "-m", "harness.cli", *command, "--home", str(home)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - start


def loaded(home: Path, name: str, out: Path) -> list[str]:
    """Heavy libraries that the command imports."""
    argv = ["report", name, "--home", str(home), "--out", str(out)]
    code = (
        f"import sys\nfrom harness.cli import main\ntry:\n main({argv!r})\nexcept SystemExit:\n pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return list(json.loads(found.stderr.splitlines()[-1].replace("'", '"')))


def browse(page: Path) -> dict[str, float] | None:
    """Milliseconds to load the page, to filter its longest table by a word and to sort it; None without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(page.resolve().as_uri())
        timed: dict[str, float] = tab.evaluate(TIMED)
        browser.close()
    return timed


# Layout is forced by reading a height, so that it is part of the time.
TIMED = """() => {
  const load = performance.getEntriesByType("navigation")[0].loadEventEnd;
  document.querySelectorAll("details").forEach(fold => fold.open = true);
  document.body.getBoundingClientRect();
  const tables = [...document.querySelectorAll("table.sortable")];
  const table = tables.reduce((a, b) => a.rows.length >= b.rows.length ? a : b);
  const took = act => {
    const start = performance.now();
    act();
    document.body.getBoundingClientRect();
    return performance.now() - start;
  };
  const input = document.querySelector(`input[aria-controls="${table.id}"]`);
  const filter = input ? took(() => { input.value = "unet"; input.dispatchEvent(new Event("input")); }) : NaN;
  const heads = table.querySelectorAll("thead button");
  const sort = took(() => heads[heads.length - 2].click());
  return {load, filter, sort, rows: table.tBodies[0].rows.length, elements: document.querySelectorAll("*").length};
}"""


def measure(home: Path, name: str, number: int, repeats: int, folder: Path) -> str:
    """A row of the table in docs/report.md."""
    cloned = clone(home, name, number, folder / f"home{number}")
    out = folder / f"reports{number}"
    report = ("report", name, "--out", str(out))
    first = seconds_of(*report, home=cloned)  # opens every file, and makes the columns
    seconds = [seconds_of(*report, home=cloned) for _ in range(repeats)]
    seconds_of("status", name, home=cloned)
    looks = [seconds_of("status", name, home=cloned) for _ in range(repeats)]
    page = next(out.glob("*/index.html"))
    heavy = loaded(cloned, name, out)
    seen = browse(page)
    shown = ["n/a"] * 3 if seen is None else [f"{seen[key]:.0f} ms" for key in ("load", "filter", "sort")]
    goal = f"{GOALS_S[number]:g} s" if number in GOALS_S else ""
    cells = [number, f"{statistics.median(looks):.2f} s", f"{first:.2f} s", f"{statistics.median(seconds):.2f} s",
             f"{min(seconds):.2f}-{max(seconds):.2f} s", goal, f"{page.stat().st_size / 1e6:.2f} MB", *shown,
             ", ".join(heavy) or "none"]  # fmt: skip
    return _row(cells)


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("home", type=Path, help="where the sweep is")
    parser.add_argument("sweep", help="its name")
    parser.add_argument("--trials", type=int, nargs="+", default=[10, 1000, 10_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the clones and reports here")
    given = parser.parse_args()
    heads = ("Trials", "Status, median", "First report", "Report, median", "Range", "Goal", "Page", "Load", "Filter",
             "Sort", "Heavy libraries")  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    machine = f"{cores} cores, Python {platform.python_version()}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {machine}, median of {given.repeats}\n")
    print(f"{_row(heads)}\n{_row(['---'] * len(heads))}")
    with tempfile.TemporaryDirectory() as aside:
        for number in given.trials:
            print(measure(given.home, given.sweep, number, given.repeats, given.folder or Path(aside)), flush=True)


if __name__ == "__main__":
    main()
