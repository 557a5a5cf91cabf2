"""One repeat of one side, in this process: python -m benchmarks.bench.side ROW SIDE

ROW is a number or a module. The figures are the only line of stdout; what else is printed goes to stderr.
"""

from __future__ import annotations

import json
import math
import os
import sys
import traceback

from benchmarks.bench.row import Entry, entries


def measured(row: str, side: str) -> dict[str, object]:
    """`{"figures": {...}}`, or `{"failed": why}`."""
    try:
        entry = next(one for one in entries() if one.number == int(row)) if row.isdigit() else Entry(row)
        figures = {name: float(value) for name, value in entry.row.side(side).run().items()}
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        return {"failed": f"{type(error).__name__}: {first}"[:300]}
    wrong = [name for name, value in figures.items() if not math.isfinite(value)]
    if wrong or not figures:
        return {"failed": f"not finite: {', '.join(wrong)}" if wrong else "the side returned no figures"}
    return {"figures": figures}


def main() -> None:
    """Libraries and child processes that print would be taken for figures, so stdout is theirs no more."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    print(json.dumps(measured(sys.argv[1], sys.argv[2])), file=answer, flush=True)


if __name__ == "__main__":
    main()
