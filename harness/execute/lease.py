"""What runs in a Slurm job: a seat that takes its work from a mailbox until nobody needs it any more.

A lease ends, and gives its allocation back, when it is told to, when it had nothing to do for a while, when its
controller is gone or is another one, and when Slurm says that its time is up or its place is wanted: then the trial
stops where it is, and goes on from its last epoch in another lease.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import Refused
from harness.execute.base import ENDS, Event, Job
from harness.execute.mailbox import Box, Mailbox, Pulse, job_of
from harness.execute.seat import Seat
from harness.execute.visible import Proof
from harness.execute.work import Workplace
from harness.files import write_text

LOOK_EVERY_S = 0.25
BEAT_EVERY_S = 5.0
# A worker between two batches answers within a second; Slurm's own grace is 30 s in most places.
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a lease is told when it is submitted."""

    mailbox: Path
    controller: Path  # the controller's beat: `<token> <count>`
    token: str  # of the controller that made the lease
    place: Workplace
    logs: Path
    proof: Proof
    idle_s: float
    silence_s: float  # of the controller, after which the lease ends by itself


def beat_every_s(silence_s: float) -> float:
    """How often each side beats, where the other one is patient for `silence_s`."""
    return min(BEAT_EVERY_S, silence_s / 4)


def serve_lease(terms: Terms) -> str:
    """Work until the lease ends; why it did."""
    mailbox = Mailbox(terms.mailbox)
    try:
        mailbox.begun.touch(exist_ok=False)
    except FileExistsError:
        return "begun before: Slurm started this job a second time, and its work is elsewhere by now"
    said = Box(mailbox.said)
    try:
        seat = Seat(terms.place, terms.logs, terms.proof, mailbox.path.name)
    except Refused as error:
        said.put({"event": "left", "why": str(error), "refused": True, "read": 0})
        return str(error)
    with _warned() as warning:
        lease = _Lease(terms, mailbox, Box(mailbox.orders), said, seat, Pulse(terms.controller))
        why = lease.to_end(warning)
    seat.close()
    said.put({"event": "left", "why": why, "refused": False, "read": lease.orders.last})
    return why


@dataclass
class _Warning:
    """Whether Slurm announced the end."""

    came: bool = False


@contextmanager
def _warned() -> Iterator[_Warning]:
    """USR2 comes before the time limit (submitit asks Slurm for it), TERM with a preemption or a cancelled job."""
    warning = _Warning()
    for name in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: setattr(warning, "came", True))
    yield warning


@dataclass
class _Lease:
    terms: Terms
    mailbox: Mailbox
    orders: Box
    said: Box
    seat: Seat
    controller: Pulse
    job: Job | None = None
    beats: int = 0

    def to_end(self, warning: _Warning) -> str:
        """Work; why it ended."""
        idle_since = beaten = time.monotonic()
        began = time.monotonic()
        self._beat()
        while True:
            for word in self.orders.take():
                if word["word"] == "close":
                    return "told to close"
                self._obey(word["word"], job_of(word["job"]))
            if warning.came:
                self._evict()
                return "its time is up, or its place was wanted"
            self._tell(LOOK_EVERY_S)
            now = time.monotonic()
            if self.job is not None:
                idle_since = now
            elif now - idle_since > self.terms.idle_s:
                return f"nothing to do for {self.terms.idle_s:g} s"
            silent = self.controller.look()
            if self.controller.content is not None and not self.controller.content.startswith(f"{self.terms.token} "):
                return "its controller was replaced by another one"
            if (now - began if silent is None else silent) > self.terms.silence_s:
                return f"its controller was silent for {self.terms.silence_s:g} s"
            if now - beaten > beat_every_s(self.terms.silence_s):
                beaten = now
                self._beat()

    def _obey(self, word: str, job: Job) -> None:
        if word == "do":
            self.job = job
            self._pass_on(self.seat.do(job, LOOK_EVERY_S))
        elif word == "stop" and job == self.job:
            self.seat.stop(job)

    def _tell(self, wait_s: float) -> None:
        if self.job is None:
            time.sleep(wait_s)
        else:
            self._pass_on(self.seat.news(wait_s))

    def _pass_on(self, events: list[Event]) -> None:
        for event in events:
            self.said.put(event)
            if event["event"] in ENDS:
                self.job = None

    def _evict(self) -> None:
        """Stop the job; whatever it answers, it is the lease that is over."""
        if self.job is None:
            return
        self.seat.stop(self.job)
        deadline, ended = time.monotonic() + STOP_TIMEOUT_S, None
        while ended is None and time.monotonic() < deadline:
            for event in self.seat.news(LOOK_EVERY_S):
                if event["event"] in ENDS:
                    ended = event
                else:
                    self.said.put(event)
        if ended is not None and ended.get("state") != "stopped":
            self.said.put(ended)  # it came to its own end first
            self.job = None

    def _beat(self) -> None:
        self.beats += 1
        write_text(self.mailbox.beat, f"{socket.gethostname()} {os.getpid()} {self.beats}\n")
