"""Writing files so that a reader never sees half of one, naming content by its hash, and sizes in words."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Reading it means setting it, for all threads of the process: once, before there are any.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


@contextmanager
def written_aside(path: Path, *, settle: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on leaving it is fsynced and renamed over `path`.

    After an exception `path` is as before and nothing is left aside. Without `settle` nothing is forced to disk:
    for files that nobody reads before `settle_tree` was called on their folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=path.suffix, dir=path.parent)
    os.close(descriptor)
    aside = Path(name)
    try:
        yield aside
        if settle:
            fsync_file(aside)
        # mkstemp makes files private (0600); results are meant to be shared with the group like any other.
        aside.chmod(0o666 & ~_UMASK)
        aside.replace(path)
        if settle:
            fsync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that there is no space (or quota, or allowed file size) left."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if "database or disk is full" in str(seen):  # SQLite, through whoever asked it
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def write_bytes(path: Path, content: bytes, *, settle: bool = True) -> None:
    """Replace `path` by `content` in one step."""
    with written_aside(path, settle=settle) as aside:
        aside.write_bytes(content)


def write_text(path: Path, content: str, *, settle: bool = True) -> None:
    """Replace `path` by `content` (UTF-8) in one step."""
    write_bytes(path, content.encode(), settle=settle)


def write_json(path: Path, value: Any, *, settle: bool = True) -> None:
    """Replace `path` by `value` as strict JSON in one step; NaN and infinity are a ValueError, never written."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n", settle=settle)


def read_json(path: Path) -> Any:
    """The JSON value in `path`."""
    return json.loads(path.read_text(encoding="utf-8"))


def settle_tree(folder: Path) -> None:
    """Force everything below `folder` to disk, each file and each folder once."""
    for inside, _, names in os.walk(folder):
        for name in names:
            fsync_file(Path(inside, name))
        fsync_folder(Path(inside))


def fsync_file(file: Path) -> None:
    """Force what was written to a file to disk, by whichever process."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def fsync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable (a rename lives in the directory, not in the file)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """Hex sha256 of a JSON-like value; equal values give equal fingerprints, whatever the order of their keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def safe_name(name: str) -> str:
    """`name` as a file name that is safe everywhere: letters, digits, '.', '_', '-'; runs of others become one '_'."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._") or "_"
    # Most file systems end at 255 bytes; a cut name keeps a piece of the hash so that two long ones stay apart.
    return safe if len(safe) <= 120 else f"{safe[:100]}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def size_text(size_bytes: float) -> str:
    """A size as people read it: `41.4 GB`, `380 MB`, `0.4 MB`."""
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.1f} GB"
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes >= 1e7 else f"{size_bytes / 1e6:.1f} MB"
