"""The rungs of a sweep that pauses its trials: who went on, and how well a rung foretold the next one."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config.pause import Pause
from harness.config.space import Prune, Replicate, SearchSpace
from harness.config.spec import Objective
from harness.report.queries import Sweep, Trial
from harness.report.tables import Cell, Table, number
from harness.report.wording import ABSENT
from harness.sweep.rungs import MIN_CORRELATION, Rung, ladder

CAPTION = "Rungs: trials that paused, and those that went on"
NOTE = (
    "Successive halving: the best trials at a rung go on to the next one. The correlation is Spearman's, of those that "
    "went on first: their order here and at the next rung (at the last rung: at their end). "
    f"Below {MIN_CORRELATION:g} twice as many go on."
)


@dataclass(frozen=True, slots=True)
class _Climber:
    """A trial as its rungs see it."""

    number: int
    stratum: str
    state: str
    replicate_of: str | None
    value: float | None
    rung: int
    rungs: tuple[float | None, ...]


def rungs_table(sweep: Sweep) -> Table:
    """A row per stratum and rung; empty where nothing paused."""
    rows: list[tuple[Cell, ...]] = []
    if any(trial.rungs for trial in sweep.trials):
        space = _rules(sweep)
        climbers = [_climber(trial) for trial in sweep.trials]
        for stratum in dict.fromkeys(trial.stratum for trial in sweep.trials):
            rows += [_row(space, stratum, rung) for rung in ladder(space, stratum, climbers)]
    return Table(CAPTION, ("Stratum", "Rung", "After", "Trials", "Went on", "Rank correlation"), tuple(rows), note=NOTE)


def _rules(sweep: Sweep) -> SearchSpace:
    """Of the space only what rungs ask for: the rest may be of a version that reads otherwise now."""
    said = sweep.space
    return SearchSpace.model_construct(
        prune=Prune.model_validate(said.get("prune") or {}),
        objective=Objective.model_validate(said.get("objective") or {}),
        replicate=None if said.get("replicate") is None else Replicate.model_validate(said["replicate"]),
    )


def _climber(trial: Trial) -> _Climber:
    value = dict((trial.result or {}).get("objective") or {}).get("value")
    return _Climber(
        trial.number, trial.stratum, trial.state, trial.replicate_of, value, len(trial.rungs), tuple(trial.rungs)
    )


def _text(pause: Pause) -> str:
    """`epoch 3`, `2,500 samples`, `120 seconds`."""
    return f"epoch {pause.amount:g}" if pause.unit == "epochs" else f"{pause.amount:,g} {pause.unit}"


def _row(space: SearchSpace, stratum: str, rung: Rung[_Climber]) -> tuple[Cell, ...]:
    on = sum(len(one.rungs) > rung.number + 1 or one.state == "complete" for one in rung.there)
    pause = space.prune.rung(rung.number)
    held = rung.correlation
    return (
        Cell(stratum),
        number(rung.number + 1, str(rung.number + 1)),
        number(pause.amount, _text(pause)),
        number(len(rung.there), str(len(rung.there))),
        number(on, str(on)),
        number(held, ABSENT if held is None else f"{held:.2f}"),
    )
