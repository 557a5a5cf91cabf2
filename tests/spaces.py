"""Small search spaces for tests."""

from __future__ import annotations

from pathlib import Path

from harness.config.cells import DataFacts
from harness.config.spec import Split

FACTS = DataFacts(
    root="/data",
    data_hash="0" * 64,
    source="tiger",
    source_ids=tuple(range(8)),
    quarantined=(),
    split=Split(train=("A",), validation=("B",)),
)


def written(folder: Path, lines: str, *, labels: str = "{tiger7: builtin}") -> Path:
    """A space file with a name, data, labels and these lines."""
    file = folder / "space.yaml"
    file.write_text(f"name: small\ndata: {{root: phantom}}\nlabels: {labels}\n{lines}\n")
    return file
