"""What each varying parameter could have been: the choices or the range of the search space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.config.knobs import label_of
from harness.report.queries import Sweep, Trial, Value, canonical

# A list of more numbers than this is drawn and weighed as a range.
MAX_CHOICES = 12
# A range of numbers that no file calls one is logarithmic from this ratio on.
LOG_RATIO = 100.0


@dataclass(frozen=True)
class Domain:
    """A parameter's choices in the file's order, or its range (`choices` empty)."""

    name: str
    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False  # integers only

    @property
    def single(self) -> bool:
        """Whether nothing is to be chosen."""
        return len(self.choices) == 1 or (not self.choices and self.low == self.high)

    def place(self, value: Value) -> int:
        """Index among the choices; 1 and 1.0 are one value, True and 1 are two."""
        return self._places[canonical(value)]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {canonical(choice): place for place, choice in enumerate(self.choices)}


def domains(sweep: Sweep, factors: Sequence[str], trials: Sequence[Trial]) -> dict[str, Domain]:
    """The domain of every factor; values from outside the space (a baseline's own) widen it."""
    declared: dict[str, Any] = dict(sweep.space.get("parameters") or {})
    strata: dict[str, Any] = dict(sweep.space.get("strata") or {})
    found = {}
    for name in factors:
        seen = [value for trial in trials if (value := trial.parameters.get(name)) is not None]
        axis = strata.get(name)
        said = {"values": axis} if isinstance(axis, list | tuple) else declared.get(name)
        found[name] = _domain(name, said if isinstance(said, Mapping) else {}, seen)
    return found


def _domain(name: str, said: Mapping[str, Any], seen: Sequence[Value]) -> Domain:
    numbers = [float(v) for v in seen if isinstance(v, int | float) and not isinstance(v, bool)]
    low, high = said.get("min"), said.get("max")
    if isinstance(low, int | float) and isinstance(high, int | float) and len(numbers) == len(seen):
        whole = all(isinstance(value, int) for value in seen)
        return Domain(name, (), min(low, *numbers), max(high, *numbers), bool(said.get("log")), whole)
    listed = [label_of(value) for value in said.get("values") or ()]
    extra = sorted((v for v in seen if canonical(v) not in {canonical(one) for one in listed}), key=_sort_key)
    choices = {canonical(value): value for value in (*listed, *extra)}
    if len(choices) > MAX_CHOICES and len(numbers) == len(seen):
        log = min(numbers) > 0 and max(numbers) >= LOG_RATIO * min(numbers)
        return Domain(name, (), min(numbers), max(numbers), log, all(isinstance(value, int) for value in seen))
    return Domain(name, tuple(choices.values()))


def _sort_key(value: Value) -> tuple[bool, float, str]:
    number = isinstance(value, int | float)
    return (not number, float(value) if isinstance(value, int | float) else 0.0, str(value))
