"""All rows as one Markdown table, from their files of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench.results import Result, Results
from benchmarks.bench.row import Comparison, Entry, Row
from benchmarks.bench.statistics import Estimate, estimate, ratio

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
HEADER = ("#", "work", "ours", "against", "ratio (95 %)", "goal", "reached", "repeats", "date", "machine")


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison with its results; `missing` says why there are none."""

    row: Row
    comparison: Comparison
    figure: str = ""
    of: Estimate | None = None
    against: Estimate | None = None
    result: Estimate | None = None  # the ratio, or `of` itself
    dates: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    missing: str | None = None

    @property
    def reached(self) -> str:
        """`yes`, `no`, or `open`: the goal lies inside the interval."""
        if self.result is None or self.comparison.goal is None:
            return ""
        at_most = self.comparison.against is None and self.comparison.better == "less"
        found, goal = self.result, self.comparison.goal
        ends = [found.value if end is None else end for end in (found.low, found.high)]
        good = [end <= goal if at_most else end >= goal for end in ends]
        return "yes" if all(good) else "open" if any(good) else "no"


def compared(row: Row, comparison: Comparison, results: Sequence[Result]) -> Compared:
    """The comparison over the repeats that all its sides have."""
    if row.unmeasured is not None and not results:
        return Compared(row, comparison, missing=row.unmeasured)
    names = [name for name in (comparison.of, comparison.against) if name is not None]
    for one in results:
        if one.side in names and one.failed is not None:
            return Compared(row, comparison, missing=f"{one.side}: {one.failed}")
    by_side = {name: {one.repeat: one for one in results if one.side == name} for name in names}
    repeats = sorted(set.intersection(*(set(found) for found in by_side.values())))
    if not repeats:
        return Compared(row, comparison, missing="not run yet")
    used = [by_side[name][repeat] for name in names for repeat in repeats]
    figure = comparison.figure or next(iter(used[0].figures))
    if lacking := [one for one in used if figure not in one.figures]:
        return Compared(row, comparison, missing=f"{lacking[0].side} has no {figure}; measure it with --again")
    values = {name: [by_side[name][repeat].figures[figure] for repeat in repeats] for name in names}
    of, against = estimate(values[comparison.of]), None
    result = of
    if comparison.against is not None:
        pair = (values[comparison.against], values[comparison.of])
        against, result = estimate(pair[0]), ratio(*(pair if comparison.better == "less" else pair[::-1]))
    return Compared(
        row, comparison, figure, of, against, result,
        dates=tuple(sorted({one.date[:10] for one in used})), machines=tuple(sorted({one.machine for one in used})),
    )  # fmt: skip


def table(entries: Sequence[Entry], folder: Path) -> str:
    """The table, and the machines by letter."""
    lines = [line for entry in entries for line in _of_row(entry, folder)]
    machines = sorted({machine for line in lines for machine in line.machines})
    letters = {machine: chr(ord("A") + number) for number, machine in enumerate(machines)}
    rows = [_line(HEADER), _line(["---"] * len(HEADER)), *(_line(_cells(line, letters)) for line in lines)]
    return "\n".join([*rows, "", *(f"- Machine {letters[machine]}: {machine}" for machine in machines)]).rstrip() + "\n"


def inserted(text: str, content: str) -> str:
    """A page with its table between the markers replaced; ValueError when they are not there."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} with {END} after it")
    return f"{before}{BEGIN}\n{content}{END}{after}"


def number_text(value: float) -> str:
    """Three digits, no exponent: `0.0123`, `4.5`, `1234`."""
    return (
        f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) >= 1e-4 or not value else f"{value:.1e}"
    )


def figure_text(value: float, figure: str) -> str:
    """A value with its unit, which is its figure's name: `12 ms`, `0.99 s cpu`, `7 GB memory`, `232 images per s`."""
    if figure == "seconds":
        return f"{number_text(value * 1000)} ms" if value < 0.1 else f"{number_text(value)} s"
    if figure.endswith("_gb"):
        return f"{number_text(value)} GB {figure.removesuffix('_gb').replace('_', ' ')}"
    if figure.endswith("_seconds"):
        return f"{number_text(value)} s {figure.removesuffix('_seconds')}"
    return f"{number_text(value)} {figure.replace('_', ' ')}"


def _of_row(entry: Entry, folder: Path) -> list[Compared]:
    results = Results(folder / f"{entry.name}.jsonl").read()
    return [compared(entry.row, comparison, results) for comparison in entry.row.compared]


def _cells(line: Compared, letters: dict[str, str]) -> list[str]:
    of, against = line.comparison.of, line.comparison.against or ""
    result = f"unmeasured: {line.missing}" if line.missing else ""
    if line.of is not None and line.result is not None:
        of = f"{of}: {figure_text(line.of.value, line.figure)}"
        result = _interval(line.result, "x" if line.comparison.against else "")
    if line.against is not None:
        against = f"{against}: {figure_text(line.against.value, line.figure)}"
    return [
        str(line.row.number), line.row.work, of, against, result, _goal(line.comparison), line.reached,
        str(line.result.repeats) if line.result else "", " to ".join(dict.fromkeys(line.dates[:1] + line.dates[-1:])),
        ", ".join(letters[machine] for machine in line.machines),
    ]  # fmt: skip


def _interval(found: Estimate, unit: str) -> str:
    if found.low is None or found.high is None:
        return f"{number_text(found.value)}{unit}"
    return f"{number_text(found.value)}{unit} ({number_text(found.low)} to {number_text(found.high)})"


def _goal(comparison: Comparison) -> str:
    if comparison.goal is None:
        return ""
    if comparison.against is not None:
        return f"{number_text(comparison.goal)}x"
    return f"at {'most' if comparison.better == 'less' else 'least'} {number_text(comparison.goal)}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
