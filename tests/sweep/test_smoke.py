"""`--smoke` keeps every value, and its rows are ones the space allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.cells import combinations, resolve, strata_of
from harness.config.knobs import label_of
from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.errors import BadInput
from harness.study import StratumStudy
from harness.sweep.smoke import shrink
from harness.sweep.vocabulary import CHECKS, hub_weights
from tests.spaces import FACTS, written

REPO = Path(__file__).resolve().parents[2]


def proposed(space: SearchSpace) -> dict[str, list[dict[str, object]]]:
    """Every assignment that the space's studies propose within its budget, by stratum; each resolves to a spec."""
    found: dict[str, list[dict[str, object]]] = {}
    for stratum in strata_of(space):
        study = StratumStudy(space, stratum, name=stratum.name, storage=None)
        for number in range(space.budget.trials):
            proposal = study.propose()
            if proposal is None:
                break
            resolve(space, FACTS, proposal.assignment, seed=1)
            study.started(f"t{number}", proposal.assignment)
            found.setdefault(stratum.name, []).append(proposal.assignment)
    return found


def values(rows: list[dict[str, object]]) -> set[tuple[str, object]]:
    """Every (name, value) that occurs."""
    return {(name, label_of(value)) for row in rows for name, value in row.items() if value is not None}


@pytest.mark.parametrize("name", ["quickstart", "unicorn"])
def test_every_value_of_every_stratum_is_tried(name: str) -> None:
    """In at most four trials a stratum, of two epochs, without the hub."""
    small, notes = shrink(load_space(REPO / "search_spaces" / f"{name}.yaml", checks=CHECKS))
    runs = proposed(small)
    for stratum in strata_of(small):
        possible = values(list(combinations(small, stratum)))
        assert possible <= values(runs[stratum.name])
        assert len(runs[stratum.name]) <= 4
    assert small.train.epochs == 2
    assert small.name == f"{name}-smoke"
    assert hub_weights(small) == []
    assert any("random weights" in note for note in notes) == (name == "unicorn")


def test_ranges_baselines_and_conditions_shrink_along(tmp_path: Path) -> None:
    """An integer range stays an integer; searched epochs, batch sizes and what depends on them follow."""
    lines = (
        "parameters:\n  architecture: {values: [unet_plain, unet]}\n"
        "  encoder: {value: resnet18, when: {architecture: unet}}\n"
        "  encoder_weights: {value: imagenet, when: {architecture: unet}}\n"
        "  epochs: {values: [20, 50]}\n  batch_size: {values: [16, 32]}\n"
        "  plateau_patience: {min: 2, max: 9}\n  sampling: {values: [uniform, balanced], when: {batch_size: [32]}}\n"
        "  learning_rate: {min: 1e-5, max: 1e-2, log: true}\n"
        "rules: ['learning_rate <= 5e-4']\n"
        "baselines: [{architecture: unet, epochs: 50}]\n"
    )
    small, _ = shrink(load_space(written(tmp_path, lines), checks=CHECKS))
    rows = proposed(small)["default"]
    assert {row["epochs"] for row in rows} == {2}
    assert {row["batch_size"] for row in rows} == {8}
    assert {row["sampling"] for row in rows} == {"uniform", "balanced"}
    assert all(isinstance(row["plateau_patience"], int) for row in rows)
    assert all(row["learning_rate"] <= 5e-4 for row in rows)  # type: ignore[operator]


def test_rules_that_leave_nothing_of_the_small_space_are_named(tmp_path: Path) -> None:
    """One line, not an empty sweep."""
    lines = "parameters: {architecture: {value: unet_plain}, epochs: {values: [20, 50]}}\nrules: [epochs >= 20]"
    with pytest.raises(BadInput, match="leaves no combination of stratum default"):
        shrink(load_space(written(tmp_path, lines), checks=CHECKS))


def test_a_space_of_own_networks_alone_shrinks_too(tmp_path: Path) -> None:
    """No architecture of the table says how small a patch may be: the usual 64 px."""
    (tmp_path / "ours.py").write_text("def build(classes): ...\n")
    file = tmp_path / "own.yaml"
    file.write_text(
        "data: {root: phantom}\nlabels: {tiger7: builtin}\n"
        "parameters: {architecture: {value: {import: ours:build, name: own}}}\n"
    )
    small, _ = shrink(load_space(file, checks=CHECKS))
    assert small.parameters["input_px"].choices == (64,)
