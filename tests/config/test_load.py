"""A search space file: read whole, or every mistake listed with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.cells import combinations, resolve, strata_of
from harness.config.load import load_space, parse_override
from harness.config.space import SearchSpace
from harness.errors import BadInput
from harness.sweep.vocabulary import CHECKS
from tests.spaces import FACTS, written

REPO = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["quickstart", "unicorn"])
def test_the_spaces_that_come_along_are_valid(name: str) -> None:
    """Also by what the rooms know."""
    assert load_space(REPO / "search_spaces" / f"{name}.yaml", checks=CHECKS).name == name


def test_unicorn_has_14_combinations_in_each_of_4_strata() -> None:
    """unet_plain x {128, 256}; unet and attention_unet x {imagenet, random} x {128, 256, 512}: 2 + 12, by hand."""
    space = load_space(REPO / "search_spaces" / "unicorn.yaml")
    counts = {stratum.name: sum(1 for _ in combinations(space, stratum)) for stratum in strata_of(space)}
    assert counts == {
        f"{labels}/{patches}": 14 for labels in ("tiger7", "unicorn3") for patches in ("all", "non_homogeneous")
    }


MISTAKES = {
    "parameters: {architecture: {value: unet_plain}, lerning_rate: {value: 1}}": "did you mean 'learning_rate'",
    "parameters: {architecture: {values: [unet_plain, unet_plain]}}": "'unet_plain' is listed twice",
    "parameters: {architecture: {values: [unett]}}": "did you mean 'unet'",
    "parameters: {architecture: {value: fpn}, encoder: {value: resnet19}, encoder_weights: {value: random}}": "resnet1",
    "parameters: {architecture: {value: unet_plain}, learning_rate: {min: 1, max: 0.1}}": "min 1 is not below max 0.1",
    "parameters: {architecture: {value: unet_plain}, loss: {min: 1, max: 2}}": "takes `values`, not a range",
    "parameters: {architecture: {value: unet_plain}, patch_px: {value: 100}}": "multiples of 16",
    "parameters: {architecture: {value: unet_plain}, epochs: {value: 3}}\ntrain: {epochs: 4}": "also set in `train`",
    "parameters: {architecture: {value: unet_plain}}\nrules: ['archtecture == 1']": "did you mean 'architecture'",
    "parameters: {architecture: {value: unet_plain}}\nbaselines: [{patch_px: 64}]": "is not a parameter",
    "parameters: {architecture: {value: unet_plain}}\nobjective: {metric: val/ioo}": "did you mean 'val/iou'",
    "parameters: {architecture: {value: unet_plain}}\nobjective: {metric: val/loss}": "not ranked by",
    "parameters: {architecture: {value: unet_plain}}\nmethod: gird": "did you mean 'grid'",
    "parameters: {architecture: {value: unet_plain}}\nbudget: {wall: 3 weeks}": "write 90s, 30m, 36h or 2d",
    "parameters: {architecture: {value: unet_plain}}\nstrata: {labels: [tiger8]}": "is not a label map of this file",
    "strata: {labels: [tiger7]}\nparameters: {}": "`architecture` is missing",
    "parameters: {architecture: {value: unet_plain}}\nstrata: {labels: [{tiger7: builtin}]}": "not a label map of this",
    "parameters: {architecture: {value: unet_plain}, patch_px: {values: [64, '128']}}": "without quotes",
    "parameters: {architecture: {value: fpn}, encoder: {value: resnet18}, encoder_weights: {value: random}, "
    "decoder_attention: {value: scse}}": "fpn takes none: use unet or unetplusplus",
    "parameters: {architecture: {value: unet_plain}}\n"
    "references: [{name: theirs, labels: tigr7, scores: {iou: 0.5}}]": "did you mean 'tiger7'",
    "parameters: {architecture: {value: unet_plain}}\n"
    "reproduces: [{item: one, file: one.png, trial: {patchs: all}}]": "did you mean 'patches'",
    "parameters: {architecture: {value: unet_plain}}\n"
    "reproduces: [{item: one, file: one.png, trial: {patches: every}}]": "'every' is not allowed",
}


@pytest.mark.parametrize(("lines", "message"), MISTAKES.items())
def test_a_mistake_is_named_with_its_line_and_what_is_allowed(lines: str, message: str, tmp_path: Path) -> None:
    """One line: file, line, what is wrong, what is allowed."""
    file = written(tmp_path, lines)
    with pytest.raises(BadInput) as caught:
        load_space(file, checks=CHECKS)
    assert len(caught.value.problems) == 1, caught.value.problems
    where, _, _ = caught.value.problems[0].partition(": ")
    assert where.startswith(f"{file}:")
    assert message in caught.value.problems[0]


def test_mistakes_of_structure_and_of_meaning_are_listed_together_in_line_order(tmp_path: Path) -> None:
    """A wrong type does not hide a misspelt name further down."""
    lines = "seeed: 3\nparameters: {architecture: {value: unett}}\ntrain: {epochs: 0}\nbudget: {trials: -1}"
    with pytest.raises(BadInput) as caught:
        load_space(written(tmp_path, lines), checks=CHECKS)
    numbers = [int(problem.split(":")[1]) for problem in caught.value.problems]
    assert len(numbers) == 4
    assert numbers == sorted(numbers)


def test_a_yardstick_objective_is_refused_where_the_label_map_straddles_the_merge(tmp_path: Path) -> None:
    """A class of tumor and stroma has no yardstick."""
    lines = "parameters: {architecture: {value: unet_plain}}\nobjective: {metric: val/yardstick}"
    file = written(tmp_path, lines, labels="{mixed: {tissue: [1, 2], other: [3, 4, 5, 6, 7]}}")
    with pytest.raises(BadInput, match="class 'tissue' holds ids of stroma and tumor"):
        load_space(file, checks=CHECKS)


def test_overrides_are_yaml_values() -> None:
    """`--set` reads its value as the file would."""
    assert parse_override("train.learning_rate=1e-3") == ("train.learning_rate", 0.001)
    assert parse_override("strata.labels=[tiger7]") == ("strata.labels", ["tiger7"])
    with pytest.raises(BadInput, match="KEY=VALUE"):
        parse_override("train.epochs")


def test_budgets_make_no_generation_and_training_does(tmp_path: Path) -> None:
    """The key of a space changes with what is computed, and with nothing else."""
    file = written(tmp_path, "parameters: {architecture: {value: unet_plain}}")
    key = load_space(file).key
    assert load_space(file, overrides=[("budget.trials", 99), ("export", "all"), ("name", "other")]).key == key
    assert load_space(file, overrides=[("train.epochs", 99)]).key != key


def test_an_inactive_parameter_does_not_reach_the_spec(tmp_path: Path) -> None:
    """unet_plain has no encoder, though the space lists one for unet."""
    lines = (
        "parameters:\n  architecture: {values: [unet_plain, unet]}\n"
        "  encoder: {value: resnet18, when: {architecture: [unet]}}\n"
        "  encoder_weights: {value: random, when: {architecture: unet}}\n  patch_px: {value: 64}\n"
        "  loss: {values: [{cross_entropy: 1, dice: 0.5}]}"
    )
    space = load_space(written(tmp_path, lines), checks=CHECKS)
    plain, unet = (resolve(space, FACTS, cell, seed=1) for cell in combinations(space, strata_of(space)[0]))
    assert (plain.model.architecture, plain.model.encoder) == ("unet_plain", None)
    assert (unet.model.encoder, unet.model.encoder_weights) == ("resnet18", "random")
    assert unet.dataset.cut.input_px == unet.dataset.cut.stride == unet.dataset.cut.patch_px == 64
    assert unet.train.loss_terms == {"cross_entropy": 1, "dice": 0.5}


def test_the_fingerprint_follows_what_is_computed_and_not_where_the_data_lie(tmp_path: Path) -> None:
    """Moving the data keeps it; another seed, split or learning rate changes it."""
    space = load_space(written(tmp_path, "parameters: {architecture: {value: unet_plain}}"))
    cell = next(combinations(space, strata_of(space)[0]))
    spec = resolve(space, FACTS, cell, seed=1)
    moved = spec.model_copy(update={"dataset": spec.dataset.model_copy(update={"root": "/elsewhere"})})
    assert moved.fingerprint == spec.fingerprint
    assert spec.model_copy(update={"seed": 2}).fingerprint != spec.fingerprint
    slower = spec.train.model_copy(update={"learning_rate": 1e-4})
    assert spec.model_copy(update={"train": slower}).fingerprint != spec.fingerprint


def test_the_monitor_follows_the_objective_unless_it_is_set() -> None:
    """`train.monitor` defaults to `objective.metric`."""
    base = {
        "name": "x",
        "data": {"root": "."},
        "labels": {"tiger7": "builtin"},
        "objective": {"metric": "val/dice"},
    }
    assert SearchSpace.model_validate(base).train.monitor == "val/dice"
    assert SearchSpace.model_validate({**base, "train": {"monitor": "val/iou"}}).train.monitor == "val/iou"


def test_a_space_survives_its_own_json() -> None:
    """space.json holds the resolved space; reading it back gives the same value."""
    space = load_space(REPO / "search_spaces" / "unicorn.yaml")
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space
