"""Loading a search space: overrides, structure, then meaning, with every mistake listed at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.base import (
    Document,
    KeyPath,
    choose_from,
    failing_paths,
    problems_of,
    with_override,
)
from harness.config.cells import baselines_of, combinations, in_order, is_active, meets_rules, strata_of
from harness.config.claims import check_claims
from harness.config.gather import gather_imports
from harness.config.knobs import KNOBS, TRAIN_KNOBS, check_value, is_numeric, label_of
from harness.config.rules import parse_rule
from harness.config.space import NAME_PATTERN, Parameter, SearchSpace
from harness.config.yaml_text import load_yaml, parse_value
from harness.errors import BadInput
from harness.files import safe_name

# Where in the file, and what is wrong and allowed.
Mistake = tuple[KeyPath, str]
# Rooms above this one bring what they know (architectures, scores) as further checks.
Check = Callable[[SearchSpace], Iterable[Mistake]]


def load_space(path: Path, *, overrides: Sequence[tuple[str, Any]] = (), checks: Sequence[Check] = ()) -> SearchSpace:
    """The search space in `path` with `overrides` (dotted key, value) on top; BadInput lists every mistake."""
    document = load_yaml(path)
    if "name" not in document.values:
        document = with_override(document, ("name",), safe_name(path.stem))
    for key, value in overrides:
        document = with_override(document, tuple(key.split(".")), value)
    return space_of(document, checks=checks, folders=(path.resolve().parent, Path.cwd()))


def parse_override(text: str) -> tuple[str, Any]:
    """`train.epochs=2` as ("train.epochs", 2)."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadInput(f"--set {text}: expected KEY=VALUE, such as train.epochs=2")
    return key.strip(), parse_value(value)


def space_of(document: Document, *, checks: Sequence[Check] = (), folders: Sequence[Path] = ()) -> SearchSpace:
    """A parsed document as a SearchSpace; BadInput lists every mistake of structure and of meaning.

    `folders` are where imported parts are looked for.
    """
    document, problems = gather_imports(document, folders)
    try:
        space = SearchSpace.model_validate(document.values)
    except ValidationError as error:
        problems += problems_of(document, error, SearchSpace)
        # Look past the broken places, so that mistakes of meaning elsewhere are listed in the same go.
        repaired, removed = _repaired(document.values, failing_paths(error))
        try:
            space = SearchSpace.model_validate(repaired)
        except ValidationError:
            raise BadInput(_in_line_order(document, problems)) from None
    else:
        removed = frozenset()
    for check in (*CHECKS, *checks):
        try:
            mistakes = list(check(space))
        except (ValueError, KeyError, TypeError, AttributeError):
            # A later check may trip over what an earlier one has already named.
            if not problems:
                raise
            continue
        problems += [
            document.problem(path, message)
            for path, message in mistakes
            if not removed & {*path, *message.split("`"), *message.split("'")}  # it only follows from another mistake
        ]
    problems = problems or [document.problem(path, message) for path, message in _check_combinations(space)]
    if problems:
        raise BadInput(_in_line_order(document, problems))
    return space


def _check_axes(space: SearchSpace) -> Iterator[Mistake]:
    for axis, values in space.strata.items():
        if axis not in KNOBS:
            yield ("strata", axis), f"unknown axis; {choose_from(axis, KNOBS)}"
            continue
        if axis in space.parameters:
            yield ("strata", axis), "is also in `parameters`; an axis is in one of them"
        yield from _check_values(space, ("strata", axis), axis, values)


def _check_parameters(space: SearchSpace) -> Iterator[Mistake]:
    if "architecture" not in space.parameters and "architecture" not in space.strata:
        yield ("parameters",), "`architecture` is missing; see `harness models`"
    for name, parameter in space.parameters.items():
        path: KeyPath = ("parameters", name)
        if name not in KNOBS:
            yield path, f"unknown parameter; {choose_from(name, KNOBS)}"
            continue
        if name in TRAIN_KNOBS and name in space.train.model_fields_set - {"monitor"}:
            yield path, "is also set in `train`; keep one of the two"
        if parameter.is_range:
            yield from _check_range(space, path, name, parameter, grid=space.method == "grid")
        else:
            single = parameter.values is None
            yield from _check_values(
                space, path if single else (*path, "values"), name, parameter.choices, single=single
            )
        yield from _check_when(space, name, parameter)
    try:
        in_order(space.parameters)
    except ValueError as error:
        yield ("parameters",), str(error)


