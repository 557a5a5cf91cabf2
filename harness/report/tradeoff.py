"""Quality against cost: which runs nobody beats at their price."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.boards import Board
from harness.report.queries import Sweep, Trial
from harness.report.svg import WIDTH, circle, figure, number_text, polyline, segment, text, ticks
from harness.report.tables import Cell, Table, model_of, number, setting_of, trial_name
from harness.report.wording import ABSENT, duration_text, listed, metric_text, million_text, plural, score_text

# Dots beyond the front that one panel draws; 1,000 in each would add half a megabyte to the page.
MAX_DOTS = 250
# A cost that spans more than this factor stands on a logarithmic axis.
LOG_FROM = 8.0


def _result(trial: Trial, key: str) -> float | None:
    value = (trial.result or {}).get(key, trial.started.get(key))
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else None


@dataclass(frozen=True, slots=True)
class Cost:
    """One price of a run."""

    key: str
    name: str
    of: Callable[[Trial], float | None]
    words: Callable[[float], str]


COSTS = (
    Cost("seconds", "training time", lambda trial: trial.seconds_trained or None, duration_text),
    Cost("parameters", "parameters", lambda trial: _result(trial, "parameters"), million_text),
    Cost("speed", "ms per megapixel", lambda trial: _result(trial, "ms_per_megapixel"), lambda ms: f"{ms:.3g} ms"),
)


@dataclass(frozen=True, slots=True)
class Point:
    """One ranked run with its costs by key; a missing one is None."""

    trial: Trial
    rank: int
    score: float
    costs: Mapping[str, float | None]


def points(board: Board) -> tuple[Point, ...]:
    """The board's search runs by their own scores, best first; masks of other tools have no cost."""
    rows = [row for row in board.ranked if not row.trial.external]
    found = []
    for row in rows:
        score = row.scored.scores.get(board.metric)
        if score is not None and row.rank is not None:
            found.append(Point(row.trial, row.rank, score, {cost.key: cost.of(row.trial) for cost in COSTS}))
    return tuple(found)


def front(points: Sequence[Point], cost: str, *, minimize: bool = False) -> tuple[Point, ...]:
    """Pareto front, cheapest first: no other run scores as well or better for less, or better for as little.

    Prices are compared by two digits: a head of three classes instead of seven is no cheaper network, and a second
    in a minute no saving. Of runs equal in both, all stay.
    """
    sign = -1.0 if minimize else 1.0
    priced = [
        (float(f"{price:.1e}"), sign * point.score, point)
        for point in points
        if (price := point.costs[cost]) is not None
    ]
    priced.sort(key=lambda item: (item[0], -item[1]))
    kept: list[tuple[float, float, Point]] = []
    for item in priced:
        if not kept or item[1] > kept[-1][1] or item[:2] == kept[-1][:2]:
            kept.append(item)
    return tuple(point for _, _, point in kept)


def fronts(points: Sequence[Point], *, minimize: bool) -> dict[str, tuple[Point, ...]]:
    """The front of every cost that at least two runs tell."""
    told = [cost.key for cost in COSTS if sum(point.costs[cost.key] is not None for point in points) > 1]
    return {key: front(points, key, minimize=minimize) for key in told}


def missing_note(points: Sequence[Point]) -> str:
    """Which costs are unknown, and for how many runs."""
    said = []
    for cost in COSTS:
        absent = sum(point.costs[cost.key] is None for point in points)
        if absent:
            said.append(f"{plural(absent, 'run')} without {cost.name}")
    return f"Not drawn: {listed(said)}." if said else ""


def front_table(found: Mapping[str, tuple[Point, ...]], board: Board, sweep: Sweep) -> Table:
    """Every run on some front, best first."""
    members = {point.trial.uid: point for line in found.values() for point in line}
    names = {cost.key: cost.name for cost in COSTS}
    rows = []
    for point in sorted(members.values(), key=lambda point: (point.rank, point.trial.uid)):
        on = [names[key] for key, line in found.items() if point in line]
        prices = [(point.costs[cost.key], cost.words) for cost in COSTS]
        rows.append(
            (
                number(point.rank, str(point.rank)),
                Cell(model_of(point.trial), note=trial_name(point.trial)),
                Cell(setting_of(point.trial, sweep, labels=board.by_yardstick) or ABSENT),
                number(point.score, score_text(point.score)),
                *(number(value, ABSENT if value is None else words(value)) for value, words in prices),
                Cell(", ".join(on)),
            )
        )
    return Table(
        caption=f"Runs that nobody beats at their price, {board.title}",
        columns=("Rank", "Model", "Setting", metric_text(board.metric), "Training", "Parameters", "Per megapixel",
                 "By"),
        rows=tuple(rows),
        head=1,
    )  # fmt: skip


