"""A bench small enough to paint in a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.traps.bench import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Ten patients with regions of about 256 px; nothing is trained unless asked for."""
    folder: Path = tmp_path_factory.mktemp("bench")
    return Bench(folder, patients=10, roi_px=256)
