"""Where a spec lies in a space: found again when it is inside, nowhere when any value is outside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.cells import combinations, resolve, strata_of
from harness.config.place import place_of
from harness.config.space import SearchSpace
from harness.config.spec import TrialSpec
from tests.spaces import FACTS


def space_of(parameters: dict[str, Any], **more: Any) -> SearchSpace:
    """A space over two label maps as strata."""
    return SearchSpace.model_validate(
        {
            "name": "small",
            "data": {"root": "phantom"},
            "labels": {"tiger7": "builtin", "unicorn3": "builtin"},
            "strata": {"labels": ["tiger7", "unicorn3"]},
            "parameters": parameters,
            **more,
        }
    )


PARAMETERS: dict[str, Any] = {
    "encoder": {"values": ["resnet18", "resnet34"], "when": {"architecture": ["unet", "fpn"]}},
    "architecture": {"values": ["unet_plain", "unet"]},
    "patch_px": {"values": [64, 128]},
    "batch_size": {"min": 4, "max": 16},
    "learning_rate": {"min": 1e-4, "max": 1e-2, "log": True},
    "loss": {"values": ["jaccard", {"cross_entropy": 1, "dice": 0.5}]},
}
SPACE = space_of(PARAMETERS, rules=["not (patch_px == 128 and batch_size > 8)"])


def spec_of(assignment: dict[str, Any]) -> TrialSpec:
    """The spec of any combination, inside or outside."""
    return resolve(SPACE, FACTS, assignment, seed=SPACE.seed)


LOSSES: list[Any] = ["jaccard", {"cross_entropy": 1, "dice": 0.5}, "dice", {"cross_entropy": 1, "dice": 1}]


def assignments(*, inside: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Combinations with every value listed and in range (encoder and rule may still be wrong), or with any value."""
    return st.fixed_dictionaries(
        {
            "labels": st.sampled_from(["tiger7", "unicorn3"]),
            "architecture": st.sampled_from(["unet_plain", "unet"] if inside else ["unet", "fpn"]),
            "encoder": st.sampled_from([None, "resnet18"] if inside else ["resnet34", "resnet50"]),
            "patch_px": st.sampled_from([64, 128] if inside else [128, 256]),
            "batch_size": st.integers(4, 16) if inside else st.integers(1, 32),
            "learning_rate": st.floats(1e-4, 1e-2) if inside else st.floats(1e-5, 1e-1),
            "loss": st.sampled_from(LOSSES[:2] if inside else LOSSES),
        }
    )


@given(assignments(inside=True) | assignments(inside=False))
def test_a_spec_is_found_exactly_when_every_value_is_inside_and_the_rules_hold(row: dict[str, Any]) -> None:
    """The reference is written out by hand here; what is found resolves to the same spec."""
    inside = (
        row["architecture"] in ("unet_plain", "unet")
        and row["encoder"] in ((None,) if row["architecture"] == "unet_plain" else ("resnet18", "resnet34"))
        and row["patch_px"] in (64, 128)
        and 4 <= row["batch_size"] <= 16
        and 1e-4 <= row["learning_rate"] <= 1e-2
        and row["loss"] in ("jaccard", {"cross_entropy": 1, "dice": 0.5})
        and not (row["patch_px"] == 128 and row["batch_size"] > 8)
    )
    spec = spec_of(row)
    place = place_of(SPACE, spec)
    # An encoder beside unet_plain is no value of this space, but nothing that the parameters say: only the spec knows.
    found = place is not None and spec_of(place.assignment).fingerprint == spec.fingerprint
    assert found == inside
    if place is not None and inside:
        assert place.assignment == row
        assert place.stratum.name == row["labels"]


@pytest.mark.parametrize("stratum", strata_of(SPACE), ids=lambda stratum: stratum.name)
def test_a_value_that_was_fixed_under_train_is_found_when_it_is_searched_now(stratum: Any) -> None:
    """Augmentation `none` under `train:` moves to `parameters:`; an axis may become a parameter, too."""
    fixed = space_of({"architecture": {"value": "unet_plain"}}, train={"augment": "none"})
    moved = {"architecture": {"value": "unet_plain"}, "augment": {"values": ["paper", "none"]}}
    searched = space_of({**moved, "labels": {"values": ["tiger7", "unicorn3"]}}, strata={"patches": ["all"]})
    (cell,) = combinations(fixed, stratum)
    spec = resolve(fixed, FACTS, cell, seed=0)
    place = place_of(searched, spec)
    assert place is not None
    labels = stratum.values["labels"]
    assert place.assignment == {"patches": "all", "architecture": "unet_plain", "augment": "none", "labels": labels}
    assert resolve(searched, FACTS, place.assignment, seed=0).fingerprint == spec.fingerprint


@pytest.mark.parametrize(("rate", "found"), [(0.001, True), (0.01, True), (0.1, True), (0.02, False)])
def test_a_grid_takes_only_the_points_it_visits(rate: float, found: bool) -> None:
    """Three steps from .001 to .1 are .001, .01 and .1; a value between them would stand in a cell's place."""
    steps = {"min": 0.001, "max": 0.1, "log": True, "steps": 3}
    grid = space_of({"architecture": {"value": "unet_plain"}, "learning_rate": steps}, method="grid")
    row = {"labels": "tiger7", "architecture": "unet_plain", "learning_rate": rate}
    assert (place_of(grid, spec_of(row)) is not None) == found
