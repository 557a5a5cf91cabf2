"""What an edit changed, in words: every kind of setting, each with its line by hand."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config.space import SearchSpace
from harness.sweep.differences import differences

SPACE: dict[str, Any] = {
    "name": "small",
    "data": {"root": "phantom"},
    "labels": {"unicorn3": {"tumor": [1, 3], "stroma": [2, 6], "rest": [4, 5, 7]}},
    "parameters": {
        "architecture": {"values": ["unet", "tiny"]},
        "patch_px": {"values": [128, 256]},
        "learning_rate": {"min": 1e-5, "max": 3e-3, "log": True},
    },
    "imports": {"tiny": {"import": "lab:build", "name": "tiny", "sha256": "a" * 64}},
    "train": {"epochs": 3},
}
DATA = {"hash": "1" * 64, "rois": 20, "patients": 6, "split": {"train": ["A", "B"], "validation": ["C"], "test": []}}


def lines(data: dict[str, Any] = DATA, **changes: Any) -> list[str]:
    """The differences after replacing dotted keys of the space (`__` for the dot)."""
    edited = SearchSpace.model_validate(SPACE).model_dump(mode="json")
    for path, value in changes.items():
        *parents, key = path.split("__")
        section = edited
        for parent in parents:
            section = section[parent]
        section[key] = value
    new = SearchSpace.model_validate(edited)
    return [str(found) for found in differences(SearchSpace.model_validate(SPACE), DATA, new, data)]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"parameters__patch_px": {"values": [128, 256, 512]}}, "patch_px: 128, 256 -> 128, 256, 512"),
        ({"parameters__learning_rate__max": 0.01}, "learning_rate: 1e-05..0.003 log -> 1e-05..0.01 log"),
        (
            {"parameters__patch_px__when": {"architecture": ["unet"]}},
            "patch_px: 128, 256 -> 128, 256 where architecture is unet",
        ),
        ({"parameters__batch_size": {"values": [8, 32]}}, "batch_size: 32 -> 8, 32"),
        ({"strata": {"patches": ["all"]}}, "patches: not set -> all (strata)"),
        ({"train__epochs": 5}, "train.epochs: 3 -> 5 (changes every trial)"),
        ({"train__stop_patience": None}, "train.stop_patience: 10 -> none (changes every trial)"),
        ({"labels__unicorn3__classes__rest": [4, 5]}, "labels.unicorn3.rest: 4, 5, 7 -> 4, 5"),
        ({"imports__tiny__sha256": "b" * 64}, "the source of tiny: aaaaaaaa -> bbbbbbbb"),
        ({"rules": ["patch_px < 512"]}, "rules: none -> patch_px < 512"),
        ({"baselines": [{"architecture": "unet"}]}, "baselines: none -> 1 row"),
        ({"seed": 4}, "seed: 0 -> 4 (changes every trial)"),
        ({"method": "random"}, "method: tpe -> random"),
        ({"data__split__validation": 0.4}, "data.split.validation: 0.2 -> 0.4"),
        ({"rules": [f"patch_px < {'1' * 60}"]}, f"rules: none -> patch_px < {'1' * 46}..."),
    ],
    ids=lambda case: "" if isinstance(case, dict) else case.split(":")[0],
)
def test_each_kind_of_edit_is_one_line(changes: dict[str, Any], line: str) -> None:
    """Values as people write them; `changes every trial` where the setting is part of every trial's spec."""
    assert lines(**changes) == [line]


def test_other_bytes_or_patients_are_told_apart_where_the_counts_agree() -> None:
    """The hash and the roles decide, not what is shown of them."""
    split = {**DATA["split"], "train": ["A", "C"], "validation": ["B"]}
    assert lines({**DATA, "hash": "2" * 64, "split": split}) == [
        "data: 20 regions of 6 patients -> other content (changes every trial)",
        "split: 2 train, 1 validation -> other patients (changes every trial)",
    ]


def test_budgets_names_places_and_export_are_no_difference() -> None:
    """As in the generation's key: the same trials would be trained."""
    edits = {"budget": {"trials": 99}, "name": "other", "export": "all", "data__root": "/elsewhere"}
    assert lines(**edits, imports__tiny__folder="/moved") == []