def _check_values(
    space: SearchSpace, path: KeyPath, knob: str, values: Sequence[Any], *, single: bool = False
) -> Iterator[Mistake]:
    seen: set[object] = set()
    for index, value in enumerate(values):
        at = path if single else (*path, index)
        if value is None:
            yield at, "null stands for an inactive parameter and cannot be searched; leave it out, or use `when`"
            continue
        try:
            label = label_of(check_value(knob, value, space))
        except ValueError as error:
            yield at, str(error)
            continue
        if (type(label), label) in seen:
            yield at, f"{label!r} is listed twice"
        seen.add((type(label), label))


def _check_range(
    space: SearchSpace, path: KeyPath, name: str, parameter: Parameter, *, grid: bool
) -> Iterator[Mistake]:
    number = is_numeric(name)
    if number is None:
        yield path, "takes `values`, not a range: it is not a number"
        return
    for end in ("min", "max"):
        bound = getattr(parameter, end)
        try:
            check_value(name, number(bound), space)
        except ValueError as error:
            yield (*path, end), str(error)
        if number is int and bound != int(bound):
            yield (*path, end), f"{bound:g} is not an integer"
    if grid and parameter.steps is None:
        yield path, "`method: grid` needs `steps:` beside min and max"


def _check_when(space: SearchSpace, name: str, parameter: Parameter) -> Iterator[Mistake]:
    known: dict[str, tuple[Any, ...]] = dict(space.strata)
    known |= {other: p.choices for other, p in space.parameters.items() if other != name and not p.is_range}
    for other, values in parameter.when.items():
        path: KeyPath = ("parameters", name, "when", other)
        if other not in known:
            yield path, f"is not a strata axis or a listed parameter; {choose_from(other, known)}"
            continue
        for value in values:
            if value not in known[other]:
                yield (
                    path,
                    f"{value!r} is not a value of {other}; {choose_from(value, map(str, known[other]))}",
                )


def _check_rules(space: SearchSpace) -> Iterator[Mistake]:
    known: dict[str, tuple[Any, ...]] = {
        **space.strata,
        **{name: p.choices for name, p in space.parameters.items()},
    }
    for index, text in enumerate(space.rules):
        path: KeyPath = ("rules", index)
        try:
            rule = parse_rule(text)
        except ValueError as error:
            yield path, str(error)
            continue
        for name in sorted(rule.names - set(known)):
            yield path, f"{name!r} is not a strata axis or parameter; {choose_from(name, known)}"
        for name, value in rule.compared():
            choices = [label_of(choice) for choice in known.get(name, ())]
            if choices and value is not None and value not in choices:
                yield path, f"{value!r} is not a value of {name}; {choose_from(value, map(str, choices))}"


def _check_baselines(space: SearchSpace) -> Iterator[Mistake]:
    for index, row in enumerate(space.baselines):
        for name, value in row.items():
            path: KeyPath = ("baselines", index, name)
            if name == "mark":
                if value != "in_paper":
                    yield path, f"{value!r} is not a mark; the one mark is in_paper"
            elif name == "name":
                yield from _check_row_name(space, index, value)
            elif name in space.strata:
                if value not in space.strata[name]:
                    yield (
                        path,
                        f"{value!r} is not in strata; {choose_from(value, map(str, space.strata[name]))}",
                    )
            elif name not in space.parameters:
                yield (
                    path,
                    f"is not a parameter or strata axis; {choose_from(name, [*space.parameters, *space.strata])}",
                )
            elif (reason := _outside(space.parameters[name], value)) is not None:
                yield path, f"{value!r} {reason}"
        alone = space.model_copy(update={"baselines": (row,)})
        rows = [(stratum, found[0]) for stratum in strata_of(space) for found in baselines_of(alone, stratum)]
        if not rows:
            yield ("baselines", index), "belongs to no stratum"
        for stratum, given in rows:
            whole = dict.fromkeys(space.parameters) | dict(stratum.values) | given
            active = [name for name, p in space.parameters.items() if is_active(p, whole) and len(p.choices) != 1]
            if all(name in given for name in active) and not meets_rules(space, whole):
                yield ("baselines", index), f"breaks a rule in stratum {stratum.name}, so it could never run"
    for stratum in strata_of(space):
        count = len(baselines_of(space, stratum))
        if count > space.budget.trials:
            yield (
                ("baselines",),
                f"{count} rows in stratum {stratum.name}, more than budget.trials, {space.budget.trials}",
            )
            break


