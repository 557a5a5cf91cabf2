"""Source ids to targets, by hand."""

from __future__ import annotations

from harness.config.labels import BUILTIN, IGNORE, LabelMap
from harness.data.targets import target_table


def test_ignore_numbers_classes_from_zero_and_masks_undefined() -> None:
    """UNICORN: tumor 1, 3; stroma 2, 6; rest 4, 5, 7."""
    table = target_table(BUILTIN["unicorn3"], "ignore")
    assert table[:9].tolist() == [IGNORE, 0, 1, 0, 2, 2, 1, 2, IGNORE]


def test_as_paper_keeps_undefined_as_class_zero() -> None:
    """The paper trained and counted 0 as a class."""
    table = target_table(BUILTIN["unicorn3"], "as_paper")
    assert table[:8].tolist() == [0, 1, 2, 1, 3, 3, 2, 3]


def test_ignored_ids_are_treated_like_undefined() -> None:
    """In either way of treating it."""
    labels = LabelMap(name="x", classes={"a": (1,), "b": (2,)}, ignore_ids=(8,))
    assert target_table(labels, "ignore")[8] == IGNORE
    assert target_table(labels, "as_paper")[8] == 0


def test_an_id_that_the_map_does_not_know_never_becomes_a_class() -> None:
    """Not even under as_paper, where a silent 0 would train it as undefined."""
    for undefined in ("ignore", "as_paper"):
        assert target_table(BUILTIN["tiger7"], undefined)[8:].tolist() == [IGNORE] * 248
