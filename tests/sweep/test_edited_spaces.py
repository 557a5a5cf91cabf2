"""Edited spaces, swept for real: what still fits is kept, the rest is trained; folders, Optuna and MLflow agree."""

from __future__ import annotations

import os
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.config.load import load_space
from harness.errors import Refused
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.ledger import read_records
from harness.sweep.lock import held
from harness.sweep.progress import Screen
from harness.sweep.run import Outcome, Request, run_sweep
from harness.sweep.status import status_of
from harness.sweep.vocabulary import CHECKS
from harness.tracking.store import tracking_store
from tests.sweep.conftest import Lab
from tests.sweep.test_sweeps import optuna_states


class Bench:
    """A small sweep in this process (importing torch and MLflow once), without its report."""

    def __init__(self, lab: Lab, phantom: Path) -> None:
        self.lab, self.home = lab, Home(lab.home)
        self.file = lab.write(phantom, trials=5, more="baselines: [{learning_rate: 0.003}]\n")
        lab.home.mkdir()

    def sweep(self, **changes: Any) -> tuple[Outcome, str]:
        """Sweep one stratum with these dotted keys (`__` for the dot) changed; how it ended and what it said."""
        overrides = [("strata", {"labels": ["unicorn3"]})]
        overrides += [(path.replace("__", "."), value) for path, value in changes.items()]
        space = load_space(self.file, overrides=overrides, checks=CHECKS)
        said = StringIO()
        request = Request(yaml="", command=["harness"], executor="inline", device="cpu")
        screen = Screen(Console(file=said, width=200))
        outcome = run_sweep(space, self.home, request, screen, lambda generation: self.lab.path / "report.html")
        return outcome, said.getvalue()

    def rates(self, number: int) -> dict[float, str | None]:
        """{learning rate: where it was adopted from} of a generation's trials, all of them complete."""
        records = read_records(self.generation(number)).values()
        assert {record.state for record in records} == {"complete"}
        return {record.parameters["learning_rate"]: record.adopted_from for record in records}

    def generation(self, number: int) -> GenerationFolder:
        """g1, g2, ..."""
        return GenerationFolder(self.home.sweep("small").path / f"g{number}")


@pytest.fixture
def bench(lab: Lab, phantom: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "HARNESS_"))]:
        monkeypatch.delenv(name)
    return Bench(lab, phantom)


@pytest.mark.slow
def test_edits_train_only_what_no_earlier_generation_has(bench: Bench, lab: Lab) -> None:
    """A value more, a narrower range, other epochs, and back with a larger budget: 1 + 2 + 0 + 1 + 1 trials trained."""
    two = {"values": [0.001, 0.003]}
    first, _ = bench.sweep(parameters__learning_rate=two, budget__trials=1)
    assert (first.epochs_trained, bench.rates(1)) == (1, {0.003: None})

    with held(bench.home.sweep("small")), pytest.raises(Refused, match="is being run by process"):
        bench.sweep(seed=5)
    assert [generation.number for generation in bench.home.sweep("small").generations()] == [1]

    wider, said = bench.sweep(parameters__learning_rate={"values": [0.001, 0.003, 0.01]})
    edit = "learning_rate: 0.001, 0.003 -> 0.001, 0.003, 0.01"
    assert f"generation 2: {edit}; kept 1 finished trial of generation 1, set aside 0" in said.splitlines()
    assert (wider.epochs_trained, wider.complete) == (2, 3)
    assert bench.rates(2) == {0.003: "g1/trials/unicorn3.0000", 0.001: None, 0.01: None}
    assert [record.baseline for record in read_records(wider.generation).values()] == [True, False, False]
    assert status_of(wider.generation, bench.home)["epochs_trained"] == 2

    narrow = {"min": 0.002, "max": 0.02, "log": True}
    full, said = bench.sweep(parameters__learning_rate=narrow, budget__trials=2)
    assert "kept 2 finished trials of generations 1 and 2, set aside 1" in said
    assert "kept trials reach budget.trials (2) in 1 of 1 strata" in said
    assert (full.epochs_trained, set(bench.rates(3))) == (0, {0.003, 0.01})

    longer, said = bench.sweep(parameters__learning_rate=narrow, budget__trials=1, train__epochs=2)
    assert "train.epochs: 1 -> 2 (changes every trial); none of 3 finished trials still fits" in said
    assert (longer.epochs_trained, bench.rates(4)) == (2, {0.003: None})

    back, said = bench.sweep(parameters__learning_rate=two)
    assert "it was here before and goes on" in said
    assert (back.generation.number, back.epochs_trained, bench.rates(1)) == (1, 1, {0.003: None, 0.001: None})

    assert optuna_states(lab) == ["COMPLETE"] * (2 + 3 + 2 + 1)
    assert runs(bench) == Counter({("1", None): 2, ("2", "g1"): 1, ("2", None): 2, ("3", "g1"): 1, ("3", "g2"): 1,
                                   ("4", None): 1})  # fmt: skip
    assert not [folder for number in (1, 2, 3, 4) for folder in bench.generation(number).trial_folders()
                if folder.damaged()]  # fmt: skip


def runs(bench: Bench) -> Counter[tuple[str, str | None]]:
    """Finished MLflow runs by (generation, generation that was adopted from)."""
    import mlflow

    client = mlflow.MlflowClient(tracking_store(bench.home.path, {}).uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    trials = [run for run in client.search_runs(experiments) if "harness.trial_uid" in run.data.tags]
    assert {run.info.status for run in trials} == {"FINISHED"}
    tags = [run.data.tags for run in trials]
    return Counter((tag["generation"], tag["adopted_from"][:2] if "adopted_from" in tag else None) for tag in tags)
