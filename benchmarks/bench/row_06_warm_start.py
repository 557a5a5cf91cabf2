"""Row 6: from a trial's submission to its first training batch, in a warm worker and in a fresh process.

Both sides submit the same trial (a U-Net over EfficientNet-B0, one batch of patches of 64 px an epoch) to the executor
of `--workers 1` and read the same event: its first epoch ended at `time` and took `seconds`, of which it waited
`data_seconds` for its only batch. So the batch was there at `time - seconds + data_seconds`; what is done between the
end of the epoch and `time` counts as waiting, too. The patches are on disk for both. The fresh side's executor is made
when the trial is decided; the warm one has done four trials of other learning rates.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.bench.row import Row, Side

if TYPE_CHECKING:
    from harness.execute.base import Executor
    from harness.trial.folder import TrialFolder

SPACE = """name: warm
seed: 3
data: {root: phantom, phantom: {patients: 4, roi_px: 128}, split: {validation: 0.34, seed: 1}}
labels: {unicorn3: builtin}
parameters:
  architecture: {value: unet}
  encoder: {value: efficientnet-b0}
  encoder_weights: {value: random}
  patch_px: {value: 64}
  learning_rate: {values: [1e-4, 2e-4, 3e-4, 4e-4, 5e-4]}
train: {epochs: 1, batch_size: 64, stop_patience: null}
method: grid
budget: {trials: 5}
export: none
"""


def fresh() -> dict[str, float]:
    """A new executor for one trial."""
    return _measured(trials=1)


def warm() -> dict[str, float]:
    """The fifth trial of a worker."""
    return _measured(trials=5)


def _measured(trials: int) -> dict[str, float]:
    from rich.console import Console

    from harness.config.cells import combinations, resolve, strata_of
    from harness.config.load import load_space
    from harness.data.cohort import read_cohort
    from harness.data.patches import open_store, validation_cut
    from harness.execute.local import LocalExecutor
    from harness.execute.work import Workplace
    from harness.sweep.layout import Home
    from harness.sweep.prepare import prepare_data
    from harness.sweep.progress import Screen
    from harness.sweep.vocabulary import CHECKS
    from harness.trial.folder import TrialFolder

    with TemporaryDirectory(prefix="row 6 ") as name:
        home = Home(Path(name) / "home")
        home.path.mkdir()
        file = Path(name) / "warm.yaml"
        file.write_text(SPACE, encoding="utf-8")
        space = load_space(file, checks=CHECKS)
        facts = prepare_data(space, home, Screen(Console(file=io.StringIO()))).facts
        (stratum,) = strata_of(space)
        specs = [resolve(space, facts, row, seed=space.seed) for row in combinations(space, stratum)][-trials:]
        dataset = specs[0].dataset
        rois = [roi for roi in read_cohort(Path(dataset.root)) if roi.name not in dataset.quarantined]
        for cut in (dataset.cut, validation_cut(dataset.cut)):
            open_store(home.stores, rois, cut, data_hash=dataset.data_hash)
        folders = [TrialFolder(Path(name) / f"trial {number}") for number in range(trials)]
        decided = time.time()
        executor = LocalExecutor([Workplace(home.stores)], logs=Path(name) / "logs")
        try:
            for folder, spec in zip(folders, specs, strict=True):
                decided = decided if trials == 1 else time.time()
                folder.path.mkdir()
                folder.write_spec(spec)
                ready = _first_batch(executor, folder)
        finally:
            executor.close()
    return {"seconds": ready - decided}


def _first_batch(executor: Executor, folder: TrialFolder) -> float:
    """Do a trial; the Unix time at which its first batch was there."""
    from harness.execute.base import ENDS, Job

    executor.submit(Job(folder.path, folder.new_attempt().number))
    events: list[dict[str, Any]] = []
    while not (events and events[-1]["event"] in ENDS):
        events += [message.event for message in executor.messages(1.0)]
    assert events[-1].get("state") == "complete", events[-1]
    epoch = next(event for event in events if event["event"] == "epoch")
    return float(epoch["time"] - epoch["seconds"] + epoch["data_seconds"])


ROW = Row(
    number=6,
    work="trial decided -> first batch, one worker (U-Net over EfficientNet-B0, 64 px)",
    goal=50.0,
    sides=(Side("warm worker", warm), Side("fresh process", fresh)),
)
