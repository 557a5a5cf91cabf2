"""Row 1: from the command to a replicated answer: which of 27 settings is best (benchmarks/answer.yaml), and how good.

Every side ends with three runs of its winner with fresh seeds. Ours: `harness sweep`, the whole command from its start,
with figures, predictions, MLflow and the report. A loop by hand over every cell. Optuna + MLflow: 24 trials of TPE with
storage and runs on SQLite, as their documentation has it. Ray Tune: ASHA over every cell on two CPUs. The others'
clocks start when their libraries are imported and their patches are cut, which favours them by some 15 s.
`python -m benchmarks.bench.row_01_answer` says how good the answers were.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bench import answer
from benchmarks.bench.answer import Cell
from benchmarks.bench.row import Comparison, Figures, Row, Side


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
    import mlflow
    import optuna

    specs, began = _begun()
    axes = ("architecture", "loss", "learning_rate")
    choices = {axis: sorted({cell[axis] for cell, _ in specs}) for axis in axes}
    with TemporaryDirectory(prefix="answer-") as name:
        os.chdir(name)
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        mlflow.set_experiment("answer")

        def log(epoch: int, iou: float) -> None:
            mlflow.log_metric("iou", iou, step=epoch)

        def objective(trial: optuna.Trial) -> float:
            chosen = {key: trial.suggest_categorical(key, values) for key, values in choices.items()}
            spec = next(spec for cell, spec in specs if chosen.items() <= cell.items())
            with mlflow.start_run():
                mlflow.log_params(chosen)
                return answer.by_hand(spec, answer.repeat(), log)

        sampler = optuna.samplers.TPESampler(seed=answer.repeat())
        study = optuna.create_study(storage="sqlite:///optuna.db", direction="maximize", sampler=sampler)
        study.optimize(objective, n_trials=24)
        winner = next(cell for cell, _ in specs if study.best_params.items() <= cell.items())
        scores = answer.replicated(winner, _trainer(specs))
        seconds = time.perf_counter() - began
        os.chdir("/")
    answer.write_answer("optuna", winner, scores)
    return {"seconds": seconds}


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


GOALS = {"a loop over every cell": 8.0, "Optuna TPE + MLflow": 4.0, "Ray Tune, ASHA": 1.5}
ROW = Row(
    number=1,
    work="from the command to a replicated answer: 27 cells of 27 epochs, the winner with three fresh seeds",
    sides=(
        Side("harness sweep", ours),
        Side("a loop over every cell", exhaustive),
        Side("Optuna TPE + MLflow", optuna_and_mlflow),
        Side("Ray Tune, ASHA", ray_tune),
    ),
    comparisons=tuple(Comparison("harness sweep", against, goal=goal) for against, goal in GOALS.items()),
)

if __name__ == "__main__":
    regrets()
