"""A comparison in sentences: for the page's first lines and for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.compare import Comparison, ScoreLine
from harness.report.moves import Move
from harness.report.wording import count_text, difference_text, listed, metric_text, percent_text, plural, score_text

SHOWN_MOVES = 6


def answer(found: Comparison) -> list[str]:
    """Who is better by how much, in how many patients, by which confusion, and what is different about them."""
    said = [_verdict(found), _patients(found)]
    for letter, moved in found.moved.items():
        if moved:
            said.append(f"The largest move from A to {letter}: {move_text(moved[0])}")
    return [*(sentence for sentence in said if sentence), settings_text(found)]


def move_text(move: Move) -> str:
    """`2.1 % of true stroma moved from tumor to stroma: 12 345 px, better.`"""
    share = f"{percent_text(move.share)} %" if move.share >= 0.0005 else "less than 0.1 %"
    moved = f"moved from {move.called} to {move.now}".replace("_", " ")
    return f"{share} of true {move.true.replace('_', ' ')} {moved}: {count_text(move.pixels)} px, {move.verdict}."


def shown_moves(found: Comparison) -> list[tuple[str, list[str]]]:
    """(letter, sentences) of the largest moves from A to each other trial."""
    return [(letter, [move_text(move) for move in moved[:SHOWN_MOVES]]) for letter, moved in found.moved.items()]


def settings_text(found: Comparison) -> str:
    """How many settings differ, and which."""
    settings = found.parameters
    unknown = f"The settings of {listed(settings.unknown)} are not known here." if settings.unknown else ""
    total = len(settings.different) + settings.equal
    if not total:
        return unknown
    names = [line.name.replace("_", " ") for line in settings.different]
    differ = f"Of {plural(total, 'setting')}, {len(names)} differ: {listed(names)}." if names else "No setting differs."
    return f"{differ} {unknown}".strip()


def wins_text(lines: Sequence[ScoreLine], letters: Sequence[str]) -> str:
    """`A in 4, B in 1, the same to three digits in 1 of 6 patients`; those that lack a score are said apart."""
    wins = {letter: sum(line.better == letter for line in lines) for letter in letters}
    absent = sum(any(value is None for value in line.values) for line in lines)
    same = len(lines) - sum(wins.values()) - absent
    parts = [f"{letter} in {count}" for letter, count in wins.items()]
    parts += [f"none in {same}"] if same else []
    parts += [f"not to be said in {absent}"] if absent else []
    return f"{', '.join(parts)} of {plural(len(lines), 'patient')}"


def _verdict(found: Comparison) -> str:
    line = found.objective
    if line is None:
        return ""
    metric = metric_text(line.name)
    by_letter = dict(zip((side.letter for side in found.sides), line.values, strict=True))
    if line.better is None:
        said = listed([f"{letter} {score_text(value)}" for letter, value in by_letter.items()])
        return f"None is better in {metric}: {said}."
    names = {side.letter: side.name for side in found.sides}
    order = sorted(
        (letter for letter in by_letter if letter != line.better), key=lambda letter: -(by_letter[letter] or 0)
    )
    best = by_letter[line.better]
    others = listed([f"{score_text(by_letter[letter])} of {letter}" for letter in order])
    second = by_letter[order[0]]
    lead = difference_text(abs((best or 0) - (second or 0))).lstrip("+")
    return f"{line.better}, {names[line.better]}, is better by {lead} in {metric}: {score_text(best)} against {others}."


def _patients(found: Comparison) -> str:
    if not found.patients:
        return ""
    letters = [side.letter for side in found.sides]
    return f"Better in {metric_text(found.metric)} of single patients: {wins_text(found.patients, letters)}."
