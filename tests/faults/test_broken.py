"""The slice of the failpoints in `make test`: kills that a sound harness survives, and broken ones do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.broken import VARIANTS, is_right


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_checks_find_every_deliberate_break_and_nothing_without_it() -> None:
    """SIGKILL at a chosen step, the same command again: each broken variant is caught for what it is."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.broken"], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [verdict["name"] for verdict in verdicts] == [variant.name for variant in VARIANTS]
    assert [verdict for verdict in verdicts if not is_right(verdict)] == []
