"""PED-ANOVA: equal to Optuna's, and silent where it would only guess."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from harness.report.domains import Domain
from harness.report.importance import MIN_RUNS, cells, importance_figure, importances, ped_anova
from harness.report.queries import Value

DOMAINS: dict[str, tuple[BaseDistribution, Domain]] = {
    "choice": (CategoricalDistribution(["a", "b", "c"]), Domain("choice", ("a", "b", "c"))),
    "switch": (CategoricalDistribution([False, True]), Domain("switch", (False, True))),
    "whole": (IntDistribution(1, 9), Domain("whole", (), 1, 9, whole=True)),
    "many": (IntDistribution(1, 300), Domain("many", (), 1, 300, whole=True)),
    "doubling": (IntDistribution(1, 300, log=True), Domain("doubling", (), 1, 300, log=True, whole=True)),
    "share": (FloatDistribution(-1, 2), Domain("share", (), -1, 2)),
    "rate": (FloatDistribution(1e-5, 1e-1, log=True), Domain("rate", (), 1e-5, 1e-1, log=True)),
    "partly": (FloatDistribution(0, 1), Domain("partly", (), 0, 1)),  # active unless the choice is a
}


def runs(count: int, seed: int = 0) -> tuple[list[dict[str, Value]], list[float]]:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Value]] = []
    losses = []
    for _ in range(count):
        row: dict[str, Any] = {
            "choice": "abc"[rng.integers(3)], "switch": bool(rng.integers(2)), "whole": int(rng.integers(1, 10)),
            "many": int(rng.integers(1, 301)), "doubling": round(math.exp(rng.uniform(0, math.log(300)))),
            "share": float(rng.uniform(-1, 2)), "rate": float(10 ** rng.uniform(-5, -1)),
        }  # fmt: skip
        row["partly"] = None if row["choice"] == "a" else float(rng.uniform())
        rows.append(row)
        # Rounded, so that some runs tie at the edge of the best share.
        loss = (row["choice"] == "b") * 0.5 + row["share"] ** 2 + abs(math.log10(row["rate"]) + 3) * 0.3
        losses.append(round(loss + (row["partly"] or 0.5), 1))
    return rows, losses


@pytest.mark.parametrize("best_share", [0.1, 0.25])
@pytest.mark.parametrize("count", [6, 24, 150])
def test_the_numbers_are_optunas(count: int, best_share: float) -> None:
    """Choices, integers, floats, logarithmic ones and one that is active only at times, ties included."""
    rows, losses = runs(count)
    study = optuna.create_study()
    for row, loss in zip(rows, losses, strict=True):
        active = {name: value for name, value in row.items() if value is not None}
        kinds = {name: DOMAINS[name][0] for name in active}
        study.add_trial(optuna.trial.create_trial(params=active, distributions=kinds, value=loss))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few runs: both say the same number then
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=best_share)
        expected = evaluator.evaluate(study)
    grids = [cells(domain, [row[name] for row in rows]) for name, (_, domain) in DOMAINS.items()]
    got = ped_anova(grids, np.array(losses), np.arange(count)[None], best_share=best_share)[:, 0]
    assert dict(zip(DOMAINS, got, strict=True)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_shares_add_up_and_lie_near_their_intervals() -> None:
    """Of 120 runs: what the loss is made of comes first, shares sum to one, the active runs are counted."""
    rows, losses = runs(120)
    found = importances(rows, losses, {name: domain for name, (_, domain) in DOMAINS.items()})
    assert found[0].name == "share" and found[0].low > max(one.share for one in found[3:])
    assert sum(one.share for one in found) == pytest.approx(1)
    assert all(0 <= one.low <= one.high <= 1 for one in found)
    assert {one.name: one.active for one in found}["partly"] == sum(row["partly"] is not None for row in rows)


def test_the_same_runs_give_the_same_intervals() -> None:
    """The bootstrap's seed is fixed: a page written twice is the same."""
    rows, losses = runs(40)
    domains = {name: domain for name, (_, domain) in DOMAINS.items()}
    assert importances(rows, losses, domains) == importances(rows, losses, domains)


def test_too_few_runs_or_nothing_to_choose_give_no_numbers() -> None:
    """One run below the threshold; a parameter with a single value; and no figure of nothing."""
    rows, losses = runs(MIN_RUNS - 1)
    domains = {name: domain for name, (_, domain) in DOMAINS.items()}
    assert importances(rows, losses, domains) == ()
    assert importances([{"one": "x"}] * 40, [0.1] * 40, {"one": Domain("one", ("x",))}) == ()
    assert importance_figure((), title="t") == ""


def test_runs_that_all_tie_tell_nothing() -> None:
    """The best quarter is everyone: no parameter has a share, and none is invented."""
    rows, _ = runs(40)
    assert importances(rows, [0.5] * 40, {"choice": DOMAINS["choice"][1]}) == ()
