"""From a space to its strata and combinations, and from one combination to a TrialSpec."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.knobs import DATA_KNOBS, MODEL_KNOBS, TRAIN_KNOBS, check_value, is_numeric, label_of
from harness.config.space import Parameter, SearchSpace
from harness.config.spec import Cut, DatasetVariant, ModelSpec, Split, TrainSpec, TrialSpec

DEFAULT_PATCH_PX = 256

# One combination: every strata axis and parameter by name; None where a parameter is inactive.
Assignment = dict[str, Any]


@dataclass(frozen=True)
class Stratum:
    """One combination of the strata axes, with an Optuna study of its own."""

    name: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class DataFacts:
    """What resolving a spec needs to know of the data at hand."""

    root: str
    data_hash: str
    source: str
    source_ids: tuple[int, ...]
    quarantined: tuple[str, ...]
    split: Split


def strata_of(space: SearchSpace) -> tuple[Stratum, ...]:
    """Every stratum, in file order; one named `default` without `strata:`."""
    if not space.strata:
        return (Stratum("default", {}),)
    axes = list(space.strata)
    return tuple(
        Stratum("/".join(str(label_of(value)) for value in values), dict(zip(axes, values, strict=True)))
        for values in itertools.product(*space.strata.values())
    )


def in_order(parameters: Mapping[str, Parameter]) -> list[str]:
    """Parameter names, each after those its `when` speaks of; ValueError names a cycle."""
    done: list[str] = []
    waiting = list(parameters)
    while waiting:
        ready = [name for name in waiting if not (set(parameters[name].when) & set(waiting))]
        if not ready:
            raise ValueError(f"`when` goes in a circle: {', '.join(waiting)}")
        done += ready
        waiting = [name for name in waiting if name not in ready]
    return done


def is_active(parameter: Parameter, assignment: Mapping[str, Any]) -> bool:
    """Whether all conditions of the parameter's `when` are met."""
    return all(assignment.get(name) in allowed for name, allowed in parameter.when.items())


def meets_rules(space: SearchSpace, assignment: Mapping[str, Any]) -> bool:
    """Whether the combination is one that may be trained."""
    values = {name: label_of(value) for name, value in assignment.items()}
    return all(rule.holds(values) for rule in space.parsed_rules)


def grid_values(name: str, parameter: Parameter) -> tuple[Any, ...]:
    """The values a grid visits: the listed ones, or `steps` points of a range (geometric with `log`)."""
    if not parameter.is_range:
        return parameter.choices
    low, high, steps = parameter.min, parameter.max, parameter.steps
    assert low is not None and high is not None and steps is not None
    if parameter.log:
        points = [math.exp(math.log(low) + (math.log(high) - math.log(low)) * i / (steps - 1)) for i in range(steps)]
    else:
        points = [low + (high - low) * i / (steps - 1) for i in range(steps)]
    if is_numeric(name) is int:
        return tuple(dict.fromkeys(round(point) for point in points))
    return tuple(float(f"{point:.6g}") for point in points)


def combinations(space: SearchSpace, stratum: Stratum) -> Iterator[Assignment]:
    """Every valid combination of a stratum.

    A range without `steps` counts as one choice (None), and a rule that depends on it as met: some value may meet it.
    """
    order = in_order(space.parameters)
    rules = space.parsed_rules

    def extend(assignment: Assignment, rest: Sequence[str]) -> Iterator[Assignment]:
        if not rest:
            labelled = {name: label_of(value) for name, value in assignment.items()}
            undetermined = {name for name in open_ranges(space) if is_active(space.parameters[name], assignment)}
            if all(rule.names & undetermined or rule.holds(labelled) for rule in rules):
                yield assignment
            return
        name, parameter = rest[0], space.parameters[rest[0]]
        values: tuple[Any, ...] = (None,)
        if is_active(parameter, assignment):
            values = (None,) if name in open_ranges(space) else grid_values(name, parameter)
        for value in values:
            yield from extend({**assignment, name: value}, rest[1:])

    yield from extend(dict(stratum.values), order)


def open_ranges(space: SearchSpace) -> frozenset[str]:
    """Parameters that are a range without `steps`; with one of them, combinations cannot be listed."""
    return frozenset(name for name, p in space.parameters.items() if p.is_range and p.steps is None)


def at_lower_ends(space: SearchSpace, cell: Assignment) -> Assignment:
    """A combination with every open range at its lower end: one that can be resolved."""
    open_here = {name for name in open_ranges(space) if is_active(space.parameters[name], cell)}
    return {name: space.parameters[name].min if name in open_here else value for name, value in cell.items()}


ROW_WORDS = ("name", "mark")  # of a baseline row, beside its values


def baselines_of(space: SearchSpace, stratum: Stratum) -> list[tuple[Assignment, str | None]]:
    """The baseline rows that apply to a stratum, as (parameter values, mark)."""
    return [
        ({name: v for name, v in row.items() if name not in ROW_WORDS and name not in stratum.values}, row.get("mark"))
        for row in baseline_rows(space, stratum)
    ]


def baseline_rows(space: SearchSpace, stratum: Stratum) -> list[dict[str, Any]]:
    """The baseline rows that apply to a stratum, as they stand in the file."""
    return [
        row for row in space.baselines if all(row.get(axis, value) == value for axis, value in stratum.values.items())
    ]


def resolve(space: SearchSpace, facts: DataFacts, assignment: Assignment, *, seed: int) -> TrialSpec:
    """One combination as a TrialSpec; names in the file's vocabulary go to the part of the spec that owns them."""
    chosen = {name: check_value(name, value, space) for name, value in assignment.items() if value is not None}
    data = {name: value for name, value in chosen.items() if name in DATA_KNOBS}
    patch_px = data.pop("patch_px", DEFAULT_PATCH_PX)
    cut = Cut(
        mpp=data.pop("mpp", None),
        patch_px=patch_px,
        input_px=data.pop("input_px", patch_px),
        stride=data.pop("stride", patch_px),
        remainder=data.pop("remainder", "shift"),
    )
    labels = space.labels[data.pop("labels", next(iter(space.labels)))]
    dataset = DatasetVariant(
        root=facts.root,
        data_hash=facts.data_hash,
        source=facts.source,  # type: ignore[arg-type]  # pydantic checks the literal
        source_ids=facts.source_ids,
        patient_regex=space.data.patient_regex,
        quarantined=facts.quarantined,
        labels=labels,
        min_share=data.pop("min_share", space.data.min_share),
        cut=cut,
        split=facts.split,
        **data,
    )
    model = ModelSpec(**{name: value for name, value in chosen.items() if name in MODEL_KNOBS})
    fixed = {name: getattr(space.train, name) for name in TRAIN_KNOBS}
    train = TrainSpec(**{**fixed, **{name: value for name, value in chosen.items() if name in TRAIN_KNOBS}})
    return TrialSpec(
        dataset=dataset, model=model, train=train, objective=space.objective, seed=seed, keep_epochs=space.keep_epochs
    )
