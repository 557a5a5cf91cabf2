"""Main effects: what every level of every factor is worth, everything else equal.

A difference to the reference level is the mean over paired cells where there are at least MIN_PAIRS; else it is the
coefficient of an additive least-squares fit over all complete search runs, if these determine it and MIN_SPARE runs
are left over; else the mean over the few pairs there are. What no run tells is left open, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.report.statistics import MIN_PAIRS, Contrast, Design, Level, paired_gains
from harness.report.svg import WIDTH, circle, figure, number_text, segment, short, text, ticks
from harness.report.tables import Cell, Table, number
from harness.report.wording import ABSENT, difference_text, factor_text, listed, metric_text, plural, score_text

# Below this many runs to spare a fit bends to single runs.
MIN_SPARE = 4
# Levels drawn in one figure; all stand in the table.
DRAWN_LEVELS = 18
# Dots of one level; with more pairs an even choice of them.
MAX_DOTS = 60

Way = Literal["reference", "pairs", "fit", "few pairs", "open"]


@dataclass(frozen=True, slots=True)
class Effect:
    """One level of a factor."""

    contrast: Contrast  # over pairs; without gains for the reference
    runs: int
    mean: float | None  # adjusted: the mean score if every run were at this level
    gain: float | None  # over the reference, better above zero
    way: Way
    reason: str = ""  # why the gain is open

    @property
    def factor(self) -> str:
        """The factor's name."""
        return self.contrast.factor

    @property
    def level(self) -> str:
        """The level's name."""
        return self.contrast.level

    @property
    def visible(self) -> bool:
        """Whether the paired difference is visible."""
        return self.contrast.visible


def main_effects(runs: Design, *, minimize: bool = False) -> tuple[Effect, ...]:
    """Every level of every factor, the reference first."""
    return tuple(effect for factor in runs.levels for effect in _factor_effects(runs, factor, minimize))


def _factor_effects(runs: Design, factor: str, minimize: bool) -> list[Effect]:
    reference, *others = runs.levels[factor]
    sign = -1.0 if minimize else 1.0
    found: list[tuple[Level, Contrast, float | None, Way, str]] = [
        (reference, Contrast(factor, reference.name, reference.name, ()), 0.0, "reference", "")
    ]
    for level in others:
        gains = tuple(sign * gain for gain in paired_gains(runs, factor, level, reference))
        contrast = Contrast(factor, level.name, reference.name, gains)
        found.append((level, contrast, *_gain(runs, level, contrast, sign)))
    counts = [int(runs.runs_at(factor, level).sum()) for level, *_ in found]
    base = _base(runs, factor, [(level, gain) for level, _, gain, _, _ in found if gain is not None], sign)
    return [
        Effect(contrast, count, None if gain is None else base + sign * gain, None if way == "reference" else gain,
               way, reason)
        for (_, contrast, gain, way, reason), count in zip(found, counts, strict=True)
    ]  # fmt: skip


def _gain(runs: Design, level: Level, contrast: Contrast, sign: float) -> tuple[float | None, Way, str]:
    if contrast.pairs >= MIN_PAIRS:
        return contrast.mean, "pairs", ""
    fitted = runs.fit.difference(contrast.factor, level)
    if fitted is not None and runs.fit.spare >= MIN_SPARE:
        return sign * fitted, "fit", ""
    if contrast.pairs:
        return contrast.mean, "few pairs", ""
    aliases = runs.fit.aliases(contrast.factor, level)
    if fitted is None and aliases and len(runs.rows) > len(runs.fit.columns):
        names = listed([factor_text(name) for name in aliases])
        return None, "open", f"cannot be told apart from {names}"
    return None, "open", "too few runs"


def _base(runs: Design, factor: str, known: Sequence[tuple[Level, float]], sign: float) -> float:
    """The reference's adjusted mean: so that adjusted means, weighted by runs, give the mean of the runs."""
    masks = [(runs.runs_at(factor, level), gain) for level, gain in known]
    total = sum(float(runs.scores[mask].sum() - sign * gain * mask.sum()) for mask, gain in masks)
    return total / sum(int(mask.sum()) for mask, _ in masks)


def effects_table(effects: Sequence[Effect], what: str, metric: str) -> Table:
    """Every level: runs, adjusted mean, difference to the reference, and its spread over pairs."""
    name = metric_text(metric)
    ways = {effect.way for effect in effects}
    note = [
        "Adjusted: the mean if every run had this level. Difference: to the first level listed, above zero is better. "
        "SD: spread over paired training runs, not over patients."
    ]
    if "fit" in ways:
        note.append(f"Fit: fewer than {MIN_PAIRS} pairs, so an additive least-squares fit of all complete search runs.")
    if "few pairs" in ways:
        note.append(f"Few pairs: fewer than {MIN_PAIRS}, and no fit with {MIN_SPARE} runs to spare.")
    return Table(
        caption=f"Every level in {name}, {what}",
        columns=("Factor", "Level", "Runs", f"{name}, adjusted", "Difference", "SD over pairs", "Pairs", "Verdict"),
        rows=tuple(_table_row(effect) for effect in effects),
        note=" ".join(note),
        head=1,
    )


