"""What follows when a trial ends badly: the rules, without the doing (which is the controller's)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.config.space import OnFailure
from harness.config.spec import TrialSpec
from harness.errors import BadInput, HarnessError, Refused, TrialsFailed

# A worker that dies takes its trial along this often before the trial counts as failed.
MAX_LOST = 3
# The same failure this often in a row, with nothing completed in between, is a fault of the sweep, not of a trial.
MAX_SAME_FAILURES = 3
# A slot that is taken away (a node gone, a lease over) says nothing of the trial, unless the trial never gets an epoch
# done between two of them.
MAX_EVICTED = 10

Action = Literal["resume", "halve", "record", "stop"]


def action_for(cause: str, rules: OnFailure, *, lost: int, spec: TrialSpec) -> Action:
    """What follows. `lost`: how often this trial's worker was lost (or evicted) so far, this time included.

    A batch that is in parts of one sample already cannot be halved: then it is recorded, never tried the same again.
    """
    if cause == "evicted":
        return "resume" if lost < MAX_EVICTED else "record"
    action: Action = getattr(rules, cause, rules.error)
    if action == "resume" and lost >= MAX_LOST:
        return "record"
    if action == "halve" and spec.train.accumulate >= spec.train.batch_size:
        return "record"
    return action


def halved(spec: TrialSpec, times: int = 1) -> TrialSpec:
    """The same training with each batch in twice as many parts (of one sample at the smallest), `times` over."""
    parts = min(spec.train.accumulate * 2**times, spec.train.batch_size)
    return spec.model_copy(update={"train": spec.train.model_copy(update={"accumulate": parts})}) if times else spec


def stopping_error(cause: str, message: str) -> HarnessError:
    """What ends the command when this failure stops the sweep."""
    if cause == "data":
        return BadInput(message)
    return Refused(message) if cause == "refused" else TrialsFailed(f"stopped, as `on_failure` wants it: {message}")


def disk_full_error(folder: Path) -> Refused:
    """One line for a disk that is full, whoever noticed."""
    return Refused(
        f"no space left where {folder} lies (or a quota, or a limit of file size); nothing is lost: make room and run "
        "the same command"
    )


@dataclass(slots=True)
class Losses:
    """How often each trial lost its worker, and how often its slot was taken away since its last epoch."""

    lost: Counter[str] = field(default_factory=Counter)
    evicted: Counter[str] = field(default_factory=Counter)

    def note(self, uid: str, cause: str) -> None:
        """It happened again."""
        (self.evicted if cause == "evicted" else self.lost)[uid] += 1

    def trained(self, uid: str) -> None:
        """The trial ended an epoch."""
        self.evicted.pop(uid, None)

    def of(self, uid: str, cause: str) -> int:
        """How often, of that kind."""
        return (self.evicted if cause == "evicted" else self.lost)[uid]


@dataclass(slots=True)
class Breaker:
    """Counts equal failures in a row; the same thing again and again is no trial's fault."""

    last: list[str] = field(default_factory=list)

    def completed(self) -> None:
        """Something went well."""
        self.last.clear()

    def failed(self, cause: str, message: str, folder: Path) -> TrialsFailed | None:
        """Note a failure; what stops the sweep when it was one too many."""
        # The message about a lost worker names its log, one per slot: the same failure all the same.
        self.last.append(cause if cause in ("lost", "evicted") else f"{cause}: {message}")
        recent = self.last[-MAX_SAME_FAILURES:]
        if len(recent) < MAX_SAME_FAILURES or len(set(recent)) > 1:
            return None
        return TrialsFailed(
            f"stopped: {MAX_SAME_FAILURES} trials in a row failed the same way ({recent[0]}); see {folder}"
        )
