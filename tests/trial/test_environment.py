"""What is said of the machine beside a trial's numbers."""

from __future__ import annotations

import pytest

from harness.trial import environment
from harness.trial.environment import Gauge


@pytest.mark.parametrize(("every_s", "readings"), [(3600.0, [1.0, 1.0, 1.0]), (0.0, [1.0, 2.0, 3.0])])
def test_the_machine_is_looked_at_once_in_a_span(
    monkeypatch: pytest.MonkeyPatch, every_s: float, readings: list[float]
) -> None:
    """In between the last reading stands."""
    looks = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(environment, "system_metrics", lambda: {"system/load": next(looks)})
    gauge = Gauge(every_s)
    assert [gauge.read()["system/load"] for _ in range(3)] == readings
