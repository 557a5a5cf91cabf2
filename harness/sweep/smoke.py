"""`--smoke`: the same space, small enough to end in minutes on two cores, with every part of it touched once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.config.cells import (
    Assignment,
    Stratum,
    baseline_rows,
    combinations,
    is_active,
    meets_rules,
    open_ranges,
    strata_of,
)
from harness.config.claims import check_claims
from harness.config.knobs import is_numeric, label_of
from harness.config.space import Parameter, Replicate, SearchSpace
from harness.errors import BadInput
from harness.models.table import RANDOM, architectures, is_on_hub

EPOCHS = 2  # the second one exercises schedule, best epoch and resume
ROIS = 10
INPUT_PX = 64
BATCH_SIZE = 8


def shrink(space: SearchSpace) -> tuple[SearchSpace, list[str]]:
    """The shrunk space, and what was changed, for people.

    Keeps every stratum, every baseline and every listed value at least once; hub weights become random ones.
    BadInput when the rules leave nothing of the shrunk space.
    """
    notes = [f"smoke: {EPOCHS} epochs, at most {ROIS} regions, patches shown to the network at {_input_px(space)} px"]
    strata = {axis: _smaller_all(axis, values) for axis, values in space.strata.items()}
    parameters = {name: _smaller_parameter(name, parameter) for name, parameter in space.parameters.items()}
    if _weights(strata, parameters) != _weights(space.strata, space.parameters):
        notes.append("smoke: trains from random weights where the space asks for pretrained ones from the hub")
    if "input_px" not in parameters and "input_px" not in strata:
        parameters["input_px"] = Parameter(value=_input_px(space))
    limit, phantom = min(ROIS, space.data.limit_rois or ROIS), space.data.phantom.model_copy(update={"patients": 8})
    small = space.model_copy(
        update={
            "name": f"{space.name[:58]}-smoke",
            "strata": strata,
            "parameters": parameters,
            "baselines": tuple({name: _smaller(name, v) for name, v in row.items()} for row in space.baselines),
            "data": space.data.model_copy(update={"limit_rois": limit, "phantom": phantom}),
            "train": space.train.model_copy(
                update={name: _smaller(name, getattr(space.train, name)) for name in ("epochs", "batch_size")}
            ),
            "budget": space.budget.model_copy(update={"wall": None, "gpu_hours": None}),
            "prune": space.prune.model_copy(update={"type": "none"}),
            "replicate": _smaller_replicate(space.replicate),
        }
    )
    rows = {stratum.name: covering_rows(small, stratum) for stratum in strata_of(small)}
    empty = [name for name, found in rows.items() if not found]
    if empty:
        raise BadInput(f"--smoke leaves no combination of stratum {empty[0]} that meets the rules")
    baselines = tuple({**stratum.values, **row} for stratum in strata_of(small) for row in rows[stratum.name])
    budget = small.budget.model_copy(update={"trials": max(len(found) for found in rows.values())})
    small = small.model_copy(update={"baselines": baselines, "budget": budget, "claims": ()})
    return _with_claims(small, space.claims), notes


def _with_claims(small: SearchSpace, claims: Iterable[str]) -> SearchSpace:
    """The claims that still say something of the shrunk space, with one seed a side: the way is walked once."""
    kept = [text for text in claims if not list(check_claims(small.model_copy(update={"claims": (text,)})))]
    return small.model_copy(update={"claims": tuple(kept), "claim_seeds": 1})


def _smaller_replicate(replicate: Replicate | None) -> Replicate | None:
    """One replicate a stratum: the way is walked once."""
    return None if replicate is None else Replicate(top=1, seeds=replicate.seeds[:1])


def covering_rows(space: SearchSpace, stratum: Stratum) -> list[Assignment]:
    """Few rows in which every value that the stratum can take occurs: its baselines, then greedily the rest."""
    cells = list(combinations(space, stratum))
    missing = {pair for cell in cells for pair in _pairs(cell)}
    rows = [{k: v for k, v in row.items() if k not in stratum.values} for row in baseline_rows(space, stratum)]
    for row in rows:
        missing -= set(_pairs(row))
    while missing:
        # The first of the best: the order of the file decides, so that the same file gives the same rows.
        best = max(cells, key=lambda cell: len(missing & set(_pairs(cell))))
        missing -= set(_pairs(best))
        rows.append(_row(space, stratum, best))
    return rows


def _row(space: SearchSpace, stratum: Stratum, cell: Assignment) -> Assignment:
    """A cell as a baseline row: parameters only, without the inactive ones; ranges where the rules are met."""
    fixed = {name: value for name, value in cell.items() if name in space.parameters and value is not None}
    ranges = [name for name in open_ranges(space) if is_active(space.parameters[name], cell)]
    for share in _SHARES:
        row = fixed | {name: _at(name, space.parameters[name], share) for name in ranges}
        if meets_rules(space, cell | row):
            return row
    return fixed  # the sampler draws until the rules are met


# From the middle of a range outwards.
_SHARES = (0.5, 0.25, 0.75, 0.1, 0.9, 0.0, 1.0)


def _at(name: str, parameter: Parameter, share: float) -> float | int:
    """The point of a range that so large a share of it lies below."""
    low, high = parameter.min, parameter.max
    assert low is not None and high is not None
    value = low * (high / low) ** share if parameter.log else low + (high - low) * share
    return round(value) if is_numeric(name) is int else min(max(value, low), high)


def _pairs(cell: Assignment) -> Iterable[tuple[str, Any]]:
    return [(name, label_of(value)) for name, value in cell.items() if value is not None]


def _input_px(space: SearchSpace) -> int:
    """The smallest usual side that every architecture of the space takes."""
    names = space.strata.get("architecture") or space.parameters["architecture"].choices
    return max([INPUT_PX, *(architectures()[name].min_input_px for name in names if name in architectures())])


def _smaller(knob: str, value: Any) -> Any:
    """A value as --smoke trains it."""
    if knob == "epochs":
        return min(EPOCHS, value)
    if knob == "batch_size":
        return min(BATCH_SIZE, value)
    if knob == "encoder_weights":
        return RANDOM if is_on_hub(value) else value
    return value


def _smaller_all(knob: str, values: Iterable[Any]) -> tuple[Any, ...]:
    found: list[Any] = []
    for value in values:
        if (smaller := _smaller(knob, value)) not in found:
            found.append(smaller)
    return tuple(found)


def _smaller_parameter(name: str, parameter: Parameter) -> Parameter:
    when = {other: _smaller_all(other, values) for other, values in parameter.when.items()}
    if parameter.is_range and name in ("epochs", "batch_size"):
        return Parameter(value=_smaller(name, round(parameter.min or 0) or 1), when=when)
    if parameter.is_range:
        return parameter.model_copy(update={"when": when})
    return Parameter(values=_smaller_all(name, parameter.choices), when=when)


def _weights(strata: Mapping[str, tuple[Any, ...]], parameters: Mapping[str, Parameter]) -> set[Any]:
    knob = "encoder_weights"
    return {*strata.get(knob, ()), *(parameters[knob].choices if knob in parameters else ())}