def _table_row(effect: Effect) -> tuple[Cell, ...]:
    contrast, reference = effect.contrast, effect.way == "reference"
    interval = contrast.interval
    title = None if interval is None else f"95 % t-interval over pairs: {interval[0]:+.3f} to {interval[1]:+.3f}"
    return (
        Cell(factor_text(effect.factor)),
        Cell(effect.level),
        number(effect.runs, str(effect.runs)),
        number(effect.mean, ABSENT if effect.mean is None else score_text(effect.mean)),
        number(effect.gain, difference_text(effect.gain)),
        number(contrast.sd, ABSENT if contrast.sd is None else score_text(contrast.sd)),
        number(None if reference else contrast.pairs, ABSENT if reference else str(contrast.pairs)),
        Cell(_verdict(effect), title=title),
    )


def _verdict(effect: Effect) -> str:
    if effect.way == "pairs":
        return "visible" if effect.visible else "undecided"
    return effect.reason if effect.way == "open" else effect.way


def effect_sentences(effects: Sequence[Effect], metric: str) -> tuple[str, ...]:
    """One sentence for every visible effect, largest first, one for the rest, and what cannot be told."""
    name = metric_text(metric)
    seen = sorted((e for e in effects if e.visible), key=lambda e: -abs(e.contrast.mean or 0.0))
    sentences = [effect_sentence(e.contrast, name) for e in seen]
    if not seen:
        sentences.append("No effect is visible over paired runs in this sweep.")
    undecided = [e for e in effects if not e.visible and e.way in ("pairs", "fit", "few pairs")]
    if undecided:
        factors = listed(list(dict.fromkeys(factor_text(e.factor) for e in undecided)))
        sentences.append(f"Undecided: {plural(len(undecided), 'comparison')} of {factors}.")
    reasons: dict[str, list[str]] = {}
    for effect in effects:
        if effect.way == "open":
            reasons.setdefault(f"{factor_text(effect.factor).capitalize()}: {effect.reason}", []).append(effect.level)
    sentences += [f"{reason} ({listed(levels)})." for reason, levels in reasons.items()]
    return tuple(sentences)


def effect_sentence(contrast: Contrast, name: str) -> str:
    """`Architecture: unet is 0.045 IoU better than unet_plain (SD 0.020 over 6 paired cells).`"""
    assert contrast.mean is not None
    better, worse = contrast.level, contrast.reference
    if contrast.mean < 0:
        better, worse = worse, better
    spread = f"SD {score_text(contrast.sd)} over {plural(contrast.pairs, 'paired cell')}"
    if contrast.sd is None:
        spread = "one paired cell"
    gain = score_text(abs(contrast.mean))
    return f"{factor_text(contrast.factor).capitalize()}: {better} is {gain} {name} better than {worse} ({spread})."


def effects_figure(effects: Sequence[Effect], *, title: str, x_label: str) -> str:
    """One row per level under its factor: a dot per pair, the mean difference, and its interval where there is one.

    Levels whose difference is from a fit or from few pairs are rings; open ones are left to the table.
    """
    drawn = [effect for effect in effects if effect.gain is not None]
    drawn = [e for e in drawn if e in sorted(drawn, key=lambda e: (not e.visible, -e.contrast.pairs))[:DRAWN_LEVELS]]
    if not drawn:
        return ""
    left, right, top, row_px = 270, 16, 8, 24
    lines: list[str | Effect] = []
    for factor in dict.fromkeys(effect.factor for effect in drawn):
        members = [effect for effect in drawn if effect.factor == factor]
        lines += [f"{factor_text(factor)}, against {short(members[0].contrast.reference, 30)}", *members]
    values = [0.0, *(gain for effect in drawn for gain in (*effect.contrast.gains, effect.gain or 0.0))]
    values += [edge for effect in drawn for edge in effect.contrast.interval or ()]
    steps = ticks(min(values), max(values), 6)
    low, high = min(steps[0], *values), max(steps[-1], *values)

    def at(x: float) -> float:
        return left + (x - low) / (high - low) * (WIDTH - left - right)

    base = top + row_px * len(lines)
    parts = []
    for tick in steps:
        parts.append(segment(at(tick), top, at(tick), base, "axis" if tick == 0 else "grid"))
        parts.append(text(at(tick), base + 16, number_text(tick, steps), "soft mid"))
    parts.append(text((left + WIDTH - right) / 2, base + 34, x_label, "soft mid"))
    for index, line in enumerate(lines):
        y = top + row_px * (index + 0.5)
        if isinstance(line, str):
            parts.append(text(4, y + 4, line, "soft"))
            continue
        colour = "s1" if line.visible else "s0"
        parts.append(text(left - 12, y + 4, short(line.level, 36), "end", hover=line.level))
        gains = sorted(line.contrast.gains)
        gains = gains[:: -(-len(gains) // MAX_DOTS) or 1]
        parts += [circle(at(gain), y, 3.4, f"dot {colour}", f"{gain:+.3f}") for gain in gains]
        if line.contrast.interval is not None:
            parts.append(segment(at(line.contrast.interval[0]), y, at(line.contrast.interval[1]), y, f"bar {colour}"))
        shape = "full" if line.way == "pairs" else "hollow"
        parts.append(circle(at(line.gain or 0.0), y, 5.2, f"{shape} {colour}", f"{line.way}: {line.gain:+.3f}"))
    return figure(base + 40, title, parts)
