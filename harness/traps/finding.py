"""What a demonstration finds: words, numbers of both sides, a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.report.wording import count_text, score_text

# docs/phantom.md: measured over seeds, with as many validating patients as here.
ONE_SEED = "one seed; on the phantom differences below about .1 are noise"


@dataclass(frozen=True, slots=True)
class Sides:
    """One quantity, measured the usual way and measured as the harness does; None is n/a."""

    what: str
    usual: float | None
    harness: float | None

    @property
    def texts(self) -> tuple[str, str]:
        """Both numbers as people read them: shares and scores with three digits, counts whole."""
        return _text(self.usual), _text(self.harness)


@dataclass(frozen=True, slots=True)
class Finding:
    """One trap, demonstrated."""

    name: str
    title: str
    people: str  # what people do
    happens: str  # what happens then, with the numbers of this run
    shows: bool  # whether it showed in this run; a trap that did not is told all the same
    heads: tuple[str, str]  # what the two sides are
    numbers: tuple[Sides, ...]
    instead: str  # what the harness does
    picture: bytes  # PNG
    shown: str  # what the picture shows

    def document(self) -> dict[str, Any]:
        """For traps.json; the picture lies beside it."""
        return {
            "name": self.name, "title": self.title, "people": self.people, "happens": self.happens,
            "shows": self.shows, "sides": list(self.heads),
            "numbers": [{"what": n.what, "usual": n.usual, "harness": n.harness} for n in self.numbers],
            "instead": self.instead, "picture": f"{self.name}.png", "picture_shows": self.shown,
        }  # fmt: skip


def _text(value: float | None) -> str:
    return count_text(value) if isinstance(value, int) else score_text(value)
