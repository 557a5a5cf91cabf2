"""The parts that figures are drawn from: one `<svg>` element, its lines, circles and texts, and round axis numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from harness.report.wording import MINUS

WIDTH = 720
CHAR_PX = 6.9  # mean advance of the 12 px face the labels are set in


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


def figure(height: float, title: str, parts: Iterable[Markup], *, width: float = WIDTH) -> str:
    """One `<svg>` element with `title` as its label; one wider than WIDTH scrolls instead of shrinking."""
    size = (round(width), round(height))
    look = "figure wide" if width > WIDTH else "figure"
    head = Markup('<svg class="{}" role="img" viewBox="0 0 {} {}" width="{}" height="{}" aria-label="{}">')
    return str(head.format(look, *size, *size, plain(title)) + Markup("").join(parts) + Markup("</svg>"))


# Texts are escaped here and joined as plain strings: Markup's own formatting takes ten times as long, and a figure of
# 1,000 runs has some thousand parts.
def segment(x1: float, y1: float, x2: float, y2: float, look: str) -> Markup:
    """A straight line; `look` names classes of the style."""
    return Markup(f'<line class="{escape(look)}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')


def polyline(points: Iterable[tuple[float, float]], look: str, hover: str = "") -> Markup:
    """A line through points, with a text on hovering."""
    path = " ".join([f"{x:.1f},{y:.1f}" for x, y in points])
    return Markup(f'<polyline class="{escape(look)}" points="{path}">{_title(hover) if hover else ""}</polyline>')


def circle(x: float, y: float, radius: float, look: str, hover: str) -> Markup:
    """A disc or ring, with a text on hovering."""
    place = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius}"'
    return Markup(f'<circle class="{escape(look)}" {place}>{_title(hover)}</circle>')


def text(x: float, y: float, words: str, look: str, hover: str | None = None) -> Markup:
    """Words whose base line starts (or, by `look`, ends or has its middle) at x, y."""
    inner = f"{escape(plain(words))}{'' if hover is None else _title(hover)}"
    return Markup(f'<text class="{escape(look)}" x="{x:.1f}" y="{y:.1f}">{inner}</text>')


def _title(hover: str) -> str:
    return f"<title>{escape(plain(hover))}</title>"


def plain(words: str) -> str:
    """Without control characters, which no XML file may hold."""
    if words.isprintable():
        return words
    return "".join(char if char.isprintable() else " " for char in words)


def short(words: str, length: int) -> str:
    """At most `length` characters, the last an ellipsis where some are missing."""
    return words if len(words) <= length else f"{words[: length - 1]}…"
