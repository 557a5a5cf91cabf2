"""Claims: `encoder_weights=imagenet > encoder_weights=random on val/yardstick by 0.01`, read and checked.

A side is conditions on strata axes and parameters, `name=value` with commas between, or the name of a baseline, which
stands for all its values. `where ...` at the end restricts both sides. The two sides are trained in cells that agree in
everything else, with the same fresh seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from harness.config.base import choose_from
from harness.config.cells import ROW_WORDS, in_order, is_active, meets_rules
from harness.config.knobs import label_of
from harness.config.space import DEFAULT_SEEDS, SearchSpace

_FORM = re.compile(
    r"^\s*(?P<better>.+?)\s*>\s*(?P<worse>.+?)\s+on\s+(?P<metric>\S+)\s+by\s+(?P<margin>\S+)(?:\s+where\s+(?P<where>.+))?\s*$"
)
EXAMPLE = "encoder_weights=imagenet > encoder_weights=random on val/yardstick by 0.01"
# Scores with counts per patient, so that a difference has an interval; of all pixels, or of mixed patches.
METRICS = re.compile(r"^val/(non_homogeneous/)?(yardstick|(iou|dice)(_[A-Za-z0-9._-]+)?)$")


@dataclass(frozen=True, slots=True)
class Claim:
    """`better` > `worse` on `metric` by more than `margin`, both where `where` holds."""

    text: str
    better: Mapping[str, Any]
    worse: Mapping[str, Any]
    metric: str
    margin: float
    where: Mapping[str, Any]


def parse_claim(text: str, space: SearchSpace) -> Claim:
    """A claim about a space; ValueError says what is not understood and what is allowed."""
    match = _FORM.match(text)
    if match is None:
        raise ValueError(f"not a claim: {text!r}; write e.g. `{EXAMPLE}`")
    if METRICS.match(match["metric"]) is None:
        raise ValueError(
            f"{match['metric']!r} is no score with counts per patient; choose val/iou, val/dice, val/yardstick, "
            "one class such as val/dice_tumor, or val/non_homogeneous/..."
        )
    try:
        margin = float(match["margin"])
    except ValueError:
        margin = float("nan")
    if not -1 < margin < 1:
        raise ValueError(f"{match['margin']!r} is not a margin; scores differ by less than 1, such as 0.01")
    sides = [_side(match[name], space) for name in ("better", "worse")]
    where = _conditions(match["where"], space) if match["where"] else {}
    claim = Claim(text, sides[0], sides[1], match["metric"], margin, where)
    _check(claim, space)
    return claim


def claims_of(space: SearchSpace) -> tuple[Claim, ...]:
    """The claims of a checked space."""
    return tuple(parse_claim(text, space) for text in space.claims)


def check_claims(space: SearchSpace) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where, and what is wrong and allowed."""
    seen: set[str] = set()
    for index, text in enumerate(space.claims):
        if text in seen:
            yield ("claims", index), "is listed twice"
        seen.add(text)
        try:
            parse_claim(text, space)
        except ValueError as error:
            yield ("claims", index), str(error)


def fresh_seeds(space: SearchSpace) -> tuple[int, ...]:
    """The seeds that claims are trained with, in order: those of `replicate:` first, so that runs are shared."""
    first = space.replicate.seeds if space.replicate else DEFAULT_SEEDS
    further = (seed for seed in count(max(first) + 1))
    given = (seed for seeds in (first, further) for seed in seeds)
    return tuple(islice((seed for seed in given if seed != space.seed), space.claim_seeds))


def with_side(
    space: SearchSpace, template: Mapping[str, Any], side: Mapping[str, Any], *, rest: Mapping[str, Any]
) -> dict[str, Any] | None:
    """A combination with a side's values put in; None where there is no valid one.

    A parameter that only becomes active by them takes its value from `rest`, else its only one.
    """
    values = {**template, **side}
    for name in in_order(space.parameters):
        parameter = space.parameters[name]
        if not is_active(parameter, values):
            if name in side and side[name] is not None:
                return None
            values[name] = None
        elif values.get(name) is None:
            only = parameter.choices[0] if len(parameter.choices) == 1 else None
            values[name] = rest.get(name) if rest.get(name) is not None else only
            if values[name] is None:
                return None
    return values if set(space.strata) <= set(values) and meets_rules(space, values) else None


def _side(text: str, space: SearchSpace) -> dict[str, Any]:
    rows = {str(row["name"]): row for row in space.baselines if "name" in row}
    if "=" in text:
        return _conditions(text, space)
    if text not in rows:
        known = choose_from(text, rows) if rows else "no baseline has a `name:`"
        raise ValueError(f"{text!r} is neither NAME=VALUE nor the name of a baseline; {known}")
    return {name: value for name, value in rows[text].items() if name not in ROW_WORDS}


def _conditions(text: str, space: SearchSpace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in re.split(r"\s*,\s*|\s+and\s+", text.strip()):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or not value or value.startswith("="):
            raise ValueError(f"{part!r} is not a condition; write NAME=VALUE, with commas between")
        if name in found:
            raise ValueError(f"{name!r} is fixed twice")
        found[name] = _value(name, value, space)
    return found


def _value(name: str, text: str, space: SearchSpace) -> Any:
    """The listed value that is written so; of a range, the number."""
    parameter = space.parameters.get(name)
    if parameter is None and name not in space.strata:
        raise ValueError(
            f"{name!r} is not a strata axis or parameter; {choose_from(name, [*space.strata, *space.parameters])}"
        )
    if parameter is not None and parameter.is_range:
        low, high = parameter.min, parameter.max
        assert low is not None and high is not None
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"{text!r} is outside the range of {name}, {low:g} to {high:g}")
        return number
    choices = space.strata[name] if parameter is None else parameter.choices
    for choice in choices:
        if _is_written(choice, text):
            return choice
    raise ValueError(f"{text!r} is not a value of {name}; {choose_from(text, [str(label_of(c)) for c in choices])}")


def _is_written(choice: Any, text: str) -> bool:
    label = label_of(choice)
    if isinstance(label, bool):
        return text == str(label).lower()
    if isinstance(label, int | float):
        try:
            return float(text) == label
        except ValueError:
            return False
    return text in (str(label), f'"{label}"', f"'{label}'")


def _check(claim: Claim, space: SearchSpace) -> None:
    """ValueError for a claim that nothing could decide."""
    for side in (claim.better, claim.worse):
        clash = sorted(name for name in side if name in claim.where and side[name] != claim.where[name])
        if clash:
            raise ValueError(f"`where` contradicts a side about {clash[0]!r}")
    names = {*claim.better, *claim.worse}
    if all(name in claim.better and name in claim.worse and claim.better[name] == claim.worse[name] for name in names):
        raise ValueError("both sides are the same")
    for name in sorted(names - set(claim.where)):
        if (name in claim.better) != (name in claim.worse) and _is_open(name, claim, space):
            raise ValueError(f"only one side says what {name!r} is; say it on both, or in `where`")
    if "labels" in names and claim.better["labels"] != claim.worse["labels"] and not claim.metric.endswith("yardstick"):
        raise ValueError(f"scores of two label maps compare by the yardstick alone, not by {claim.metric}")


def _is_open(name: str, claim: Claim, space: SearchSpace) -> bool:
    """Whether the side that is silent about a parameter leaves a choice: it is active there, with several values."""
    silent = claim.worse if name in claim.better else claim.better
    parameter = space.parameters.get(name)
    return parameter is None or (is_active(parameter, {**claim.where, **silent}) and len(parameter.choices) != 1)
