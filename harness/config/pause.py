"""Where a trial pauses, to be continued only if it is worth it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["epochs", "samples", "seconds"]


@dataclass(frozen=True, slots=True)
class Pause:
    """The end of the first epoch with which a trial has done `amount`: epochs, training patches seen, or seconds."""

    unit: Unit
    amount: float

    def is_reached(self, *, epochs: int, samples: int, seconds: float) -> bool:
        """Whether a trial that has done so much is there."""
        return {"epochs": epochs, "samples": samples, "seconds": seconds}[self.unit] >= self.amount
