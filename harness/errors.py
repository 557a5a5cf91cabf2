"""Everything `harness` raises on purpose, and the exit code each one ends a command with.

HarnessError            1  a mistake of ours (any other exception counts as this, too)
├── BadInput            2  a file, a value or data that cannot be used; lists every problem found
├── Refused             3  the request is understood and declined, with the way out
│   └── NoSpace            the disk is full, or too small for what is asked
├── TrialsFailed        4  the sweep finished, but some trials failed
├── ClaimRefuted        4  `report --check` found that a claim of the space is refuted
├── NothingCompleted    5  the sweep finished and no trial completed
└── Interrupted       130  Ctrl-C or a signal; the same command goes on
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class HarnessError(Exception):
    """Base of the tree; its message is meant to be read by the person at the terminal."""

    exit_code: ClassVar[int] = 1


class BadInput(HarnessError):
    """Input that cannot be used. `problems` holds one line each: where, what is wrong, what is allowed."""

    exit_code: ClassVar[int] = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class Refused(HarnessError):
    """A request that is declined on purpose; the message names the reason and the remedy."""

    exit_code: ClassVar[int] = 3


class NoSpace(Refused):
    """The disk is full, or too small for what is asked; nothing is lost, and the same command goes on."""


class TrialsFailed(HarnessError):
    """The sweep is finished and some of its trials failed."""

    exit_code: ClassVar[int] = 4


class ClaimRefuted(HarnessError):
    """A claim of the space does not hold; the message is its difference with interval."""

    exit_code: ClassVar[int] = 4


class NothingCompleted(HarnessError):
    """The sweep is finished and none of its trials completed."""

    exit_code: ClassVar[int] = 5


class Interrupted(HarnessError):
    """Stopped by the user or a signal; running the same command continues."""

    exit_code: ClassVar[int] = 130