def _check_row_name(space: SearchSpace, index: int, name: Any) -> Iterator[Mistake]:
    """A baseline's name is one word, so that a claim can speak of it."""
    path: KeyPath = ("baselines", index, "name")
    if not isinstance(name, str) or re.fullmatch(NAME_PATTERN, name) is None:
        yield path, f"{name!r} is not a name; use letters, digits, dots, dashes and underscores"
    elif any(row.get("name") == name for row in space.baselines[:index]):
        yield path, f"{name!r} names an earlier row, too"


def _outside(parameter: Parameter, value: Any) -> str | None:
    """Why a baseline's value cannot be told to the sampler, or None."""
    if parameter.is_range:
        assert parameter.min is not None and parameter.max is not None
        inside = isinstance(value, int | float) and parameter.min <= value <= parameter.max
        return None if inside else f"is outside {parameter.min:g} to {parameter.max:g}"
    return None if value in parameter.choices else f"is not listed; {choose_from(value, map(str, parameter.choices))}"


def _check_space(space: SearchSpace) -> Iterator[Mistake]:
    if space.prune.type != "none" and space.prune.unit == "epochs" and space.prune.min_epochs > space.train.epochs:
        yield (
            ("prune", "min_epochs"),
            f"{space.prune.min_epochs} is more than train.epochs, {space.train.epochs}",
        )
    for axis, values in space.strata.items():
        if not values:
            yield ("strata", axis), "has no values"
    if space.replicate is not None and space.seed in space.replicate.seeds:
        yield ("replicate", "seeds"), f"{space.seed} is the search's own `seed`; replicates need fresh ones"
    split = space.data.split
    if split.validation + split.test >= 1:
        yield ("data", "split"), "validation and test together leave nothing to train on"


def _check_source(space: SearchSpace) -> Iterator[Mistake]:
    """Reference rows name label maps of this file, and items of the source settings that a trial can have."""
    said: list[tuple[KeyPath, str, Any]] = [
        (("references", index, "labels"), "labels", reference.labels)
        for index, reference in enumerate(space.references)
    ]
    for index, item in enumerate(space.reproduces):
        said += [(("reproduces", index, "trial", name), name, value) for name, value in item.trial.items()]
    for path, name, value in said:
        if name not in KNOBS:
            yield path, f"unknown setting; {choose_from(name, KNOBS)}"
            continue
        try:
            check_value(name, value, space)
        except ValueError as error:
            yield path, str(error)


def _check_combinations(space: SearchSpace) -> Iterator[Mistake]:
    """Only asked of a space without other mistakes, which would make every combination look impossible."""
    for stratum in strata_of(space):
        if next(combinations(space, stratum), None) is None:
            yield ("rules",), f"no combination of stratum {stratum.name} meets the rules"


CHECKS: tuple[Check, ...] = (
    _check_axes,
    _check_parameters,
    _check_rules,
    _check_baselines,
    _check_space,
    _check_source,
    check_claims,
)

# What stands in for a required section that is itself broken.
_STAND_INS: dict[str, Any] = {
    "name": "unnamed",
    "data": {"root": "."},
    "labels": {"unreadable": {"any": [1]}},
}


def _repaired(values: dict[str, Any], paths: Sequence[KeyPath]) -> tuple[dict[str, Any], frozenset[str | int]]:
    """A copy of the nested values without what lies at `paths`, and the names taken out."""
    copy = _copied(values)
    removed: set[str | int] = set()
    for path in paths:
        holder, key, node = copy, path[0] if path else "", copy
        for part in path:
            if not isinstance(node, dict) or part not in node:
                break
            holder, key, node = node, part, node[part]
        if key in holder:
            del holder[key]
            removed.add(key)
    for name, stand_in in _STAND_INS.items():
        copy.setdefault(name, stand_in)
    return copy, frozenset(removed)


def _copied(value: Any) -> Any:
    return {key: _copied(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _in_line_order(document: Document, problems: Sequence[str]) -> list[str]:
    def key(problem: str) -> tuple[int, str]:
        number = problem.removeprefix(document.source).lstrip(":").split(":", 1)[0]
        return (int(number) if number.isdigit() else 0, problem)

    return sorted(dict.fromkeys(problems), key=key)