def tradeoff_figure(points: Sequence[Point], found: Mapping[str, tuple[Point, ...]], *, metric: str, title: str) -> str:
    """One panel per cost over one axis of scores; the front is joined by steps and its runs carry their ranks."""
    shown = [cost for cost in COSTS if cost.key in found]
    if not shown or len(points) < 2:
        return ""
    left, top, base, gap = 46, 26, 246, 26
    wide = (WIDTH - left - gap * len(shown)) / len(shown)
    steps = ticks(min(point.score for point in points), max(point.score for point in points), 5)

    def height(score: float) -> float:
        return base - (score - steps[0]) / (steps[-1] - steps[0]) * (base - top)

    parts = [text(4, 14, metric_text(metric), "soft")]
    parts += [text(left - 6, height(tick) + 4, number_text(tick, steps), "soft end") for tick in steps]
    for index, cost in enumerate(shown):
        start = left + index * (wide + gap)
        parts += [segment(start, height(tick), start + wide, height(tick), "grid") for tick in steps]
        parts += _panel(cost, points, found[cost.key], start, wide, base, height)
    return figure(base + 44, title, parts)


def _panel(
    cost: Cost, points: Sequence[Point], line: Sequence[Point], start: float, wide: float, base: float,
    height: Callable[[float], float],
) -> list[Markup]:  # fmt: skip
    prices = [price for point in points if (price := point.costs[cost.key]) is not None]
    across, marks = _scale(min(prices), max(prices), start, wide)
    parts = [segment(across(mark), base, across(mark), base + 4, "axis") for mark in marks]
    parts += [text(across(mark), base + 17, cost.words(mark), "soft mid") for mark in marks]
    parts.append(text(start + wide / 2, base + 36, cost.name, "mid"))
    steps: list[tuple[float, float]] = []
    for point in line:
        x, y = across(point.costs[cost.key] or 0.0), height(point.score)
        steps += [(x, steps[-1][1]), (x, y)] if steps else [(x, y)]
    if steps:
        parts.append(polyline([*steps, (start + wide, steps[-1][1])], "front s1"))
    others = [point for point in points if point not in line and point.costs[cost.key] is not None]
    skip = -(-len(others) // MAX_DOTS)
    for point in [*others[:: max(1, skip)], *line]:
        price = point.costs[cost.key] or 0.0
        x, y = across(price), height(point.score)
        label = f"{trial_name(point.trial)} {model_of(point.trial)}: {score_text(point.score)}, {cost.words(price)}"
        parts.append(circle(x, y, 4.4 if point in line else 3.6, "full s1" if point in line else "hollow s0", label))
    return parts + _ranks(line, cost, across, height, base)


def _ranks(
    line: Sequence[Point], cost: Cost, across: Callable[[float], float], height: Callable[[float], float], base: float
) -> list[Markup]:
    """Ranks above and left of the front's runs, where they do not cover each other."""
    parts: list[Markup] = []
    taken: list[tuple[float, float]] = []
    for point in reversed(line):
        x, y = across(point.costs[cost.key] or 0.0) - 6, height(point.score) - 6
        if all(abs(x - other_x) > 18 or abs(y - other_y) > 12 for other_x, other_y in taken):
            parts.append(text(x, y, str(point.rank), "name end s1"))
            taken.append((x, y))
    return parts


def _scale(low: float, high: float, start: float, wide: float) -> tuple[Callable[[float], float], list[float]]:
    """price -> x, and two or three marks."""
    inset = 22.0  # ranks and marks at the ends stay inside the panel
    if high > low * LOG_FROM:
        low_log, span = math.log(low), math.log(high / low)
        return lambda price: start + inset + (math.log(price) - low_log) / span * (wide - 2 * inset), [
            low, math.sqrt(low * high), high,
        ]  # fmt: skip
    edges = ticks(low, high, 3) if high > low else [low]
    first, last = (min(edges[0], low), max(edges[-1], high)) if len(edges) > 1 else (low * 0.5, low * 1.5)
    marks = edges if len(edges) < 4 else edges[:: len(edges) // 2]
    return lambda price: start + inset + (price - first) / (last - first) * (wide - 2 * inset), marks
