"""Row 1: from the command to a replicated answer: which of 27 settings is best (benchmarks/answer.yaml), and how good.

Every side ends with three runs of its winner with fresh seeds. Ours: `harness sweep`, the whole command from its start,
with figures, predictions, MLflow and the report. Ray Tune: ASHA over every cell on two CPUs. Both run as they are.

The loop by hand over every cell, and Optuna + MLflow (24 trials of TPE, storage and runs on SQLite as documented),
train all they begin to the end, half an hour each. So of each a repeat trains three cells, one of every network and
others in every repeat, for 9 of 27 epochs, and counts the epochs left by those after the first. The loop has nine cells
of each network and its winner again; of TPE, which asks for what it likes, every trial counts as the cheapest. With
torch's own two threads, and on one, which is faster here. The clocks of all but ours start when libraries are imported
and patches are cut, which favours them by some 15 s.

`python -m benchmarks.bench.row_01_answer exhaustive` (or `optuna`) runs one of the two whole; with no word, it says how
good the answers so far were.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bench import answer
from benchmarks.bench.answer import Cell, OnEpoch
from benchmarks.bench.row import Comparison, Figures, Row, Side

AXES = ("architecture", "loss", "learning_rate")
TPE_TRIALS = 24
TIMED_EPOCHS = 9
Train = Callable[[OnEpoch], float]


def ours() -> Figures:
    """The command."""
    regions = answer.regions()
    with TemporaryDirectory(prefix="answer-") as name:
        command = [sys.executable, "-m", "harness.cli", "sweep", str(answer.SPACE), "--data", str(regions)]
        options = ["--home", "home", "--out", "report", "--workers", "2", "--device", "cpu"]
        options += ["--set", f"seed={answer.repeat()}"]
        began = time.perf_counter()
        subprocess.run([*command, *options], cwd=name, check=True)
        seconds = time.perf_counter() - began
        trials = list((Path(name) / "home/sweeps/answer/g1/trials").glob("*/trial.json"))
        records = [json.loads(file.read_text(encoding="utf-8")) for file in trials]
    fresh = [record for record in records if record["replicate_of"] is not None]
    answer.write_answer("ours", fresh[0]["parameters"], [record["value"] for record in fresh])
    return {"seconds": seconds}


def loop(threads: int) -> Figures:
    """What `exhaustive` takes."""
    specs = answer.specs(answer.repeat())
    seconds = [_timed(spec, threads=threads) for spec in _one_of_each(specs)]
    return {"seconds": len(specs) / len(seconds) * sum(seconds) + len(answer.FRESH_SEEDS) * min(seconds)}


def tpe(threads: int) -> Figures:
    """What `optuna_and_mlflow` takes at least."""
    specs, seconds = answer.specs(answer.repeat()), []
    with _studied(specs) as (study, mlflow):
        for spec in _one_of_each(specs):
            cell = next(cell for cell, one in specs if one is spec)
            study.enqueue_trial({key: cell[key] for key in AXES})
            seconds.append(_timed(spec, threads=threads, around=lambda train: _one_trial(study, mlflow, specs, train)))
    return {"seconds": (TPE_TRIALS + len(answer.FRESH_SEEDS)) * min(seconds)}


def _one_of_each(specs: list[tuple[Cell, Any]]) -> list[Any]:
    """A spec of each network, other ones in each repeat."""
    chosen = []
    for number, network in enumerate(dict.fromkeys(cell["architecture"] for cell, _ in specs)):
        its = [spec for cell, spec in specs if cell["architecture"] == network]
        chosen.append(its[(4 * answer.repeat() + number) % len(its)])
    return chosen


def _timed(spec: Any, *, threads: int, around: Callable[[Train], object] = lambda train: train(_nothing)) -> float:
    """Seconds of the whole training, by its first epochs."""
    short, first = (
        spec.model_copy(update={"train": spec.train.model_copy(update={"epochs": epochs})})
        for epochs in (TIMED_EPOCHS, 1)
    )
    answer.by_hand(first, answer.repeat(), _nothing, threads=threads)  # imports, patches: the whole has them once
    began, ends = time.perf_counter(), list[float]()

    def train(on_epoch: OnEpoch) -> float:
        def both(epoch: int, best: float) -> None:
            on_epoch(epoch, best)
            ends.append(time.perf_counter())

        return answer.by_hand(short, answer.repeat(), both, threads=threads)

    around(train)
    taken = time.perf_counter() - began
    return taken + (answer.EPOCHS - TIMED_EPOCHS) * (ends[-1] - ends[0]) / (TIMED_EPOCHS - 1)


def exhaustive() -> Figures:
    """Every cell, then the best one again."""
    specs, began = _begun()
    grid = [(cell, answer.by_hand(spec, answer.repeat(), _nothing)) for cell, spec in specs]
    winner = max(grid, key=lambda pair: pair[1])[0]
    scores = answer.replicated(winner, _trainer(specs))
    seconds = time.perf_counter() - began
    answer.write_answer("exhaustive", winner, scores, grid)
    return {"seconds": seconds}


def optuna_and_mlflow() -> Figures:
    """24 trials of TPE, every epoch logged."""
    specs, began = _begun()
    with _studied(specs) as (study, mlflow):
        for _ in range(TPE_TRIALS):
            _one_trial(study, mlflow, specs, None)
        winner = next(cell for cell, _ in specs if study.best_params.items() <= cell.items())
        scores = answer.replicated(winner, _trainer(specs))
        seconds = time.perf_counter() - began
    answer.write_answer("optuna", winner, scores)
    return {"seconds": seconds}


@contextmanager
def _studied(specs: list[tuple[Cell, Any]]) -> Iterator[tuple[Any, Any]]:
    """A study and MLflow, both on SQLite in a folder of their own."""
    import mlflow
    import optuna

    with TemporaryDirectory(prefix="answer-") as name, chdir(name):
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        mlflow.set_experiment("answer")
        sampler = optuna.samplers.TPESampler(seed=answer.repeat())
        yield optuna.create_study(storage="sqlite:///optuna.db", direction="maximize", sampler=sampler), mlflow


def _one_trial(study: Any, mlflow: Any, specs: list[tuple[Cell, Any]], train: Train | None) -> None:
    """One trial as documented; `train` instead of the training that the chosen cell asks for."""
    choices = {axis: sorted({cell[axis] for cell, _ in specs}) for axis in AXES}

    def log(epoch: int, iou: float) -> None:
        mlflow.log_metric("iou", iou, step=epoch)

    def objective(trial: Any) -> float:
        chosen = {key: trial.suggest_categorical(key, values) for key, values in choices.items()}
        spec = next(spec for cell, spec in specs if chosen.items() <= cell.items())
        with mlflow.start_run():
            mlflow.log_params(chosen)
            return train(log) if train is not None else answer.by_hand(spec, answer.repeat(), log)

    study.optimize(objective, n_trials=1)


def ray_tune() -> Figures:
    """ASHA over every cell, one CPU a trial."""
    from ray import init, shutdown, tune
    from ray.tune.schedulers import ASHAScheduler

    specs, began = _begun()
    seed = answer.repeat()

    def train(config: dict[str, Any]) -> None:
        spec = specs[config["cell"]][1]
        answer.by_hand(spec, config["seed"], lambda epoch, best: tune.report({"iou": best}), threads=1)

    with TemporaryDirectory(prefix="answer-") as name:
        init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        asha = ASHAScheduler(max_t=answer.EPOCHS, grace_period=1, reduction_factor=3)
        found = _tuned(train, {"cell": tune.grid_search(list(range(len(specs)))), "seed": seed}, asha, name)
        winner = max(found, key=lambda one: one[1])[0]
        again = {"cell": winner, "seed": tune.grid_search(list(answer.FRESH_SEEDS))}
        scores = [score for _, score in _tuned(train, again, None, name)]
        seconds = time.perf_counter() - began
        shutdown()
    answer.write_answer("ray", specs[winner][0], scores)
    return {"seconds": seconds}


def _tuned(train: Any, config: dict[str, Any], scheduler: Any, folder: str) -> list[tuple[int, float]]:
    from ray import tune

    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space=config,
        tune_config=tune.TuneConfig(metric="iou", mode="max", scheduler=scheduler),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    found = tuner.fit()
    results = [found[place] for place in range(len(found))]
    assert all(one.error is None and one.metrics for one in results), [one.error for one in results]
    return [(one.config["cell"], one.metrics["iou"]) for one in results if one.config and one.metrics]


def _begun() -> tuple[list[tuple[Cell, Any]], float]:
    """The cells, their patches cut, and the time now."""
    specs = answer.specs(answer.repeat())
    for _, spec in specs:
        answer.arrays(spec)
    return specs, time.perf_counter()


def _trainer(specs: list[tuple[Cell, Any]]) -> Any:
    return lambda winner, seed: answer.by_hand(next(spec for cell, spec in specs if cell == winner), seed, _nothing)


def _nothing(epoch: int, best: float) -> None:
    """Nobody is told."""


def regrets() -> None:
    """Where each side's winner is among the cells of the loops over all of them, and the mean of its fresh seeds."""
    files = sorted(answer.DATA.glob("exhaustive-*.json"))
    grids = [json.loads(file.read_text(encoding="utf-8"))["grid"] for file in files]
    by_cell: dict[str, list[float]] = {}
    for grid in grids:
        for cell, score in grid:
            by_cell.setdefault(json.dumps(cell, sort_keys=True), []).append(score)
    means = {cell: statistics.mean(scores) for cell, scores in by_cell.items()}
    order = sorted(means, key=lambda cell: -means[cell])
    for file in sorted(answer.DATA.glob("*-[0-9]*.json")):
        said = json.loads(file.read_text(encoding="utf-8"))
        winner = json.dumps(said["winner"], sort_keys=True)
        fresh, sd = statistics.mean(said["scores"]), statistics.stdev(said["scores"])
        print(
            f"{file.stem:<16} number {order.index(winner) + 1} of {len(order)} ({means[winner]:.3f}, the best "
            f"{means[order[0]]:.3f}, one seed each of {len(grids)}); fresh seeds {fresh:.3f}, SD {sd:.3f}"
        )


OURS, RAY = "harness sweep", "Ray Tune, ASHA"
LOOP, TPE = "a loop over every cell", "Optuna TPE + MLflow, at least"
ONE_THREAD = "on one thread"
ROW = Row(
    number=1,
    work="from the command to a replicated answer: 27 cells of 27 epochs, the winner with three fresh seeds",
    sides=(
        Side(OURS, ours),
        Side(LOOP, partial(loop, 2)),
        Side(f"{LOOP}, {ONE_THREAD}", partial(loop, 1)),
        Side(TPE, partial(tpe, 2)),
        Side(f"{TPE}, {ONE_THREAD}", partial(tpe, 1)),
        Side(RAY, ray_tune),
    ),
    comparisons=(
        Comparison(OURS, LOOP, goal=8.0),
        Comparison(OURS, f"{LOOP}, {ONE_THREAD}"),
        Comparison(OURS, TPE, goal=4.0),
        Comparison(OURS, f"{TPE}, {ONE_THREAD}"),
        Comparison(OURS, RAY, goal=1.5),
    ),
)

if __name__ == "__main__":
    whole = {"exhaustive": exhaustive, "optuna": optuna_and_mlflow}
    print(whole[sys.argv[1]]()) if sys.argv[1:] else regrets()
