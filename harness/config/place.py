"""Where a trained spec lies in a space: `resolve` backwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.cells import Assignment, Stratum, grid_values, in_order, is_active, meets_rules, strata_of
from harness.config.knobs import is_numeric, label_of
from harness.config.space import Parameter, SearchSpace
from harness.config.spec import TrialSpec


@dataclass(frozen=True)
class Place:
    """One combination of a space, and the stratum it belongs to."""

    stratum: Stratum
    assignment: Assignment


def place_of(space: SearchSpace, spec: TrialSpec) -> Place | None:
    """The combination of `space` with this spec's settings; None where a value is not listed, not in the range (for
    `method: grid`: not one of its steps), or a rule forbids them.

    Nothing is said of settings that are neither axis nor parameter: those that resolve the combination compare.
    """
    settings = {**dict(spec.train), **spec.parameters()}  # a dump leaves out what has its default since ever
    for stratum in strata_of(space):
        if all(label_of(settings.get(axis)) == label_of(value) for axis, value in stratum.values.items()):
            assignment = _assignment(space, stratum, settings)
            return None if assignment is None else Place(stratum, assignment)
    return None


def _assignment(space: SearchSpace, stratum: Stratum, settings: Mapping[str, Any]) -> Assignment | None:
    row: Assignment = dict(stratum.values)
    for name in in_order(space.parameters):
        parameter, row[name] = space.parameters[name], None
        if is_active(parameter, row):
            row[name] = _within(name, parameter, settings.get(name), space.method)
            if row[name] is None:
                return None
    return row if meets_rules(space, row) else None


def _within(name: str, parameter: Parameter, value: Any, method: str) -> Any:
    """The value as the space writes it; None where the parameter cannot have it."""
    if not parameter.is_range:
        return _listed(parameter.choices, value)
    if method == "grid":
        return _listed(grid_values(name, parameter), value)
    low, high, number = parameter.min, parameter.max, is_numeric(name)
    assert low is not None and high is not None and number is not None
    return value if isinstance(value, int | float) and low <= value <= high and value == number(value) else None


def _listed(choices: Sequence[Any], value: Any) -> Any:
    return next((choice for choice in choices if label_of(choice) == label_of(value)), None)
