"""Learning curves and score strips as small SVGs, drawn by hand: text stays text, colours follow the page.

Every function returns one `<svg>` element; raster.py makes files of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from harness.report.svg import CHAR_PX, WIDTH, circle, figure, number_text, polyline, segment, short, text, ticks

# Series colours are classes s1, s2, ...: Okabe and Ito's, each with a light twin on dark ground.
SERIES = 5
# More runs hide each other, and 10,000 would be 3 MB of page.
MOST_DRAWN = 1000

T = TypeVar("T")

STYLE = """
svg.figure{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif;
color:#1d1f21;
--s1:#0072b2;--s2:#d55e00;--s3:#00855f;--s4:#a3548a;--s5:#8a6d00;--faint:#b9bcc0;--grid:#e6e7e9;--soft:#5f666d;
--halo:#fdfdfc;--q1:#c9d6e0;--q2:#a3c0d4;--q3:#74a5c7;--q4:#3f86b5;--q5:#00588a}
.figure text{fill:currentColor}.figure .soft{fill:var(--soft)}.figure .end{text-anchor:end}
.figure .mid{text-anchor:middle}.figure .grid{stroke:var(--grid)}.figure .axis{stroke:var(--soft)}
.figure .run{fill:none;stroke:var(--faint);stroke-width:1.2}.figure .cut{stroke-dasharray:3 3}
.figure .lead{fill:none;stroke-width:2.2}.figure .mark{fill:none;stroke:var(--faint);stroke-width:1.4}
.figure .s0{--c:var(--soft)}.figure .s1{--c:var(--s1)}.figure .s2{--c:var(--s2)}
.figure .s3{--c:var(--s3)}.figure .s4{--c:var(--s4)}.figure .s5{--c:var(--s5)}
.figure .lead,.figure .bar{stroke:var(--c)}.figure .dot{fill:var(--c);fill-opacity:.55}
.figure .full{fill:var(--c)}.figure .hollow{fill:none;stroke:var(--c);stroke-width:1.4}
.figure .bar{stroke-width:1.6}.figure text.name{fill:var(--c);font-weight:600}
.figure text.head{font-weight:600}
.figure text.halo{stroke:var(--halo);stroke-width:4;stroke-linejoin:round;paint-order:stroke}
.figure .track{fill:none;stroke-width:1.2}.figure .q1{stroke:var(--q1)}.figure .q2{stroke:var(--q2)}
.figure .q3{stroke:var(--q3)}.figure .q4{stroke:var(--q4)}.figure .q5{stroke:var(--q5)}
.figure .beam{stroke:var(--c);stroke-width:12;stroke-opacity:.55}
.figure .front{fill:none;stroke:var(--c);stroke-width:1.4}
""".strip()

DARK = (
    "svg.figure{color:#e4e2dd;--s1:#5fb4ea;--s2:#f0915a;--s3:#43c59e;--s4:#dd9cc6;--s5:#d8bd4a;"
    "--faint:#565d64;--grid:#2c3136;--soft:#a2a9b0;"
    "--halo:#16181a;--q1:#38444d;--q2:#44607a;--q3:#4c81a6;--q4:#57a3d3;--q5:#93d2ff}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One learning curve; `series` 1.. for those that stand out, 0 for the others."""

    label: str  # shown on hovering
    points: tuple[tuple[float, float], ...]
    series: int = 0
    name: str = ""  # drawn at the end of one that stands out
    cut: bool = False  # pruned or failed: it ends before its time


@dataclass(frozen=True, slots=True)
class Dot:
    """One run's score in a strip."""

    value: float
    series: int
    label: str
    leader: bool = False


def evenly(items: Sequence[T]) -> Sequence[T]:
    """At most MOST_DRAWN of them: the first tenth of as many, and an even choice of the others, in their order."""
    if len(items) <= MOST_DRAWN:
        return items
    first, wanted = MOST_DRAWN // 10, MOST_DRAWN - MOST_DRAWN // 10
    rest = items[first:]
    return [*items[:first], *(rest[index * len(rest) // wanted] for index in range(wanted))]


def left_out(count: int) -> str:
    """What a caption says where not all are drawn; empty where all are."""
    return "" if count <= MOST_DRAWN else f" {MOST_DRAWN:,} of {count:,} are drawn."


def curves(lines: Sequence[Line], *, title: str, y_label: str) -> str:
    """Score against epoch, the named series labelled at their ends; empty text without a point."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return ""
    left, right, top, bottom, height = 48, 190, 28, 40, 330
    xs = [x for line in drawn for x, _ in line.points]
    ys = [y for line in drawn for _, y in line.points]
    y_ticks = ticks(min(ys), max(ys), 5)
    x_low, x_high = min(1.0, *xs), max(xs) if max(xs) > 1 else 2.0
    y_low, y_high = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys))

    def at(x: float, y: float) -> tuple[float, float]:
        wide = (x - x_low) / (x_high - x_low)
        return left + wide * (WIDTH - left - right), height - bottom - (y - y_low) / (y_high - y_low) * (
            height - top - bottom
        )

    parts = []
    for tick in y_ticks:
        _, y = at(x_low, tick)
        parts.append(segment(left, y, WIDTH - right, y, "grid"))
        parts.append(text(left - 6, y + 4, number_text(tick, y_ticks), "soft end"))
    for tick in (t for t in ticks(x_low, x_high, 6) if x_low <= t <= x_high and t == int(t)):
        parts.append(text(at(tick, y_low)[0], height - bottom + 17, f"{tick:.0f}", "soft mid"))
    parts.append(text((left + WIDTH - right) / 2, height - 6, "epoch", "soft mid"))
    parts.append(text(left - 6, 14, y_label, "soft end"))
    for line in sorted(drawn, key=lambda line: -line.series if line.series else -99):
        parts.append(_curve(line, [at(x, y) for x, y in line.points]))
    ends = {line.series: at(*line.points[-1])[1] for line in drawn if line.series}
    places = _apart(ends, gap=15, low=top + 6, high=height - bottom)
    for line in (line for line in drawn if line.series):
        look = f"name s{line.series}"
        parts.append(text(WIDTH - right + 8, places[line.series] + 4, short(line.name or line.label, 24), look))
    return figure(height, title, parts)


def strips(rows: Mapping[str, Sequence[Dot]], legend: Mapping[str, int], *, title: str, x_label: str) -> str:
    """Every run's score, one row per stratum, coloured by `legend` (name -> series); the best is filled."""
    values = [dot.value for dots in rows.values() for dot in dots]
    if not values:
        return ""
    left = min(250, 24 + CHAR_PX * max(len(name) for name in rows))
    right, top, row_px = 16, 30, 30
    base = top + row_px * len(rows)
    steps = ticks(min(values), max(values), 6)
    low, high = min(steps[0], min(values)), max(steps[-1], max(values))

    def at(x: float) -> float:
        return left + (x - low) / (high - low) * (WIDTH - left - right)

    parts = []
    offset = left
    for name, series in legend.items():
        label = short(name, 30)
        parts += [circle(offset + 5, 10, 4.5, f"full s{series}", name), text(offset + 15, 14, label, "")]
        offset += 32 + CHAR_PX * len(label)
    for tick in steps:
        parts.append(segment(at(tick), top, at(tick), base, "grid"))
        parts.append(text(at(tick), base + 16, number_text(tick, steps), "soft mid"))
    parts.append(text((left + WIDTH - right) / 2, base + 34, x_label, "soft mid"))
    for index, (name, dots) in enumerate(rows.items()):
        y = top + row_px * (index + 0.5)
        parts.append(segment(left, y, WIDTH - right, y, "grid"))
        parts.append(text(left - 10, y + 4, short(name, 32), "end"))
        for dot in sorted(dots, key=lambda dot: dot.leader):
            shape, radius = ("full", 5.5) if dot.leader else ("hollow", 4.2)
            parts.append(circle(at(dot.value), y, radius, f"{shape} s{dot.series}", dot.label))
    return figure(base + 40, title, parts)


def _curve(line: Line, points: Sequence[tuple[float, float]]) -> Markup:
    look = f"lead s{line.series}" if line.series else "run cut" if line.cut else "run"
    drawn = polyline(points, look, line.label)
    if len(points) == 1:
        drawn += circle(*points[0], 2.5, f"full s{line.series}" if line.series else "mark", line.label)
    if line.cut:
        x, y = points[-1]
        drawn += Markup('<path class="mark" d="M{} {}l6 6m0-6l-6 6"/>').format(f"{x - 3:.1f}", f"{y - 3:.1f}")
    return drawn


def _apart(wanted: Mapping[int, float], *, gap: float, low: float, high: float) -> dict[int, float]:
    """Label heights near the wanted ones, at least `gap` apart."""
    placed: dict[int, float] = {}
    floor = low
    for key, y in sorted(wanted.items(), key=lambda item: item[1]):
        placed[key] = max(y, floor)
        floor = placed[key] + gap
    excess = floor - gap - high
    return {key: y - excess for key, y in placed.items()} if excess > 0 else placed
