"""What every executor promises: jobs in, messages out, one job per slot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.config.pause import Pause

# An event of a trial (see harness.trial.run), or one of these:
#   {"event": "lost", "message": ..., "cause": ...}  the worker died or fell silent; nothing more comes of this job;
#                                           the cause is `out_of_memory` where the kernel ended it for that, `evicted`
#                                           where its slot was taken away (a node gone, a lease over), else `lost`
#   {"event": "exported", "message": ...}   an export job ended; message is None, or why it failed
#   {"event": "prepared", "message": ...}   the same of a fetch or try job
#   {"event": "sketched", "message": ...}   the same of a sketch job
Event = dict[str, Any]
# The last word on a job.
ENDS = frozenset({"finished", "lost", "exported", "prepared", "sketched"})


def stopped() -> Event:
    """The answer to a stop of a job that had not begun."""
    return {"event": "finished", "state": "stopped", "cause": None, "message": None}


@dataclass(frozen=True, slots=True)
class Job:
    """One thing for a worker to do: train or export a trial (its folder), fetch weights from the hub, try imported
    parts (a folder of specs), or sketch a sweep's own figures (the generation's folder)."""

    folder: Path
    attempt: int = 0
    task: Literal["train", "export", "fetch", "try", "sketch"] = "train"
    weights: tuple[str, str] | None = None  # of a fetch: encoder, and which of the hub's weights
    pause: Pause | None = None  # of a training: where it ends if the trial is not over by then


@dataclass(frozen=True, slots=True)
class Message:
    """An event and the job it is about."""

    job: Job
    event: Event


class Executor(Protocol):
    """Runs jobs somewhere. Not thread-safe: one controller calls it from one thread."""

    @property
    def slots(self) -> int:
        """How many jobs run at a time."""

    def free(self) -> int:
        """How many jobs could be submitted now."""

    def submit(self, job: Job) -> None:
        """Start a job on a free slot."""

    def messages(self, timeout_s: float) -> list[Message]:
        """What happened since the last call; waits up to `timeout_s` for something to happen."""

    def stop(self, job: Job) -> None:
        """Ask a running job to stop at once; it answers with `finished` (stopped). No effect on a job that is over."""

    def close(self) -> None:
        """End all workers; jobs still running are cut off."""
