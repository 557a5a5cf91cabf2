"""YAML 1.2 in, plain values and the line of each out. Whoever has models alone need not load a reader of YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedOrderedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from harness.config.base import Document, KeyPath, visible
from harness.errors import BadInput

# A search space is a page of text; anything larger is not one (and aliases could make it explode in memory).
MAX_YAML_BYTES = 1_000_000


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
