"""Plain data as columns of one file: what was read of finished trials, kept so that it need not be read again.

Such a file is a cache. Whoever reads it compares the stamps of the files that it was made from, and whoever has read
more than it holds writes it anew, in one step. It is numpy's .npz without pickled objects: integers and matrices need
no parsing, every member has a checksum, so that a damaged file is noticed, and numpy is loaded anyway where it is read
(Parquet would bring .3 s of pyarrow).
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import written_aside

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Columns = dict[str, NDArray[Any]]

DAMAGE = (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile)
# Fewer trials are read faster than a file is written, fsynced and kept up to date.
WORTH_KEEPING = 20
# A file of 10,000 trials is not written for each that ends.
SHARE_NEW = 0.02


def stamp_of(files: Iterable[str | Path]) -> bytes:
    """16 bytes that change when any of the files is replaced, appended to, made or removed."""
    seen = []
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116  # of 100,000 files: a Path for each doubles the time
            seen.append((status.st_size, status.st_mtime_ns, status.st_ino))
        except OSError:
            seen.append((-1, 0, 0))
    return hashlib.blake2b(repr(seen).encode(), digest_size=16).digest()


def worth_writing(kept: int, new: int) -> bool:
    """Whether a file that holds `kept` trials should be written again for `new` ones."""
    return new > 0 and kept + new >= WORTH_KEEPING and new >= SHARE_NEW * kept


def read_columns(file: Path, key: str) -> Columns | None:
    """The columns; None when there is no such file, or it is damaged, or was written under another `key`."""
    if not file.exists():
        return None
    import numpy as np

    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if unpacked(stored["key"]) != [key]:
                return None
            return {name: stored[name] for name in stored.files}
    except DAMAGE:
        return None


def write_columns(file: Path, key: str, columns: Mapping[str, NDArray[Any]]) -> None:
    """Replace the file in one step; where nothing may be written, nothing is."""
    import numpy as np

    with suppress(OSError), written_aside(file) as aside:
        np.savez(aside, allow_pickle=False, **{**columns, "key": packed([key])})


def packed(values: Sequence[Any]) -> NDArray[np.uint8]:
    """Anything that JSON holds, as bytes."""
    import numpy as np

    return np.frombuffer(json.dumps(values, separators=(",", ":")).encode(), dtype=np.uint8)


def unpacked(column: NDArray[np.uint8]) -> list[Any]:
    """What `packed` was given."""
    found: list[Any] = json.loads(column.tobytes())
    return found


def table(rows: Sequence[Mapping[str, Any]], name: str) -> Columns:
    """Dictionaries of JSON values as columns: every key's different values once, and which of them a row has.

    Values are told apart by their text, so that 1, 1.0 and true stay what they are; the order of keys is kept.
    """
    import numpy as np

    orders: dict[tuple[str, ...], int] = {}
    pools: dict[str, dict[str, int]] = {}  # by key: {a value's text: its place}
    values: dict[str, list[Any]] = {}
    ids, places = np.full((len(rows), 0), -1, dtype=np.int32), np.zeros(len(rows), dtype=np.int32)
    columns: dict[str, NDArray[np.int32]] = {}
    for index, row in enumerate(rows):
        places[index] = orders.setdefault(tuple(row), len(orders))
        for key, value in row.items():
            if key not in pools:
                pools[key], values[key], columns[key] = {}, [], np.full(len(rows), -1, dtype=np.int32)
            pool = pools[key]
            text = json.dumps(value) if isinstance(value, dict | list) else repr(value)  # of numbers the faster one
            if text not in pool:
                pool[text] = len(pool)
                values[key].append(value)
            columns[key][index] = pool[text]
    if columns:
        ids = np.stack(list(columns.values()), axis=1)
    known = packed([list(pools), list(values.values()), [list(order) for order in orders]])
    return {f"{name}.ids": ids, f"{name}.orders": places, f"{name}.values": known}


def rows_of(columns: Columns, name: str) -> Iterator[dict[str, Any]]:
    """The rows of `table`. Rows with an equal value share it."""
    keys, values, orders = unpacked(columns[f"{name}.values"])
    place = {key: index for index, key in enumerate(keys)}
    picks = [[(key, values[place[key]], place[key]) for key in order] for order in orders]
    for ids, order in zip(columns[f"{name}.ids"].tolist(), columns[f"{name}.orders"].tolist(), strict=True):
        yield {key: pool[ids[at]] for key, pool, at in picks[order]}
