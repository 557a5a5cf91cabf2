"""Which trials become an MLflow model."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.load import load_space
from harness.sweep.exports import to_export
from harness.sweep.ledger import Record
from tests.spaces import written


def record(uid: str, stratum: str, value: float | None, state: str = "complete") -> Record:
    """A trial that ended."""
    return Record.model_validate(
        {
            "uid": uid, "sweep": "s", "generation": 1, "stratum": stratum, "number": 0, "state": state, "value": value,
            "parameters": {}, "seed": 1, "fingerprint": "f", "created": "2026-01-01T00:00:00+00:00",
        }
    )  # fmt: skip


RECORDS = [
    record("a", "tiger7", 0.1),
    record("b", "tiger7", 0.3),
    record("c", "tiger7", 0.2),
    record("d", "unicorn3", 0.01),
    record("e", "unicorn3", None, state="pruned"),
]


@pytest.mark.parametrize(
    ("export", "goal", "expected"),
    [
        ("none", "maximize", []),
        ("all", "maximize", ["a", "b", "c", "d"]),
        ("top:2", "maximize", ["b", "c", "d"]),
        ("top:1", "minimize", ["a", "d"]),
    ],
)
def test_the_best_of_each_stratum_are_exported(export: str, goal: str, expected: list[str], tmp_path: Path) -> None:
    """By the objective and its goal; an easy stratum takes nothing from a hard one; pruned trials never."""
    lines = (
        "parameters: {architecture: {value: unet_plain}}\nstrata: {labels: [tiger7, unicorn3]}\n"
        f"objective: {{metric: val/iou, goal: {goal}}}\nexport: '{export}'"
    )
    space = load_space(written(tmp_path, lines, labels="{tiger7: builtin, unicorn3: builtin}"))
    assert [found.uid for found in to_export(space, RECORDS)] == expected
