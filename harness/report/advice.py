"""What to try next: what the sweep itself shows to be too short, too narrow, too few or broken. Nothing is guessed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from harness.report.boards import FEW_PATIENTS, Board, Row
from harness.report.queries import Sweep, Trial
from harness.report.wording import listed, metric_text, percent_text, plural, score_text, value_text

# The rows of a board whose epochs count when more of them are advised.
LEADING = 3
# A leader this close to an end of a continuous range, in shares of its width, sits at that end.
EDGE = 0.05
# A class is weak when its IoU is below this share of the mean over classes.
WEAK = 0.5


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do, and the figures that speak for it."""

    what: str
    why: str


def advice(sweep: Sweep, groups: Sequence[Board]) -> tuple[Advice, ...]:
    """In the order in which to do them; empty for a sweep in which nothing of this kind shows."""
    parts = (_failures(sweep), _seeds(groups), _epochs(groups), _edges(sweep, groups), _classes(groups))
    return (*(one for part in parts for one in part), *_patients(groups))


def _failures(sweep: Sweep) -> Iterator[Advice]:
    failed = [trial for trial in sweep.trials if trial.state == "failed"]
    causes = Counter(trial.cause or "error" for trial in failed)
    if memory := causes.pop("out_of_memory", 0):
        yield Advice("Halve the batch or the patch", f"{plural(memory, 'run')} ran out of memory")
    if diverged := causes.pop("nan", 0):
        rates = [trial.parameters.get("learning_rate") for trial in failed if trial.cause == "nan"]
        known = [rate for rate in rates if isinstance(rate, float)]
        at = f", at learning rates of {value_text(min(known))} and more" if known else ""
        yield Advice("Lower the learning rate", f"{plural(diverged, 'run')} diverged{at}")
    if causes:
        named = listed([f"{cause.replace('_', ' ')} ({number})" for cause, number in causes.most_common()])
        yield Advice("Mend what failed", f"{named}; the messages stand under “Pruned and failed”")


def _seeds(groups: Sequence[Board]) -> Iterator[Advice]:
    gaps = [(board, gap) for board in groups if (gap := _single_gap(board)) is not None]
    if not gaps:
        return
    known = [
        f"{metric_text(board.metric)} {score_text(gap)} apart on {board.title}"
        if gap >= 0.0005
        else f"equal to three digits on {board.title}"
        for board, gap in gaps
    ]
    each = "of each board " if len(gaps) > 1 else ""
    some = any(row.replicated for board, _ in gaps for row in board.ranked[:2])
    seeds = "not both over fresh seeds" if some else "on one seed"
    yield Advice(f"Train the first two {each}again with other seeds", f"{listed(known)}, {seeds}")


def _single_gap(board: Board) -> float | None:
    """How far apart the first two trained rows are; None without two, or when both are means over seeds."""
    trained = [row for row in board.ranked if row.trial.external is None][:2]
    if len(trained) < 2 or all(row.replicated for row in trained):
        return None
    first, second = (row.score for row in trained)
    assert first is not None and second is not None
    return abs(first - second)


def _epochs(groups: Sequence[Board]) -> Iterator[Advice]:
    leading = [row for board in groups for row in board.ranked[:LEADING] if row.trial.result]
    late = [row for row in leading if "best epoch is the last" in ((row.trial.result or {}).get("flags") or ())]
    if len(late) * 2 > len(leading):
        epochs = sorted({len(row.trial.epochs) for row in late})
        after = listed([str(number) for number in epochs])
        yield Advice("Train longer", f"{len(late)} of {plural(len(leading), 'leading run')} were best at the last "
                                     f"epoch ({after})")  # fmt: skip


def _edges(sweep: Sweep, groups: Sequence[Board]) -> Iterator[Advice]:
    """Numbers whose outermost tried value leads on every board."""
    leaders = [board.leader for board in groups if board.leader is not None]
    parameters = sweep.space.get("parameters") or {}
    for name in sweep.varying:
        tried = sorted(set(_numbers(sweep.complete, name)))
        best = _numbers([row.trial for row in leaders], name)
        if len(tried) < 2 or not best or len(best) < len(leaders):
            continue
        log = bool((parameters.get(name) or {}).get("log"))
        place = _place(tried, log=log)
        where = "on every board" if len(leaders) > 1 else f"of {plural(len(tried), 'value')} tried"
        word = name.replace("_", " ")
        if all(place(value) >= 1 - EDGE for value in best):
            yield Advice(f"Try {word} above {value_text(tried[-1])}", f"the largest tried leads {where}")
        elif all(place(value) <= EDGE for value in best):
            yield Advice(f"Try {word} below {value_text(tried[0])}", f"the smallest tried leads {where}")


def _numbers(trials: Sequence[Trial], name: str) -> list[float | int]:
    values = (trial.parameters.get(name) for trial in trials)
    return [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]


def _place(tried: Sequence[float | int], *, log: bool) -> Callable[[float | int], float]:
    """Where a value lies between the smallest (0) and the largest (1) that were tried."""
    scale = math.log if log and tried[0] > 0 else float
    low, high = scale(tried[0]), scale(tried[-1])
    return lambda value: (scale(value) - low) / (high - low)


def _classes(groups: Sequence[Board]) -> Iterator[Advice]:
    for board in groups:
        leader = board.first_trained
        weakest = None if leader is None else _weakest(leader)
        if leader is None or weakest is None:
            continue
        name, iou, share = weakest
        settings = leader.trial.settings
        weighted = settings.get("sampling") == "balanced" or settings.get("class_weights") not in (None, "none")
        remedy = f"Find more regions with {name}" if weighted else f"Give {name} more weight (sampling, class_weights)"
        known = " although classes are balanced already" if weighted else ""
        where = f"in the leader of {board.title}, at {percent_text(share)} % of the true pixels"
        yield Advice(remedy, f"its IoU is {score_text(iou)} {where}{known}")


def _weakest(row: Row) -> tuple[str, float, float] | None:
    """The class with the lowest IoU, and its share of pixels, when it is far below the mean."""
    total = sum(row.scored.support.values())
    scores = {name: row.scores.get(f"val/iou_{name}") for name in row.scored.support}
    present = {name: value for name, value in scores.items() if value is not None}
    if len(present) < 2:
        return None
    name = min(present, key=lambda key: present[key])
    mean = sum(present.values()) / len(present)
    return (name, present[name], row.scored.support[name] / total) if present[name] < WEAK * mean else None


def _patients(groups: Sequence[Board]) -> Iterator[Advice]:
    fewest = min((len(board.rows[0].scored.patients) for board in groups), default=FEW_PATIENTS)
    if fewest < FEW_PATIENTS:
        resting = f"scores rest on {plural(fewest, 'patient')}, so one more could reorder near equals"
        yield Advice("Validate on more patients", resting)
