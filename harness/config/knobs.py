"""Knobs: every name that `strata:`, `parameters:`, `baselines:` and rules may use, and the values it takes.

A knob is a field of the spec it sets, so its type, bounds and default are written once, there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from harness.config.base import choose_from
from harness.config.imported import ImportedPart
from harness.config.space import SearchSpace
from harness.config.spec import Cut, DatasetVariant, ModelSpec, TrainSpec

# `input_px` and `stride` default to patch_px, so unlike in Cut they may be left out.
_OWNERS: dict[str, type[BaseModel]] = {
    "patches": DatasetVariant,
    "min_share": DatasetVariant,
    **dict.fromkeys(Cut.model_fields, Cut),
    **dict.fromkeys(ModelSpec.model_fields, ModelSpec),
    **dict.fromkeys(TrainSpec.model_fields, TrainSpec),
}
KNOBS: frozenset[str] = frozenset({"labels", *_OWNERS})
DATA_KNOBS: frozenset[str] = frozenset({"labels", "patches", "min_share", *Cut.model_fields})
MODEL_KNOBS: frozenset[str] = frozenset(ModelSpec.model_fields)
TRAIN_KNOBS: frozenset[str] = frozenset(TrainSpec.model_fields)

# Knobs whose value may be a function of one's own.
IMPORTABLE: frozenset[str] = frozenset({"architecture", "loss", "augment"})

_LITERAL = ("literal_error", "enum")
# {knob: adapter}: made once, they take a few milliseconds each.
_ADAPTERS: dict[str, TypeAdapter[Any]] = {}


def check_value(knob: str, value: Any, space: SearchSpace) -> Any:
    """The value as the knob's type; ValueError names what is allowed. Label maps and imported parts are the file's."""
    if knob == "labels":
        if not isinstance(value, str) or value not in space.labels:
            raise ValueError(f"{value!r} is not a label map of this file; {choose_from(value, space.labels)}")
        return value
    if knob in IMPORTABLE and isinstance(value, str) and value in space.imports:
        return space.imports[value]
    try:
        checked = _adapter(knob).validate_python(value)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        if item["type"] in _LITERAL:
            allowed = [part.strip("' ") for part in item["ctx"]["expected"].replace(" or ", ", ").split(",")]
            raise ValueError(f"{value!r} is not allowed; {choose_from(value, allowed)}") from None
        text = item["msg"]
        raise ValueError(f"{value!r}: {text[0].lower()}{text[1:]}") from None
    if _is_quoted(value) and not _is_quoted(checked):
        # "64" would train as 64, but a rule about 64 would not know it.
        raise ValueError(f"{value!r}: write numbers as numbers, without quotes")
    return checked


def _is_quoted(value: Any) -> bool:
    """Whether a text, or true or false, stands anywhere in a value."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, str | bool) or any(map(_is_quoted, inside))


def is_numeric(knob: str) -> type[int] | type[float] | None:
    """int or float for knobs that take a range (`min`, `max`), else None."""
    for number in (int, float):
        try:
            if knob != "labels" and type(_adapter(knob).validate_python(_sample(knob, number), strict=True)) is number:
                return number
        except ValidationError:
            continue
    return None


def label_of(value: Any) -> str | int | float | bool | None:
    """A value as Optuna, MLflow and people see it: scalars as they are, `cross_entropy+0.5*dice` for a weighted sum."""
    if isinstance(value, ImportedPart):
        return value.name
    if isinstance(value, Mapping):
        return "+".join(name if weight == 1 else f"{_short(weight)}*{name}" for name, weight in value.items())
    if isinstance(value, list | tuple):
        return ",".join(map(_short, value))
    return value  # type: ignore[no-any-return]  # the knobs' other values are scalars


def _short(item: object) -> str:
    return f"{item:g}" if isinstance(item, float) else str(item)


def _sample(knob: str, number: type[int] | type[float]) -> int | float:
    """A number inside the knob's bounds, if it takes numbers at all: its default, or a mid-sized value."""
    field = _OWNERS[knob].model_fields[knob]
    default = field.default
    if type(default) is number:
        return default
    return number(64) if number is int else 0.5


def _adapter(knob: str) -> TypeAdapter[Any]:
    if knob not in _ADAPTERS:
        field = _OWNERS[knob].model_fields[knob]
        bounded: Any = Annotated[(field.annotation, Field(), *field.metadata)]
        _ADAPTERS[knob] = TypeAdapter(bounded)
    return _ADAPTERS[knob]
