"""Curves, effects and score strips as small SVGs, drawn by hand: text stays text, colours follow the page.

Every function returns one `<svg>` element; `standalone` makes a file of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from harness.report.statistics import Contrast
from harness.report.wording import MINUS

WIDTH = 720
CHAR_PX = 6.9  # mean advance of the 12 px face the labels are set in
# Series colours are classes s1, s2, ...: Okabe and Ito's, each with a light twin on dark ground.
SERIES = 5

STYLE = """
svg.figure{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif;
color:#1d1f21;
--s1:#0072b2;--s2:#d55e00;--s3:#00855f;--s4:#a3548a;--s5:#8a6d00;--faint:#b9bcc0;--grid:#e6e7e9;--soft:#5f666d}
.figure text{fill:currentColor}.figure .soft{fill:var(--soft)}.figure .end{text-anchor:end}
.figure .mid{text-anchor:middle}.figure .grid{stroke:var(--grid)}.figure .axis{stroke:var(--soft)}
.figure .run{fill:none;stroke:var(--faint);stroke-width:1.2}.figure .cut{stroke-dasharray:3 3}
.figure .lead{fill:none;stroke-width:2.2}.figure .mark{fill:none;stroke:var(--faint);stroke-width:1.4}
.figure .s0{--c:var(--soft)}.figure .s1{--c:var(--s1)}.figure .s2{--c:var(--s2)}
.figure .s3{--c:var(--s3)}.figure .s4{--c:var(--s4)}.figure .s5{--c:var(--s5)}
.figure .lead,.figure .bar{stroke:var(--c)}.figure .dot{fill:var(--c);fill-opacity:.55}
.figure .full{fill:var(--c)}.figure .hollow{fill:none;stroke:var(--c);stroke-width:1.4}
.figure .bar{stroke-width:1.6}.figure text.name{fill:var(--c);font-weight:600}
""".strip()

DARK = (
    "svg.figure{color:#e4e2dd;--s1:#5fb4ea;--s2:#f0915a;--s3:#43c59e;--s4:#dd9cc6;--s5:#d8bd4a;"
    "--faint:#565d64;--grid:#2c3136;--soft:#a2a9b0}"
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
        parts.append(_segment(left, y, WIDTH - right, y, "grid"))
        parts.append(_text(left - 6, y + 4, number_text(tick, y_ticks), "soft end"))
    for tick in (t for t in ticks(x_low, x_high, 6) if x_low <= t <= x_high and t == int(t)):
        parts.append(_text(at(tick, y_low)[0], height - bottom + 17, f"{tick:.0f}", "soft mid"))
    parts.append(_text((left + WIDTH - right) / 2, height - 6, "epoch", "soft mid"))
    parts.append(_text(left - 6, 14, y_label, "soft end"))
    for line in sorted(drawn, key=lambda line: -line.series if line.series else -99):
        parts.append(_curve(line, [at(x, y) for x, y in line.points]))
    ends = {line.series: at(*line.points[-1])[1] for line in drawn if line.series}
    places = _apart(ends, gap=15, low=top + 6, high=height - bottom)
    for line in (line for line in drawn if line.series):
        look = f"name s{line.series}"
        parts.append(_text(WIDTH - right + 8, places[line.series] + 4, _short(line.name or line.label, 24), look))
    return _svg(height, title, parts)


def effects(found: Sequence[Contrast], *, title: str, x_label: str) -> str:
    """One row per contrast: a dot per pair, the mean, and its interval where there is one."""
    if not found:
        return ""
    left, right, top, row_px = 270, 16, 8, 24
    lines: list[str | Contrast] = []
    for factor, members in itertools.groupby(found, key=lambda contrast: contrast.factor):
        lines += [factor.replace("_", " "), *members]
    values = [gain for contrast in found for gain in contrast.gains] + [0.0]
    values += [edge for contrast in found for edge in contrast.interval or ()]
    steps = ticks(min(values), max(values), 6)
    low, high = min(steps[0], min(values)), max(steps[-1], max(values))

    def at(x: float) -> float:
        return left + (x - low) / (high - low) * (WIDTH - left - right)

    base = top + row_px * len(lines)
    parts = []
    for tick in steps:
        parts.append(_segment(at(tick), top, at(tick), base, "axis" if tick == 0 else "grid"))
        parts.append(_text(at(tick), base + 16, number_text(tick, steps), "soft mid"))
    parts.append(_text((left + WIDTH - right) / 2, base + 34, x_label, "soft mid"))
    for index, line in enumerate(lines):
        y = top + row_px * (index + 0.5)
        parts += [_text(4, y + 4, line, "soft")] if isinstance(line, str) else _effect(line, y, left, at)
    return _svg(base + 40, title, parts)


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
        label = _short(name, 30)
        parts += [_circle(offset + 5, 10, 4.5, f"full s{series}", name), _text(offset + 15, 14, label, "")]
        offset += 32 + CHAR_PX * len(label)
    for tick in steps:
        parts.append(_segment(at(tick), top, at(tick), base, "grid"))
        parts.append(_text(at(tick), base + 16, number_text(tick, steps), "soft mid"))
    parts.append(_text((left + WIDTH - right) / 2, base + 34, x_label, "soft mid"))
    for index, (name, dots) in enumerate(rows.items()):
        y = top + row_px * (index + 0.5)
        parts.append(_segment(left, y, WIDTH - right, y, "grid"))
        parts.append(_text(left - 10, y + 4, _short(name, 32), "end"))
        for dot in sorted(dots, key=lambda dot: dot.leader):
            shape, radius = ("full", 5.5) if dot.leader else ("hollow", 4.2)
            parts.append(_circle(at(dot.value), y, radius, f"{shape} s{dot.series}", dot.label))
    return _svg(base + 40, title, parts)


def standalone(svg: str) -> str:
    """An SVG file that brings its style along, on white ground for print."""
    head, body = svg.split(">", 1)
    size = f'{head} xmlns="http://www.w3.org/2000/svg" style="background:#fff">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{size}<style>{STYLE}</style>{body}\n'


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers (1, 2, 5 times a power of ten) that enclose low..high."""
    if high <= low:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number_text(value: float, steps: Sequence[float]) -> str:
    """A tick's number with as many digits as the step between ticks needs."""
    step = min(b - a for a, b in itertools.pairwise(steps))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{digits}f}".replace("-", MINUS)


