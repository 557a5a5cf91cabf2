"""Label maps are data with rules of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from harness.config.labels import BUILTIN, LabelMap
from harness.config.load import load_space
from harness.errors import BadInput
from tests.spaces import written


def test_the_unicorn_merge_is_task_9s() -> None:
    """tumor = 1, 3; stroma = 2, 6; rest = 4, 5, 7."""
    unicorn3 = BUILTIN["unicorn3"]
    assert [unicorn3.class_of(source_id) for source_id in range(9)] == [None, 1, 2, 1, 3, 3, 2, 3, None]


def test_the_older_tiger_merge_counts_in_situ_tumor_as_rest() -> None:
    """tumor = 1; stroma = 2, 6; rest = 3, 4, 5, 7."""
    assert [BUILTIN["tiger3"].class_of(source_id) for source_id in range(9)] == [None, 1, 2, 3, 3, 3, 2, 3, None]


def test_the_builtin_maps_use_every_id_of_tiger_once_and_differ() -> None:
    """Three questions asked of the same pixels; each map knows itself by the name it is asked for."""
    for name, labels in BUILTIN.items():
        assert labels.name == name
        assert sorted(i for ids in labels.classes.values() for i in ids) == [1, 2, 3, 4, 5, 6, 7]
    assert len({labels.key for labels in BUILTIN.values()}) == len(BUILTIN) == 3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{tiger9: builtin}", "write `builtin` (tiger7, unicorn3, tiger3), or classes with their ids"),
        ("{mine: {tumor: [1, 2], stroma: [2]}}", "source id 2 is in 'tumor' and in 'stroma'; it can be in one"),
        ("{mine: {tumor: [1, 1]}}", "source id 1 is in 'tumor' and in 'tumor'"),
        ("{mine: {tumor: [256]}}", "less than or equal to 255"),
        ("{mine: {tumor: [-1]}}", "greater than or equal to 0"),
        ("{mine: {tumor: [1.5]}}", "valid integer"),
        ("{mine: {tumor: 1, ignore_ids: [1]}}", "valid tuple"),
    ],
)
def test_a_wrong_map_in_a_file_is_named_with_its_line(labels: str, message: str, tmp_path: Path) -> None:
    """Overlaps, ids that no mask can hold, and names of maps that do not come along."""
    file = written(tmp_path, "parameters: {architecture: {value: unet_plain}}", labels=labels)
    with pytest.raises(BadInput) as caught:
        load_space(file)
    assert caught.value.problems[0].startswith(f"{file}:3: labels.")
    assert message in caught.value.problems[0]


@pytest.mark.parametrize(
    ("classes", "ignored", "message"),
    [
        ({"a": [1], "b": [1, 2]}, [], "source id 1 is in 'a' and in 'b'"),
        ({"a": [0]}, [], "source id 0 is in 'undefined' and in 'a'"),
        ({"a": [1]}, [1], "source id 1 is in 'ignore_ids' and in 'a'"),
        ({"a": []}, [], "class 'a' has no source ids"),
        ({}, [], "at least one class"),
    ],
)
def test_an_id_is_in_one_place(classes: dict[str, list[int]], ignored: list[int], message: str) -> None:
    """Overlaps, undefined pixels in a class, and empty classes are refused with the id named."""
    with pytest.raises(ValidationError, match=message):
        LabelMap.model_validate({"name": "m", "classes": classes, "ignore_ids": ignored})


def test_maps_are_compared_by_ids_not_names() -> None:
    """Renaming a map or its classes does not split a comparability group; another merge does."""
    one = LabelMap(name="one", classes={"tumor": (1, 3), "other": (2,)})
    same = LabelMap(name="two", classes={"cancer": (3, 1), "rest": (2,)})
    different = LabelMap(name="one", classes={"tumor": (1,), "other": (2, 3)})
    assert one.key == same.key != different.key


@pytest.mark.parametrize("key", ["ignore_id", "ignored_ids", "Ignore_Ids"])
def test_a_misspelt_ignore_ids_is_not_taken_for_a_class(key: str) -> None:
    """Otherwise ink would be trained as a class of that name."""
    with pytest.raises(ValueError, match="did you mean `ignore_ids`"):
        LabelMap(name="x", classes={"a": (1,), key: (9,)})
