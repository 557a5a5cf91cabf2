"""The tables of docs/statistics.md from what `make statistics` measured.

python benchmarks/statistics_tables.py [FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.files import read_json

Line = dict[str, Any]
PER_LOGIT = 0.167  # a shift on the logit scale moves the mean IoU by so much


def rows_of(lines: Sequence[Line], part: str, *keys: str) -> list[Line]:
    """The lines of one part, in the order of its settings."""
    found = [line for line in lines if line["part"] == part]
    return sorted(found, key=lambda line: tuple(line[key] for key in keys))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def crossed(lines: Sequence[Line], down: str, across: str, cell: Callable[[Line], str], name: str) -> str:
    """A table with one setting down and one across."""
    columns = sorted({line[across] for line in lines})
    rows = [
        [str(value), *(cell(next(x for x in lines if (x[down], x[across]) == (value, column))) for column in columns)]
        for value in sorted({line[down] for line in lines})
    ]
    heads = [f"{name} {PER_LOGIT * c:.3f}" if across == "seed_sd" else f"{name} {c}" for c in columns]
    return table([down, *heads], rows)


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def main() -> None:
    document = read_json(Path(sys.argv[1] if len(sys.argv) > 1 else "build/statistics.json"))
    lines: list[Line] = list(document["lines"].values())
    print(f"seed {document['seed']}, {sum(line['passed'] for line in lines)} of {len(lines)} passed\n")
    print(crossed(rows_of(lines, "coverage"), "patients", "icc", lambda x: f"{percent(x['mean'])}"
                  + (f", classes {percent(x['classes'])}" if x["classes"] else ""), "ICC"), "\n")  # fmt: skip
    boards = rows_of(lines, "boards", "patients")
    heads = ["patients", "equal: a false loser", "planted: the best is told from the leader"]
    print(
        table(heads, [[str(x["patients"]), percent(x["false_loser"]), percent(x["best_lost"])] for x in boards]), "\n"
    )
    winners = rows_of(lines, "winners", "spread", "models")
    print(table(["models", "sweeps", "spread", "raw optimism", "corrected"],
                [[str(x["models"]), str(x["sets"]), str(x["spread"]), f"{x['raw']:+.4f}",
                  f"{x['corrected']:+.4f} (error {x['error']:.4f})"] for x in winners]), "\n")  # fmt: skip
    claims = rows_of(lines, "claims", "patients", "seed_sd")
    print(
        crossed([x for x in claims if not x["gain"]], "patients", "seed_sd", lambda x: percent(x["wrong"]), "seed SD"),
        "\n",
    )
    print(crossed([x for x in claims if x["gain"]], "patients", "seed_sd",
                  lambda x: f"{percent(x['supported'])}, {x['seeds']:.1f} seeds", "seed SD"))  # fmt: skip
    print("refuted at most", percent(max(x["refuted"] for x in claims if x["gain"])))


if __name__ == "__main__":
    main()
