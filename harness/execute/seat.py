"""One slot somewhere else: a warm worker process of `local`, and its words handed on to whoever asks.

What a Ray actor or a Slurm job does for the controller. The worker is a process of its own under it, so leases, kernel
kills and a controller that is gone mean the same as on one machine.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from harness.errors import Refused
from harness.execute.base import Event, Job
from harness.execute.local import LocalExecutor
from harness.execute.visible import Proof, objections
from harness.execute.work import Workplace

# A question waits on the node for news at most so long; its answer, even an empty one, shows that the node is there.
NEWS_S = 5.0


class Seat:
    """Runs one job at a time on the machine where it is made. Refused where that machine does not see the home."""

    def __init__(self, place: Workplace, logs: Path, proof: Proof, node: str) -> None:
        wrong = objections(proof, node)
        if wrong:
            raise Refused(f"{socket.gethostname()}: {'; '.join(wrong)}")
        self._executor = LocalExecutor([place], logs=logs / f"{socket.gethostname()}-{os.getpid()}")

    def do(self, job: Job, wait_s: float = NEWS_S) -> list[Event]:
        """Begin a job; its first news."""
        self._executor.submit(job)
        return self.news(wait_s)

    def news(self, wait_s: float = NEWS_S) -> list[Event]:
        """What happened since the last question; waits for something to happen."""
        deadline = time.monotonic() + wait_s
        while not (found := self._executor.messages(max(deadline - time.monotonic(), 0.0))):
            if time.monotonic() >= deadline:
                break
        return [message.event for message in found]

    def stop(self, job: Job) -> None:
        """Ask the job to stop; may be called while `news` waits, since it only writes to the worker's pipe."""
        self._executor.stop(job)

    def close(self) -> None:
        """End the worker."""
        self._executor.close()
