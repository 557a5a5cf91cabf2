"""How fast this package is, row by row: python -m benchmarks.bench [ROW ...] [--repeats N] [--again] [--table] [--list]

Goes on where it was interrupted. Results: build/bench/NN_name.jsonl; what the sides printed: NN_name.log beside it.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench.results import FOLDER, ROOT, Results
from benchmarks.bench.row import PACKAGE, Entry, entries
from benchmarks.bench.run import run_row
from benchmarks.bench.table import inserted, table
from harness.files import write_text

PAGE = ROOT / "docs" / "performance.md"


def main(arguments: Sequence[str] | None = None, *, package: str = PACKAGE, page: Path = PAGE) -> int:
    """0; 2 for a row that is not there; 130 when interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="number or name of a row (default: all)")
    parser.add_argument("--repeats", type=int, help="instead of each row's own number")
    parser.add_argument("--again", action="store_true", help="forget the rows' results first")
    parser.add_argument("--table", action="store_true", help="write all rows into docs/performance.md, and run nothing")
    parser.add_argument("--list", action="store_true", help="the rows, and how much of them is measured")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where results are (default: build/bench)")
    given = parser.parse_args(arguments)
    known = entries(package)
    wanted = [entry for entry in known if not given.rows or {entry.name, str(entry.number)} & set(given.rows)]
    missing = set(given.rows) - {name for entry in wanted for name in (entry.name, str(entry.number))}
    if missing:
        parser.error(f"no row {', '.join(sorted(missing))}; choose from {', '.join(entry.name for entry in known)}")
    if given.table:
        return write_table(known, given.folder, page)
    if given.list:
        print("\n".join(listed(entry, given.folder) for entry in wanted))
        return 0
    try:
        for entry in wanted:
            if given.again:
                Results(given.folder / f"{entry.name}.jsonl").clear()
            run_row(entry, given.folder, repeats=given.repeats, tell=lambda text: print(text, file=sys.stderr))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 130
    print(table(wanted, given.folder))
    return 0


def listed(entry: Entry, folder: Path) -> str:
    """A row in one line."""
    row, results = entry.row, Results(folder / f"{entry.name}.jsonl").read()
    measured = sum(one.failed is None for one in results)
    state = row.unmeasured or f"{measured} of {row.repeats * len(row.sides)} repeats measured"
    return f"{entry.name:24} {row.work} ({'; '.join(side.name for side in row.sides) or 'no sides'}: {state})"


def write_table(known: Sequence[Entry], folder: Path, page: Path) -> int:
    """All rows into the page, or to stdout where there is none."""
    content = table(known, folder)
    if not page.exists():
        print(content)
        return 0
    try:
        write_text(page, inserted(page.read_text(encoding="utf-8"), content))
    except ValueError as error:
        print(f"{page.name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
