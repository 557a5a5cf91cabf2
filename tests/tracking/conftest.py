"""One SQLite store for all tests of this folder: making its tables takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.tracking.client import MlflowTracker
from harness.tracking.store import Store, client_settings, tracking_store
from tests.tracking.served import Line, Served, line_to, served


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """An embedded store in a home whose path needs care."""
    return tracking_store(tmp_path_factory.mktemp("home with space, 'quotes' and é"), {})


@pytest.fixture(scope="session")
def mlflow_tracker(store: Store) -> Iterator[MlflowTracker]:
    """A tracker on `store`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in client_settings({}).items():
            patch.setenv(name, value)
        yield MlflowTracker(store)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with artifacts of its own, as a lab has one: 5 s to start."""
    with served(tmp_path_factory.mktemp("served") / "mlflow") as started:
        yield started


@pytest.fixture
def line(server: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A line to it that does no harm yet."""
    for name, value in client_settings({}).items():
        monkeypatch.setenv(name, value)
    with line_to(server) as opened:
        yield opened


@pytest.fixture
def generation(tmp_path: Path) -> Path:
    """A generation's folder of a sweep that is called like no other."""
    from tests.tracking.sweeps import make_generation

    return make_generation(tmp_path, name=f"sweep-{tmp_path.name}")
