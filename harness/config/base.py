"""YAML 1.2 in, frozen values out; every mistake with its file and line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedOrderedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from harness.errors import BadInput

# A search space is a page of text; anything larger is not one (and aliases could make it explode in memory).
MAX_YAML_BYTES = 1_000_000

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


def load_yaml(path: Path) -> Document:
    """Read one YAML 1.2 mapping. Duplicate keys, aliases and anything but a mapping are a BadInput naming the line."""
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_YAML_BYTES:  # asked first: a file of terabytes is not read to be refused
            raise BadInput(f"{path}: {size_bytes:,} bytes; a search space has at most {MAX_YAML_BYTES:,}")
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return parse_yaml(content.decode("utf-8"), source=str(path))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{path}:{line}: not UTF-8 text (byte {error.start})") from None


def parse_yaml(text: str, *, source: str) -> Document:
    """As `load_yaml`, from text; `source` names it in messages."""
    yaml = YAML(typ="rt", pure=True)
    yaml.version = (1, 2)
    try:
        for token in YAML(typ="rt", pure=True).scan(text):
            if (refused := _REFUSED_TOKENS.get(type(token).__name__)) is not None:
                raise BadInput(f"{source}:{token.start_mark.line + 1}: {refused}")
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise BadInput(f"{source}:{line}: not valid YAML: {_first_line(error.problem)}") from None
    except TypeError:  # ruamel's, from making a dictionary
        line = _line_of_a_collection_key(YAML(typ="rt", pure=True).compose(text)) or 1
        raise BadInput(f"{source}:{line}: a list or a mapping as a key is not allowed; write a plain word") from None
    except NotImplementedError as error:  # ruamel's, for two comments in one place
        found = re.search(r"line: (\d+)", str(error))
        line = int(found[1]) + 1 if found else 1
        raise BadInput(f"{source}:{line}: the reader loses its way in this comment; move or remove it") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{source}:1: not valid YAML: {_first_line(str(error))}") from None
    if not isinstance(loaded, CommentedMap):
        raise BadInput(f"{source}:1: expected `key: value` pairs at the top")
    lines: dict[KeyPath, int] = {}
    try:
        values = _plain(loaded, (), lines)
    except TypeError as error:
        line = max(lines.values(), default=1)
        raise BadInput(f"{source}:{line}: {error} is not allowed; write plain values, texts in quotes") from None
    return Document(source=source, values=values, lines=lines)


def parse_value(text: str) -> Any:
    """One YAML value, as written after `--set key=`."""
    yaml = YAML(typ="safe", pure=True)
    yaml.version = (1, 2)
    try:
        value = yaml.load(text)
    except (YAMLError, ValueError, TypeError, IndexError, NotImplementedError, RecursionError):
        return text  # what is not YAML is a text; the check of its key will say what is allowed
    return value if isinstance(value, dict | list | str | int | float | None) else text


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


def _plain(node: Any, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """ruamel's nodes as plain Python values; fills `lines` (counted from 1)."""
    if isinstance(node, CommentedOrderedMap):
        raise TypeError("a value of kind omap")
    if isinstance(node, CommentedMap):
        if node.merge:
            raise TypeError("a merge (<<)")
        result = {}
        for key, value in node.items():
            lines[(*path, str(key))] = node.lc.key(key)[0] + 1
            if isinstance(key, tuple | Mapping):
                raise TypeError("a list or a mapping as a key")
            result[str(key)] = _plain(value, (*path, str(key)), lines)
        return result
    if isinstance(node, CommentedSeq):
        for index in range(len(node)):
            lines[(*path, index)] = node.lc.item(index)[0] + 1
        return [_plain(value, (*path, index), lines) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, str) and "\0" in node:
        raise TypeError("a null character")  # no path or name can hold one
    for plain in (int, float, str):
        if isinstance(node, plain):
            return plain(node)
    raise TypeError(f"a value of kind {type(node).__name__.lower()}")


_REFUSED_TOKENS = {
    "AliasToken": "YAML aliases (*name) are not allowed; write the value out",
    "TagToken": "YAML tags (!name) are not allowed; write plain values, texts in quotes",
}


def _line_of_a_collection_key(node: Any) -> int | None:
    """The line of the first key of a composed document that is not a plain word."""
    if isinstance(node, MappingNode):
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                return int(key.start_mark.line) + 1
        inside = [value for _, value in node.value]
    else:
        inside = node.value if isinstance(node, SequenceNode) else []
    return next(filter(None, map(_line_of_a_collection_key, inside)), None)


def _first_line(text: str | None) -> str:
    return visible((text or "unreadable").strip().splitlines()[0][:200])


def visible(text: str) -> str:
    """Control characters as they are written in YAML: the escape character as \\x1b."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
