"""`--smoke`: the same space, small enough to end in minutes on two cores, with every part of it touched once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from harness.config.cells import Assignment, Stratum, baselines_of, combinations, strata_of
from harness.config.knobs import label_of
from harness.config.space import Parameter, SearchSpace
from harness.models.table import architectures

EPOCHS = 2  # the second one exercises schedule, best epoch and resume
ROIS = 10
INPUT_PX = 64
BATCH_SIZE = 8


def shrink(space: SearchSpace) -> tuple[SearchSpace, list[str]]:
    """The shrunk space, and what was changed, for people.

    Keeps every stratum, every baseline and every listed value at least once; hub weights become random ones.
    """
    notes = [f"smoke: {EPOCHS} epochs, at most {ROIS} regions, patches shown to the network at {_input_px(space)} px"]
    offline, weights_changed = _without_hub(space)
    if weights_changed:
        notes.append("smoke: trains from random weights where the space asks for pretrained ones from the hub")
    parameters = {name: _fixed_training(name, parameter) for name, parameter in offline.parameters.items()}
    if "input_px" not in parameters and "input_px" not in offline.strata:
        parameters["input_px"] = Parameter(value=_input_px(space))
    small = offline.model_copy(
        update={
            "name": f"{space.name[:58]}-smoke",
            "parameters": parameters,
            "data": space.data.model_copy(
                update={
                    "limit_rois": min(ROIS, space.data.limit_rois or ROIS),
                    "phantom": space.data.phantom.model_copy(update={"patients": 8}),
                }
            ),
            "train": offline.train.model_copy(
                update={
                    "epochs": min(EPOCHS, offline.train.epochs),
                    "batch_size": min(BATCH_SIZE, offline.train.batch_size),
                }
            ),
            "budget": offline.budget.model_copy(update={"wall": None, "gpu_hours": None}),
            "prune": offline.prune.model_copy(update={"type": "none"}),
        }
    )
    rows = {stratum.name: covering_rows(small, stratum) for stratum in strata_of(small)}
    baselines = tuple({**stratum.values, **row} for stratum in strata_of(small) for row in rows[stratum.name])
    trials = max(len(found) for found in rows.values())
    budget = small.budget.model_copy(update={"trials": trials})
    return small.model_copy(update={"baselines": baselines, "budget": budget}), notes


def covering_rows(space: SearchSpace, stratum: Stratum) -> list[Assignment]:
    """Few rows in which every value that the stratum can take occurs: its baselines, then greedily the rest."""
    cells = list(combinations(space, stratum))
    missing = {pair for cell in cells for pair in _pairs(cell)}
    rows = [row | ({"mark": mark} if mark else {}) for row, mark in baselines_of(space, stratum)]
    for row in rows:
        missing -= set(_pairs(row))
    while missing:
        # The first of the best: the order of the file decides, so that the same file gives the same rows.
        best = max(cells, key=lambda cell: len(missing & set(_pairs(cell))))
        missing -= set(_pairs(best))
        rows.append(_row(space, stratum, best))
    return rows


def _row(space: SearchSpace, stratum: Stratum, cell: Assignment) -> Assignment:
    """A cell as a baseline row: parameters only, without the inactive ones; ranges at their middle."""
    row = {}
    for name, parameter in space.parameters.items():
        if cell[name] is not None:
            row[name] = cell[name]
        elif parameter.is_range and parameter.min is not None and parameter.max is not None:
            low, high = parameter.min, parameter.max
            row[name] = math.sqrt(low * high) if parameter.log else (low + high) / 2
    return row


def _pairs(cell: Assignment) -> Iterable[tuple[str, Any]]:
    return [(name, label_of(value)) for name, value in cell.items() if value is not None]


def _input_px(space: SearchSpace) -> int:
    """The smallest usual side that every architecture of the space takes."""
    names = space.strata.get("architecture") or space.parameters["architecture"].choices
    return max(INPUT_PX, *(architectures()[name].min_input_px for name in names))


def _fixed_training(name: str, parameter: Parameter) -> Parameter:
    """Searched epochs and batch sizes are cut like fixed ones."""
    limit = {"epochs": EPOCHS, "batch_size": BATCH_SIZE}.get(name)
    if limit is None:
        return parameter
    return Parameter(value=min(limit, *(parameter.choices or (limit,))), when=parameter.when)


def _without_hub(space: SearchSpace) -> tuple[SearchSpace, bool]:
    """The space with hub weights replaced by random ones (local files stay)."""

    def offline(value: Any) -> Any:
        local = value in (None, "random") or str(value).endswith((".safetensors", ".pth"))
        return value if local else "random"

    def offline_all(values: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(offline(value) for value in values))

    knob = "encoder_weights"
    strata, parameters = dict(space.strata), dict(space.parameters)
    if knob in strata:
        strata[knob] = offline_all(strata[knob])
    if knob in parameters and parameters[knob].choices:
        chosen = parameters[knob]
        parameters[knob] = Parameter(values=offline_all(chosen.choices), when=chosen.when)
    baselines = tuple({**row, **({knob: offline(row[knob])} if knob in row else {})} for row in space.baselines)
    changed = space.model_copy(update={"strata": strata, "parameters": parameters, "baselines": baselines})
    return changed, (strata, parameters) != (space.strata, space.parameters)
