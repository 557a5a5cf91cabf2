"""Successive halving per stratum, by pausing: which trials go on, from what they reached. Deciding, without the doing.

All trials of a stratum train to the first rung and pause. When the last of them is there, the best 1/eta go on to the
next rung from their checkpoints, and so on; who is not chosen waits until the stratum is decided, and is pruned then.
(Jamieson and Talwalkar 2016, AISTATS: successive halving. Not the asynchronous kind, Li et al. 2020: which trials go on
depends on their values alone, not on who was first, so that an interrupted sweep promotes whom an undisturbed one
would have, on any number of slots.)

A rung that does not foretell the next one is not trusted: where the ranks of those that went on agree with their ranks
at the next rung by less than MIN_CORRELATION (Spearman), twice as many go on after all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from harness.config.pause import Pause
from harness.config.space import SearchSpace
from harness.config.spec import TrainSpec
from harness.inference.ranks import rank_correlation
from harness.sweep.ledger import FINAL, Record

# Half way between a rung that ranks like dice and a fair one, whose promoted third agrees by .3 with the next rung
# (benchmarks/rung_threshold.py): of 24 trials it doubts two in three of the former and one in three of the latter.
MIN_CORRELATION = 0.15
# On those curves the order at a rung agreed with that at the end by .24 at most after 48 steps, .60 and more after 96.
STEPS_TO_JUDGE = 100
# Ranks of fewer trials say nothing: of three, one in six orders is right by chance.
ENOUGH_TO_JUDGE = 4


class Climber(Protocol):
    """What a rung needs to know of a trial; a `Record` says it."""

    @property
    def number(self) -> int: ...
    @property
    def stratum(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def replicate_of(self) -> str | None: ...
    @property
    def value(self) -> float | None: ...
    @property
    def rung(self) -> int: ...
    @property
    def rungs(self) -> tuple[float | None, ...]: ...


One = TypeVar("One", bound=Climber)


@dataclass(frozen=True, slots=True)
class Rung(Generic[One]):
    """One rung of a stratum as it stands."""

    number: int
    there: tuple[One, ...]  # that reached it; the best first
    open: bool  # whether somebody is still on the way to it
    places: int  # how many of them go on
    correlation: float | None  # Spearman, of those that went on first: their ranks here and at the next rung

    @property
    def chosen(self) -> tuple[One, ...]:
        """Who is to go on and was not told so yet."""
        waiting = (record for record in self.there[: self.places] if record.state == "paused")
        return () if self.open else tuple(record for record in waiting if record.rung == self.number)


def ladder(space: SearchSpace, stratum: str, trials: Iterable[One]) -> list[Rung[One]]:
    """The rungs that somebody reached, from the first one."""
    members = [one for one in trials if one.stratum == stratum and one.replicate_of is None and one.state != "failed"]
    return [_rung(space, number, members) for number in range(max((len(m.rungs) for m in members), default=0))]


def next_up(rungs: Sequence[Rung[One]]) -> tuple[One, ...]:
    """Who goes on now: of the lowest rung that has somebody chosen, when no rung below it is open."""
    for rung in rungs:
        if rung.open:
            return ()
        if rung.chosen:
            return rung.chosen
    return ()


def pause_of(space: SearchSpace, record: Record) -> Pause | None:
    """Where a trial is to pause next; None: it is trained to its end, as replicates are."""
    if space.prune.type != "rungs" or record.replicate_of is not None:
        return None
    return space.prune.rung(record.rung)


def is_on_the_last_stretch(space: SearchSpace, record: Record) -> bool:
    """Whether a trial certainly pauses no more; in samples or seconds that is not known beforehand."""
    ahead = pause_of(space, record)
    return ahead is None or (ahead.unit == "epochs" and ahead.amount >= space.train.epochs)


def early_note(train: TrainSpec, *, patches: int, epoch: int) -> str | None:
    """What to say of a first rung after that epoch, of so many training patches, if it is too early to judge."""
    steps = math.ceil(patches / train.batch_size) * epoch
    if steps >= STEPS_TO_JUDGE:
        return None
    return (
        f"rungs: at the first one, after epoch {epoch}, a trial has taken {steps} optimizer steps; before some "
        f"{STEPS_TO_JUDGE} the order of trials says little of the end (docs/pruning.md): a later first rung finds more"
    )


def first_share(space: SearchSpace) -> float:
    """The share of a stratum's training that its first rung is to take (all of a stratum without rungs).

    Of a time limit no more goes into new trials, so that some are trained to the end within it.
    """
    if space.prune.type != "rungs":
        return 1.0
    amounts = planned_epochs(space, space.budget.trials)
    return amounts[0] / sum(amounts)


def planned_epochs(space: SearchSpace, trials: int) -> list[float]:
    """The epochs that so many trials take: up to the first rung, from it to the second, ..., to the end.

    Rungs in samples or seconds are taken for the epochs that `min_epochs` says.
    """
    if space.prune.type != "rungs":
        return [float(trials * space.train.epochs)]
    left, before, amounts = trials, 0, []
    rung = space.prune.min_epochs
    while rung < space.train.epochs:
        amounts.append(float(left * (rung - before)))
        left, before, rung = places(space, left), rung, rung * space.prune.eta
    return [*amounts, float(left * (space.train.epochs - before))]


def places(space: SearchSpace, trials: int, *, twice: bool = False) -> int:
    """How many of so many trials go on: 1/eta of them (or 2/eta), and as many as are trained again afterwards."""
    kept = space.replicate.top if space.replicate is not None else 1
    return min(trials, max(math.ceil((2 if twice else 1) * trials / space.prune.eta), kept))


def _rung(space: SearchSpace, number: int, members: Sequence[One]) -> Rung[One]:
    """Trials that ended before the rung, or were trained in an earlier generation, are not compared on it."""
    there = sorted((m for m in members if len(m.rungs) > number), key=lambda m: _order(space, m, number))
    on_the_way = any(m.rung >= number and len(m.rungs) <= number and m.state not in FINAL for m in members)
    # Who was pruned here, when a smaller budget was decided, never comes to the next rung.
    first = [m for m in there[: places(space, len(there))] if m.state != "pruned" or len(m.rungs) > number + 1]
    pairs = [
        (here, later)
        for record in first
        if (here := _value(record, number)) is not None and (later := _value(record, number + 1)) is not None
    ]
    judged = len(pairs) == len(first) and len(pairs) >= ENOUGH_TO_JUDGE
    held = rank_correlation(*zip(*pairs, strict=True)) if judged else None
    twice = held is not None and held < MIN_CORRELATION
    return Rung(number, tuple(there), on_the_way, places(space, len(there), twice=twice), held)


def _value(record: Climber, number: int) -> float | None:
    """The best objective up to a rung; that of the whole trial where it ended before the rung."""
    if len(record.rungs) > number:
        return record.rungs[number]
    return record.value if record.state == "complete" else None


def _order(space: SearchSpace, record: Climber, number: int) -> tuple[float, int]:
    """The best first; a trial without a value comes last, and of equal ones the older is better."""
    value = _value(record, number)
    if value is None:
        return math.inf, record.number
    return (-value if space.objective.goal == "maximize" else value), record.number
