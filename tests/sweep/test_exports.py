"""Which trials become an MLflow model."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.load import load_space
from harness.sweep.exports import to_export
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record
from harness.sweep.sidejobs import SideJobs
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


@pytest.mark.parametrize(("export", "early"), [("top:1", []), ("all", ["a", "b", "c", "d"])])
def test_the_top_is_exported_when_the_search_is_over_and_everything_at_once(
    export: str, early: list[str], tmp_path: Path
) -> None:
    """`top:` waits for trials of the search, as pictures do; each job is handed out once."""
    lines = "parameters: {architecture: {value: unet_plain}}\nstrata: {labels: [tiger7, unicorn3]}\n"
    lines += f"export: '{export}'"
    space = load_space(written(tmp_path, lines, labels="{tiger7: builtin, unicorn3: builtin}"))
    side = SideJobs(space, GenerationFolder(tmp_path), first=[])

    def handed_out(*, searching: bool) -> list[str]:
        jobs = iter(lambda: side.next_after(RECORDS, searching=searching, trained=True), None)
        return [job.folder.name if job.task == "export" else job.task for job in jobs]

    assert handed_out(searching=True) == early
    assert handed_out(searching=False) == [*([] if early else ["b", "d"]), "sketch"]
    assert handed_out(searching=False) == []
