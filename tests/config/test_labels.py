"""Label maps are data with rules of their own."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.config.labels import BUILTIN, LabelMap


def test_the_unicorn_merge_is_task_9s() -> None:
    """tumor = 1, 3; stroma = 2, 6; rest = 4, 5, 7."""
    unicorn3 = BUILTIN["unicorn3"]
    assert [unicorn3.class_of(source_id) for source_id in range(9)] == [None, 1, 2, 1, 3, 3, 2, 3, None]


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
