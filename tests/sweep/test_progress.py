"""What the live line says."""

from __future__ import annotations

from harness.config.spec import Objective
from harness.sweep.progress import best_so_far
from tests.sweep.test_exports import record


def test_the_best_so_far_is_told_per_label_map() -> None:
    """.3 of seven classes and .5 of three are not one ranking; what did not complete does not count."""
    seven = [
        record(uid, "s", value).model_copy(update={"parameters": {"labels": "tiger7"}})
        for uid, value in (("a", 0.3), ("b", 0.2))
    ]
    three = record("c", "s", 0.5).model_copy(update={"parameters": {"labels": "unicorn3"}})
    pruned = record("d", "s", 0.9, state="pruned").model_copy(update={"parameters": {"labels": "unicorn3"}})
    assert best_so_far([*seven, three, pruned], Objective()) == "tiger7 0.300, unicorn3 0.500"
    assert best_so_far([record("e", "s", 0.4)], Objective()) == "0.400"
    assert best_so_far([], Objective()) == ""
