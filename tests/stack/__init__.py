"""Tests on the stack: real services on this machine, all stopped again in the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy.postgres import programs
from deploy.stack import Stack


@contextmanager
def fresh_stack() -> Iterator[Stack]:
    """A stack that is up, in a folder of its own that the account of PostgreSQL can pass through."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (scripts/test-programs installs it)")
    with TemporaryDirectory(prefix="stack-") as name:
        Path(name).chmod(0o711)
        stack = Stack(Path(name) / "stack")
        try:
            stack.up()
            yield stack
        finally:
            stack.down()
