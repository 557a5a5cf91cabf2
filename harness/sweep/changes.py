"""Why a sweep is at another generation than last time, in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.config.imported import without_places
from harness.sweep.layout import GenerationFolder

# Of the space, but of no influence on what is computed.
APART = ("name", "budget", "replicate", "claims", "references", "reproduces", "export")
SHOWN = 5


def change_line(before: GenerationFolder | None, now: GenerationFolder) -> str | None:
    """`generation 2: differs from generation 1 in train.epochs`; None where the generation is that of last time."""
    if before is None or before.number == now.number or not before.space_file.exists():
        return None
    old, new = before.read_space(), now.read_space()
    keys = list(_differing(_space(old), _space(new)))
    if old["data"]["hash"] != new["data"]["hash"]:
        keys.append("the data themselves")
    elif old["data"]["split"] != new["data"]["split"]:
        keys.append("the split")
    what = ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")
    return f"generation {now.number}: differs from generation {before.number} in {what or 'nothing that is known'}"


def _space(document: Mapping[str, Any]) -> dict[str, Any]:
    space = without_places({key: value for key, value in document["space"].items() if key not in APART})
    return {**space, "data": {**space.get("data", {}), "root": None}}


def _differing(before: Any, after: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Dotted keys whose values differ; `source of tiny` for the hash of an imported part."""
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _differing(before.get(key), after.get(key), (*path, str(key)))
        return
    yield f"the source of {path[-2]}" if path[-1:] == ("sha256",) else ".".join(path)
