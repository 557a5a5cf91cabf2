"""The trials of a comparison by the names that people have for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.base import choose_from
from harness.errors import BadInput, Refused
from harness.report.queries import Sweep, Trial, read_sweep
from harness.report.tables import model_of, trial_name

LETTERS = "ABCDE"  # as many as there are colours that stay apart

_NUMBER = re.compile(r"^(?P<stratum>.*?)\s*#\s*(?P<number>\d+)$", re.S)


@dataclass(frozen=True, slots=True)
class Side:
    """One trial of a comparison, and the sweep it belongs to."""

    letter: str
    sweep: Sweep
    trial: Trial

    @property
    def name(self) -> str:
        """`unet · resnet18 (unicorn3/all #2)`."""
        return f"{model_of(self.trial)} ({trial_name(self.trial)})"


def is_trial_folder(text: str) -> bool:
    """Whether this is the path of a trial's folder (or of an external row's)."""
    try:
        return (Path(text) / "trial.json").is_file()
    except (OSError, ValueError):  # a name that no path can be
        return False


def sides_of(names: Sequence[str], sweep: Sweep | None) -> tuple[Side, ...]:
    """The trials of these names, lettered A, B, ... in their order.

    A name is looked for in `sweep` (uid, start of one, `stratum#number`, external row, MLflow run), then taken as the
    path of a trial's folder, of whatever sweep. BadInput when there is no such trial or several; Refused when two
    names mean one trial.
    """
    if not 2 <= len(names) <= len(LETTERS):
        raise BadInput(f"{len(names)} trials: a comparison has 2 to {len(LETTERS)}")
    sides = [Side(letter, *_found(name, sweep)) for letter, name in zip(LETTERS[: len(names)], names, strict=True)]
    for index, side in enumerate(sides):
        for other in sides[:index]:
            if side.trial.folder.resolve() == other.trial.folder.resolve():
                raise Refused(
                    f"{names[LETTERS.index(other.letter)]!r} and {names[LETTERS.index(side.letter)]!r} are the same "
                    f"trial, {side.trial.uid}; a comparison needs different ones"
                )
    return tuple(sides)


def _found(name: str, sweep: Sweep | None) -> tuple[Sweep, Trial]:
    matching = [] if sweep is None else _matching(name, sweep)
    if sweep is not None and len(matching) == 1:
        return sweep, matching[0]
    if not matching and is_trial_folder(name):
        folder = Path(name).resolve()
        its = read_sweep(folder.parents[1])
        for trial in (*its.trials, *its.external):
            if trial.folder.resolve() == folder:
                return its, trial
    if sweep is None:
        raise BadInput(f"{name!r}: not a trial's folder (it has no trial.json)")
    if matching:
        several = choose_from(name, [trial.uid for trial in matching])
        raise BadInput(f"{name!r} may be {len(matching)} trials of {sweep.name}: write more of the name; {several}")
    known = [trial.external or trial.uid for trial in (*sweep.trials, *sweep.external)]
    there = choose_from(name, known) if known else "it has none yet"
    raise BadInput(f"{name!r}: no trial of {sweep.name} and no trial's folder; {there}")


def _matching(name: str, sweep: Sweep) -> list[Trial]:
    """The trials that a name may mean, by the first way of naming that fits any."""
    every = (*sweep.trials, *sweep.external)
    numbered = _NUMBER.match(name)
    ways = [
        [trial for trial in every if trial.uid == name],
        [trial for trial in every if trial.external == name],
        [trial for trial in every if trial.run_id is not None and trial.run_id == name],
        [] if numbered is None else _numbered(numbered["stratum"] or "default", int(numbered["number"]), sweep),
        [trial for trial in every if name and trial.uid.startswith(name)],
    ]
    return next((found for found in ways if found), [])


def _numbered(stratum: str, number: int, sweep: Sweep) -> list[Trial]:
    found = [trial for trial in sweep.trials if (trial.stratum, trial.number) == (stratum, number)]
    # A replicate is printed under its own number too, with a word beside it: the search run is meant.
    return [trial for trial in found if trial.replicate_of is None] or found
