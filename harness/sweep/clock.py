"""The wall time a generation has used, added up over restarts."""

from __future__ import annotations

import time

from harness.files import write_json
from harness.sweep.layout import GenerationFolder

EVERY_S = 5.0


class Clock:
    """Runs from its making; `wall_s` is the limit, if there is one."""

    def __init__(self, generation: GenerationFolder) -> None:
        self.wall_s: float | None = None
        self.started = self._written = time.monotonic()
        self._generation, self._spent_s = generation, generation.wall_s()

    @property
    def is_over(self) -> bool:
        """Whether the limit is reached."""
        return self.wall_s is not None and self._spent_s + time.monotonic() - self.started >= self.wall_s

    @property
    def share(self) -> float:
        """The share of the limit that is used; 0 without one."""
        return (self._spent_s + time.monotonic() - self.started) / self.wall_s if self.wall_s else 0.0

    def tick(self) -> None:
        """Write the time down now and then: a kill forgets at most EVERY_S of it."""
        if time.monotonic() - self._written >= EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the time down."""
        self._written = time.monotonic()
        write_json(self._generation.clock, {"wall_s": self._spent_s + self._written - self.started})
