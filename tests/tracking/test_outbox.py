"""The outbox: the controller is never blocked, an outage only delays, and nothing arrives twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.memory import MemoryTracker
from harness.tracking.outbox import Projector
from harness.tracking.store import Store
from harness.tracking.tracker import StoreAway, Tracker
from tests.tracking.sweeps import complete, make_trial, start, train_epoch

STORE = Store("memory")


class Line:
    """The network between the outbox and a tracker: it may be cut before a request, or before its answer."""

    def __init__(self, tracker: MemoryTracker) -> None:
        self.tracker = tracker
        self.cut = False
        self.answers_to_lose = 0
        self.requests: list[str] = []

    def __getattr__(self, name: str) -> Any:
        question = getattr(self.tracker, name)

        def ask(*args: Any, **kwargs: Any) -> Any:
            if self.cut:
                raise StoreAway("connection refused")
            self.requests.append(name)
            answer = question(*args, **kwargs)
            if self.answers_to_lose:
                self.answers_to_lose -= 1
                raise StoreAway("connection reset")
            return answer

        return ask


@pytest.fixture
def line() -> Line:
    return Line(MemoryTracker())


@pytest.fixture
def projector(line: Line, generation: Path) -> Iterator[Projector]:
    projector = open_projector(line, generation)
    yield projector
    projector.close()


def open_projector(line: Line, generation: Path, **options: float) -> Projector:
    """A projector at a pace for tests."""
    pace = {"every_s": 0.02, "first_delay_s": 0.01, "longest_delay_s": 0.05, **options}
    return Projector(generation, STORE, connect=lambda _: line, **pace)  # type: ignore[arg-type, return-value]


def curve(tracker: Tracker, key: str = "val/iou") -> list[int]:
    """Steps of the only trial's curve."""
    assert isinstance(tracker, MemoryTracker)
    (run_id,) = [run_id for run_id, run in tracker.runs.items() if "harness.trial_uid" in run.tags]
    return [point.step for point in tracker.curve(run_id, key)]


def test_what_was_touched_is_copied(projector: Projector, line: Line, generation: Path) -> None:
    """After a drain every touched trial has its run."""
    for uid in ("t1", "t2", "t3"):
        folder = make_trial(generation, uid)
        complete(folder)
        projector.touch(folder)
    projector.sweep_changed("finished")
    assert projector.drain(10)
    assert len(line.tracker.runs) == 4
    assert {run.status for run in line.tracker.runs.values()} == {"FINISHED"}
    assert projector.status is None
    assert projector.failures == ()


def test_many_touches_of_one_trial_are_one_copy(line: Line, generation: Path) -> None:
    """50 changes within the gathering time cost one request for points."""
    folder = make_trial(generation)
    start(folder)
    projector = open_projector(line, generation, every_s=0.3)
    for epoch in range(1, 51):
        train_epoch(folder, epoch)
        projector.touch(folder)
    assert projector.drain(10)
    projector.close()
    assert curve(line.tracker) == list(range(1, 51))
    assert line.requests.count("log") <= 2


def test_an_outage_delays_and_loses_nothing(projector: Projector, line: Line, generation: Path) -> None:
    """While the store is away the status says so; when it is back every epoch arrives, once."""
    folder = make_trial(generation)
    start(folder)
    line.cut = True
    for epoch in (1, 2, 3):
        train_epoch(folder, epoch)
        projector.touch(folder)
    until(lambda: projector.status is not None)
    status = projector.status
    assert status is not None
    assert status.startswith("MLflow store does not answer, 1 updates waiting")
    assert "connection refused" in status
    assert not projector.drain(0.1)
    line.cut = False
    assert projector.drain(10)
    assert projector.status is None
    assert curve(line.tracker) == [1, 2, 3]


def test_a_lost_answer_makes_no_second_run_and_no_second_point(
    projector: Projector, line: Line, generation: Path
) -> None:
    """Every request in turn is carried out and its answer lost; the copy ends as if none had been."""
    folder = make_trial(generation)
    complete(folder)
    line.answers_to_lose = 30
    projector.touch(folder)
    projector.sweep_changed("finished")
    assert projector.drain(20)
    assert line.answers_to_lose == 0
    assert len(line.tracker.runs) == 2
    assert curve(line.tracker) == [1, 2, 3]


def test_back_off_doubles_up_to_its_limit(line: Line, generation: Path) -> None:
    """With 20, 40, 80, 80 ... ms between tries, 0.5 s hold at most nine of them."""
    tries: list[float] = []

    def refuse(_: Store) -> Tracker:
        tries.append(time.monotonic())
        raise StoreAway("connection refused")

    projector = Projector(generation, STORE, connect=refuse, every_s=0.0, first_delay_s=0.02, longest_delay_s=0.08)
    projector.touch(make_trial(generation))
    time.sleep(0.5)
    projector.close()
    gaps = [later - earlier for earlier, later in pairwise(tries)]
    assert 4 <= len(tries) <= 9
    assert [gap >= least for gap, least in zip(gaps, (0.02, 0.04, 0.08, 0.08), strict=False)] == [True] * min(
        4, len(gaps)
    )


def test_a_broken_folder_is_named_and_holds_up_nobody(projector: Projector, line: Line, generation: Path) -> None:
    """One trial's unreadable file is that trial's failure; it is gone once the file is mended."""
    broken = make_trial(generation, "broken")
    broken.state_file.write_text("{")
    whole = make_trial(generation, "whole")
    projector.touch(broken)
    projector.touch(whole)
    assert projector.drain(10)
    (failure,) = projector.failures
    assert str(broken.path) in failure
    assert len(line.tracker.runs) == 2
    projector.touch(make_trial(generation, "broken"))
    assert projector.drain(10)
    assert projector.failures == ()


def test_closing_during_an_outage_is_quick_and_the_next_run_catches_up(line: Line, generation: Path) -> None:
    """What was not copied waits in the folders, for as long as it takes."""
    folder = make_trial(generation)
    complete(folder)
    line.cut = True
    first = open_projector(line, generation, first_delay_s=30.0, longest_delay_s=30.0)
    first.touch(folder)
    until(lambda: first.status is not None)
    began = time.monotonic()
    first.close()
    assert time.monotonic() - began < 1
    line.cut = False
    second = open_projector(line, generation)
    second.touch(folder)
    assert second.drain(10)
    second.close()
    assert curve(line.tracker) == [1, 2, 3]


def test_touching_never_waits(line: Line, generation: Path) -> None:
    """The controller's side of the outbox takes microseconds even while the store hangs."""
    folder = make_trial(generation)

    def hang(_: Store) -> Tracker:
        time.sleep(0.5)
        raise StoreAway("timed out")

    projector = Projector(generation, STORE, connect=hang, every_s=0.0)
    projector.touch(folder)
    time.sleep(0.05)
    began = time.monotonic()
    for _ in range(1000):
        projector.touch(folder)
    assert time.monotonic() - began < 0.2
    projector.close()


def until(condition: Any, timeout_s: float = 5.0) -> None:
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