def _effect(contrast: Contrast, y: float, left: float, at: Callable[[float], float]) -> list[Markup]:
    colour = "s1" if contrast.visible else "s0"
    name = f"{contrast.better} over {contrast.worse}"
    parts = [_text(left - 12, y + 4, _short(name, 36), "end", hover=name)]
    if contrast.interval is not None:
        parts.append(_segment(at(contrast.interval[0]), y, at(contrast.interval[1]), y, f"bar {colour}"))
    parts += [_circle(at(gain), y, 3.4, f"dot {colour}", f"{gain:+.3f}") for gain in contrast.gains]
    parts.append(_circle(at(contrast.mean), y, 5.2, f"full {colour}", f"mean {contrast.mean:+.3f}"))
    return parts


def _curve(line: Line, points: Sequence[tuple[float, float]]) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    look = f"lead s{line.series}" if line.series else "run cut" if line.cut else "run"
    shape = Markup('<polyline class="{}" points="{}"><title>{}</title></polyline>')
    drawn = shape.format(look, path, _plain(line.label))
    if len(points) == 1:
        drawn += _circle(*points[0], 2.5, f"full s{line.series}" if line.series else "mark", line.label)
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


def _svg(height: float, title: str, parts: Iterable[Markup]) -> str:
    size = (WIDTH, round(height))
    head = Markup('<svg class="figure" role="img" viewBox="0 0 {} {}" width="{}" height="{}" aria-label="{}">')
    return str(head.format(*size, *size, _plain(title)) + Markup("").join(parts) + Markup("</svg>"))


def _segment(x1: float, y1: float, x2: float, y2: float, look: str) -> Markup:
    line = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
    return line.format(look, x1, y1, x2, y2)


def _circle(x: float, y: float, radius: float, look: str, hover: str) -> Markup:
    circle = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>')
    return circle.format(look, x, y, radius, _plain(hover))


def _text(x: float, y: float, text: str, look: str, hover: str | None = None) -> Markup:
    inner = escape(_plain(text))
    if hover is not None:
        inner += Markup("<title>{}</title>").format(_plain(hover))
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(look, x, y, inner)


def _plain(text: str) -> str:
    """Without control characters, which no XML file may hold."""
    return "".join(char if char.isprintable() else " " for char in text)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
