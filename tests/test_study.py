"""Proposing and pruning: real Optuna studies, in memory and on SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from harness.config.cells import combinations, strata_of
from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.errors import Refused
from harness.study import Past, StratumStudy, open_storage
from tests.spaces import written

FINITE = """parameters:
  architecture: {values: [unet_plain, unet]}
  encoder: {value: resnet18, when: {architecture: unet}}
  encoder_weights: {values: [random, imagenet], when: {architecture: unet}}
  patch_px: {values: [64, 128]}
rules: ['not (patch_px == 128 and architecture == "unet_plain")']
"""
RANGE = "parameters: {architecture: {value: unet_plain}, learning_rate: {min: 1e-5, max: 1e-2, log: true}}\n"


def space(tmp_path: Path, lines: str) -> SearchSpace:
    """A checked space of these lines."""
    return load_space(written(tmp_path, lines))


def study(of: SearchSpace, storage: optuna.storages.BaseStorage | None = None) -> StratumStudy:
    """The study of the space's only stratum."""
    return StratumStudy(of, strata_of(of)[0], name=f"{of.name}/default/g1", storage=storage)


def next_of(one: StratumStudy) -> dict[str, Any] | None:
    """The assignment of the next proposal."""
    proposal = one.propose()
    return None if proposal is None else proposal.assignment


def finish(one: StratumStudy, number: int, assignment: dict[str, Any], value: float) -> None:
    """A whole trial."""
    one.started(f"t{number}", assignment)
    one.report(f"t{number}", 1, value)
    one.finished(f"t{number}", "complete", value)


@pytest.mark.parametrize("method", ["tpe", "random", "grid"])
def test_every_combination_is_proposed_once_and_then_none(method: str, tmp_path: Path) -> None:
    """5 valid combinations: plain at 64; unet at 64 and 128 with two weights each. No repeats, no rule broken."""
    of = space(tmp_path, f"{FINITE}method: {method}\n")
    expected = list(combinations(of, strata_of(of)[0]))
    assert len(expected) == 5
    one, seen = study(of), []
    for number in range(5):
        assignment = next_of(one)
        assert assignment is not None
        seen.append(assignment)
        finish(one, number, assignment, value=number / 10)
    assert next_of(one) is None
    assert sorted(map(str, seen)) == sorted(map(str, expected))


def test_baselines_come_first_and_are_not_repeated(tmp_path: Path) -> None:
    """In file order; two equal rows are one."""
    row = "{architecture: unet, encoder: resnet18, encoder_weights: imagenet, patch_px: 128}"
    of = space(tmp_path, f"{FINITE}baselines: [{row}, {row}]\n")
    one = study(of)
    first = next_of(one)
    assert first is not None
    assert (first["architecture"], first["encoder_weights"], first["patch_px"]) == ("unet", "imagenet", 128)
    finish(one, 0, first, 0.5)
    assert next_of(one) != first


@pytest.mark.parametrize("lines", [FINITE, RANGE], ids=["finite", "range"])
def test_a_restarted_study_proposes_what_the_undisturbed_one_does(lines: str, tmp_path: Path) -> None:
    """Twelve TPE trials with a restart in the middle give the same proposals as without."""
    of = space(tmp_path, lines)
    total = 5 if lines is FINITE else 14

    def run(restart_after: int | None) -> list[dict[str, Any]]:
        one, past, proposals = study(of), [], []
        for number in range(total):
            if number == restart_after:
                one = study(of)
                one.restore(past)
            assignment = next_of(one)
            assert assignment is not None
            value = 0.1 * (number % 4) + (assignment.get("learning_rate") or 0)
            finish(one, number, assignment, value)
            past.append(Past(f"t{number}", number, assignment, "complete", value, {1: value}))
            proposals.append(assignment)
        return proposals

    assert run(restart_after=None) == run(restart_after=total // 2)


def test_ranges_stay_inside_and_integers_stay_integers(tmp_path: Path) -> None:
    """Also when everything is drawn at random."""
    lines = RANGE.replace("}}", "}, batch_size: {min: 4, max: 9}}")
    one = study(space(tmp_path, lines))
    for number in range(12):
        assignment = next_of(one)
        assert assignment is not None
        assert isinstance(assignment["batch_size"], int)
        assert 4 <= assignment["batch_size"] <= 9
        assert 1e-5 <= assignment["learning_rate"] <= 1e-2
        finish(one, number, assignment, 0.5)


def test_halving_prunes_the_worst_of_its_rung_and_keeps_the_best(tmp_path: Path) -> None:
    """eta 3 at epoch 1: of values .1 to .9 the last one, .9, goes on; a bad newcomer does not."""
    of = space(tmp_path, RANGE + "prune: {type: halving, min_epochs: 1, eta: 3}\ntrain: {epochs: 9}\n")
    one = study(of)
    for number in range(9):
        assignment = next_of(one)
        assert assignment is not None
        one.started(f"t{number}", assignment)
        one.report(f"t{number}", 1, (number + 1) / 10)
    assert not one.should_prune("t8")
    assignment = next_of(one)
    assert assignment is not None
    one.started("t9", assignment)
    one.report("t9", 1, 0.01)
    assert one.should_prune("t9")


def test_the_durable_study_agrees_after_a_restart(tmp_path: Path) -> None:
    """A trial that ended while Optuna was not told is told at the next start, once."""
    of = space(tmp_path, RANGE)
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    one = study(of, open_storage(url))
    first, second = next_of(one), None
    assert first is not None
    one.started("t0", first)
    for _ in range(2):
        again = study(of, open_storage(url))
        again.restore([Past("t0", 0, first, "complete", 0.7, {1: 0.6, 2: 0.7})])
        second = next_of(again)
    assert second is not None
    trials = optuna.load_study(study_name="small/default/g1", storage=url).trials
    assert [(trial.state.name, trial.value, trial.intermediate_values) for trial in trials] == [
        ("COMPLETE", 0.7, {1: 0.6, 2: 0.7})
    ]
    assert trials[0].params == {"learning_rate": first["learning_rate"]}


def test_a_storage_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path) -> None:
    """Not a traceback of SQLAlchemy's."""
    with pytest.raises(Refused) as caught:
        open_storage(f"sqlite:///{tmp_path / 'nowhere' / 'optuna.db'}")
    assert "\n" not in str(caught.value)


def test_a_partial_baseline_is_run_although_its_first_draw_breaks_a_rule(tmp_path: Path) -> None:
    """`unet_plain` alone leaves patch_px to the sampler, and 128 is against the rule: it draws again."""
    for seed in range(12):
        of = space(tmp_path, FINITE + "baselines: [{architecture: unet_plain}]\n").model_copy(update={"seed": seed})
        proposal = study(of).propose()
        assert proposal is not None
        assert (proposal.baseline_row, proposal.assignment["architecture"]) == (0, "unet_plain")


def test_a_baseline_that_ran_is_not_drawn_again_after_a_restart(tmp_path: Path) -> None:
    """Also a partial one, whose sampled rest would differ the second time."""
    of = space(tmp_path, FINITE + "baselines: [{architecture: unet}]\n")
    one = study(of)
    first = one.propose()
    assert first is not None
    finish(one, 0, first.assignment, 0.5)
    undisturbed = one.propose()
    again = study(of)
    again.restore([Past("t0", 0, first.assignment, "complete", 0.5, {1: 0.5}, baseline_row=first.baseline_row)])
    assert undisturbed is not None
    assert undisturbed.baseline_row is None
    assert again.propose() == undisturbed
