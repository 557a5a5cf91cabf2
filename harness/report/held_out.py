"""Each board's leader on the test patients, where these were opened; ranks stay those of validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import fingerprint, read_json
from harness.inference.intervals import Interval, Spread, interval, mean_over_seeds, spread_of
from harness.inference.ratios import ratios_of
from harness.report.boards import FEW_PATIENTS, Board, Row
from harness.report.queries import Sweep
from harness.report.scored import DOCUMENT_ERRORS
from harness.report.tables import model_of, trial_name
from harness.report.wording import interval_text, metric_text, plural, score_text
from harness.scores import read_scores
from harness.sweep.layout import GenerationFolder, Home


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A board's leader on patients that nobody trained on or picked by."""

    board: str
    trial: str
    metric: str
    score: float
    interval: Interval | None
    patients: int
    opened: int  # times that these patients were looked at, by all sweeps of the home
    sentence: str


def held_out(sweep: Sweep, groups: Sequence[Board]) -> tuple[HeldOut, ...]:
    """One per board whose leader was scored on the test patients."""
    patients = patients_apart(sweep)
    found = (_of_board(board, sweep, patients) for board in groups if patients)
    return tuple(one for one in found if one is not None)


def patients_apart(sweep: Sweep) -> list[str]:
    """The test patients, sorted."""
    return sorted((sweep.data.get("split") or {}).get("test") or ())


def openings_key(sweep: Sweep) -> str:
    """The name of a set of test patients, the same for every sweep on the same data."""
    return fingerprint([sweep.data.get("hash"), patients_apart(sweep)])


def _of_board(board: Board, sweep: Sweep, patients: Sequence[str]) -> HeldOut | None:
    row = board.first_trained
    if row is None or row.score is None:
        return None
    counted = [_spread(GenerationFolder(sweep.folder).held_out / f"{run.uid}.json", board.metric) for run in row.trials]
    scores = [score for score, _ in counted if score is not None]
    if len(scores) < len(row.trials):
        return None
    spreads = [spread for _, spread in counted if spread is not None]
    whole = (spreads[0] if len(spreads) == 1 else mean_over_seeds(spreads)) if len(spreads) == len(scores) else None
    score, known = sum(scores) / len(scores), None if whole is None else interval(whole)
    opened = _opened(sweep)
    sentence = _sentence(board, row, score, known, len(patients), opened)
    return HeldOut(board.key, row.trial.uid, board.metric, score, known, len(patients), opened, sentence)


def _sentence(board: Board, row: Row, score: float, known: Interval | None, patients: int, opened: int) -> str:
    within = f" (95 % interval {interval_text(known.low, known.high)})" if known else ""
    few = ", which is few" if patients < FEW_PATIENTS else ""
    times = "once" if opened == 1 else f"{opened} times"
    again = "" if opened == 1 else ": what was decided after the first time has seen them"
    return (
        f"On {plural(patients, 'test patient')} that nobody trained on or picked by{few}, {model_of(row.trial)} "
        f"({trial_name(row.trial)}) has {metric_text(board.metric)} {score_text(score)}{within} for {board.title}; on "
        f"validation {score_text(row.score)}. They were opened {times}{again}."
    )


def _spread(file: Path, metric: str) -> tuple[float | None, Spread | None]:
    try:
        counts = ratios_of(*read_scores(read_json(file)), metric)
    except DOCUMENT_ERRORS:
        return None, None
    return (None, None) if counts is None else (counts.score, spread_of(counts))


def _opened(sweep: Sweep) -> int:
    home = Home(sweep.folder.parent.parent.parent)
    try:
        document: dict[str, Any] = read_json(home.openings)
        return len(document[openings_key(sweep)]["openings"])
    except DOCUMENT_ERRORS:
        return 1  # its own, at least
