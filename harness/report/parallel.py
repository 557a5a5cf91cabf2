"""Parallel coordinates: one axis per varying parameter, the last one the score, one line per run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.domains import Domain
from harness.report.queries import Value
from harness.report.svg import CHAR_PX, WIDTH, circle, figure, number_text, polyline, segment, short, text, ticks
from harness.report.wording import factor_text, value_text

# More lines hide each other, and 1,000 would add half a megabyte to the page.
MAX_LINES = 200
ALWAYS_DRAWN = 50
BOLD = 3
FIFTHS = 5

TOP, BOTTOM, INACTIVE = 46, 316, 344  # heights of an axis' ends, and of runs in which it is inactive
LABEL = 18  # characters of a choice's name


@dataclass(frozen=True, slots=True)
class Track:
    """One run: its values in the order of the axes, and its score."""

    values: tuple[Value, ...]
    score: float
    label: str  # shown on hovering


@dataclass(frozen=True, slots=True)
class _Axis:
    name: str
    height: Callable[[Value], float]
    labels: tuple[tuple[float, str], ...]  # height and text
    chosen: bool = False  # choices rather than numbers
    room: float = 0.0  # height between two choices


def picked(tracks: Sequence[Track]) -> tuple[Track, ...]:
    """At most MAX_LINES of tracks that stand best first: the first ALWAYS_DRAWN, then evenly spread over the rest."""
    if len(tracks) <= MAX_LINES:
        return tuple(tracks)
    rest = tracks[ALWAYS_DRAWN:]
    wanted = MAX_LINES - ALWAYS_DRAWN
    return (*tracks[:ALWAYS_DRAWN], *(rest[index * len(rest) // wanted] for index in range(wanted)))


def parallel_figure(tracks: Sequence[Track], domains: Sequence[Domain], *, score_name: str, title: str) -> str:
    """`tracks` stand best first. Colours are fifths of the drawn runs, the best BOLD are bold; empty below two runs."""
    drawn = picked(tracks)
    if len(drawn) < 2 or not domains:
        return ""
    axes = [*(_axis(domain) for domain in domains), _score_axis(score_name, [track.score for track in drawn])]
    places, width = _places(axes)
    parts = [part for axis, x in zip(axes, places, strict=True) for part in _spine(axis, x, tracks, axes)]
    for rank, track in reversed(list(enumerate(drawn))):
        shift = rank / (len(drawn) - 1) - 0.5  # runs that made the same choice lie side by side
        points = [
            (x, axis.height(value) + (shift * axis.room if axis.chosen and value is not None else 0.0))
            for axis, x, value in zip(axes, places, (*track.values, track.score), strict=True)
        ]
        look = "lead s2" if rank < BOLD else f"track q{FIFTHS - rank * FIFTHS // len(drawn)}"
        parts.append(polyline(points, look, track.label))
    for axis, x in zip(axes, places, strict=True):
        parts += [text(x + 6, y + 4, short(words, LABEL), "halo", hover=words) for y, words in axis.labels]
    bottom = INACTIVE if any(None in track.values for track in tracks) else BOTTOM
    return figure(bottom + 24, title, parts, width=width)


def _spine(axis: _Axis, x: float, tracks: Sequence[Track], axes: Sequence[_Axis]) -> list[Markup]:
    place = axes.index(axis)
    parts = [text(x, 22, short(axis.name, LABEL), "head", hover=axis.name), segment(x, TOP, x, BOTTOM, "axis")]
    if place < len(axes) - 1 and any(track.values[place] is None for track in tracks):
        parts += [circle(x, INACTIVE, 2.5, "full s0", "inactive"), text(x + 6, INACTIVE + 4, "inactive", "soft")]
    return parts


def _places(axes: Sequence[_Axis]) -> tuple[list[float], float]:
    """Where each axis stands, with room for its labels to its right, and the width of all."""
    rooms = [24 + CHAR_PX * max(len(short(words, LABEL)) for words in (axis.name, *_words(axis))) for axis in axes]
    spare = max(0.0, (WIDTH - 10 - sum(rooms)) / max(1, len(axes) - 1))
    places = [10.0]
    for room in rooms[:-1]:
        places.append(places[-1] + max(room, 78.0) + spare * (room <= WIDTH))
    return places, max(WIDTH, places[-1] + rooms[-1])


def _words(axis: _Axis) -> list[str]:
    return [words for _, words in axis.labels]


def _axis(domain: Domain) -> _Axis:
    name = factor_text(domain.name)
    if not domain.choices:
        return _range_axis(name, domain)
    step = (BOTTOM - TOP) / len(domain.choices)
    heights = [BOTTOM - step * (index + 0.5) for index in range(len(domain.choices))]
    labels = tuple((y, value_text(choice)) for y, choice in zip(heights, domain.choices, strict=True))

    def height(value: Value) -> float:
        return INACTIVE if value is None else heights[domain.place(value)]

    return _Axis(name, height, labels, chosen=True, room=min(0.6 * step, 40.0))


def _range_axis(name: str, domain: Domain) -> _Axis:
    scale = math.log10 if domain.log else float
    low, high = scale(domain.low), scale(domain.high)
    span = (high - low) or 1.0

    def height(value: Value) -> float:
        if not isinstance(value, int | float):
            return INACTIVE
        return BOTTOM - (scale(float(value)) - low) / span * (BOTTOM - TOP)

    inside = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)] if domain.log else []
    marks = [domain.low, *(mark for mark in inside if 0.08 < (scale(mark) - low) / span < 0.92), domain.high]
    if not domain.log:
        marks.insert(1, (domain.low + domain.high) / 2)
    numbers = [int(mark) if domain.whole and mark == int(mark) else mark for mark in marks]
    return _Axis(name, height, tuple((height(mark), value_text(mark)) for mark in numbers))


def _score_axis(name: str, scores: Sequence[float]) -> _Axis:
    steps = ticks(min(scores), max(scores), 5)

    def height(value: Value) -> float:
        assert isinstance(value, int | float)
        return BOTTOM - (value - steps[0]) / (steps[-1] - steps[0]) * (BOTTOM - TOP)

    return _Axis(name, height, tuple((height(tick), number_text(tick, steps)) for tick in steps))
