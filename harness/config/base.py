"""Frozen values of what a file says; every mistake with its file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

KeyPath = tuple[str | int, ...]


class Frozen(BaseModel):
    """Base of everything that enters from a file: immutable, unknown keys refused, no silent conversion of strings."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=False, validate_default=False, ser_json_inf_nan="null"
    )


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: plain values, and the line of every key and list item."""

    source: str
    values: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)

    def line(self, path: KeyPath) -> int | None:
        """The line of `path`, or of its nearest parent that stands in the file; None for a value set elsewhere."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def problem(self, path: KeyPath, message: str) -> str:
        """One line for people: `file:line: key.path: message`."""
        line = self.line(path)
        where = self.source if line is None else f"{self.source}:{line}"
        keys = ".".join(str(part) for part in path)
        # Keys and values come from the file: "\e[31m" in one would colour the terminal, "\n" would make two lines.
        return visible(f"{where}: {keys}: {message}" if keys else f"{where}: {message}")


def with_override(document: Document, path: KeyPath, value: Any) -> Document:
    """The document with one value set; sections on the way are made, and the line of the old value is forgotten."""
    if not path:
        raise ValueError("an override needs a key")
    values = dict(document.values)
    inner: dict[str, Any] = values
    for key in path[:-1]:
        child = inner.get(str(key))
        inner[str(key)] = dict(child) if isinstance(child, dict) else {}
        inner = inner[str(key)]
    inner[str(path[-1])] = value
    lines = {key: line for key, line in document.lines.items() if key[: len(path)] != path}
    return Document(source=document.source, values=values, lines=lines)


def problems_of(document: Document, error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Every mistake of a pydantic error as a line for people, with the nearest allowed name for an unknown key."""
    return [
        document.problem(_yaml_path(item["loc"]), _message(item, model)) for item in error.errors(include_url=False)
    ]


def failing_paths(error: ValidationError) -> list[KeyPath]:
    """The paths of a pydantic error, to look past them for further mistakes."""
    return [_yaml_path(item["loc"]) for item in error.errors(include_url=False)]


def choose_from(name: object, allowed: Iterable[str]) -> str:
    """`did you mean 'unet'? Choose from a, b, c`, shortened when there are many."""
    options = sorted({*allowed})
    starting = [option for option in options if len(str(name)) > 2 and option.startswith(str(name))]
    near = starting or difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    start = f"did you mean {near[0]!r}? Choose from" if near else "choose from"
    shown = ", ".join(options[:32]) + (f", ... ({len(options)} in all)" if len(options) > 32 else "")
    return f"{start} {shown}"


def _message(item: Any, model: type[BaseModel]) -> str:
    kind, loc = item["type"], item["loc"]
    if kind == "extra_forbidden":
        return f"unknown key; {choose_from(loc[-1], _sibling_keys(model, loc))}"
    if kind == "missing":
        return "is missing"
    if kind in ("literal_error", "enum"):
        allowed = [part.strip("' ") for part in item["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"{item['input']!r} is not allowed; {choose_from(item['input'], allowed)}"
    if kind == "value_error":
        return str(item["ctx"]["error"])
    text = item["msg"]
    shown = repr(item["input"])
    return f"{text[0].lower()}{text[1:]} (it is {shown[:60]})"


def _sibling_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys allowed where `loc` ends, found by walking the model's fields."""
    current: Any = model
    for part in loc[:-1]:
        if isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = _model_in(current.model_fields[str(part)].annotation)
        elif isinstance(current, type) and current.__name__ == part:
            continue
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return []


def _model_in(annotation: Any) -> Any:
    """The pydantic model inside an annotation such as `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _yaml_path(loc: Sequence[str | int]) -> KeyPath:
    return tuple(loc)


def visible(text: str) -> str:
    """Control characters as they are written in YAML: the escape character as \\x1b."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
