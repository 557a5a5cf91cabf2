"""Trials as Slurm jobs, by submitit: one job per lease of a slot, which does trials until there are none for it.

A job that waits finds a lease that is idle, or Slurm is asked for another one, up to the number of slots; Slurm alone
decides when and where it begins. Leases and this process talk through files in the home (`mailbox`), so compute nodes
need no network. An idle lease ends by itself and holds no allocation.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from harness.config.resources import Resources
from harness.errors import Refused
from harness.execute.base import ENDS, Executor, Job, Message, stopped
from harness.execute.lease import Terms, beat_every_s, serve_lease
from harness.execute.mailbox import Box, Mailbox, Pulse, job_words
from harness.execute.visible import offered
from harness.execute.work import Workplace
from harness.files import write_text

# Files may show on another machine as late as its attribute cache allows (NFS: up to 60 s).
LEASE_S = 180.0
IDLE_S = 60.0
# `squeue` and `sacct` are asked by all users of a cluster; submitit itself remembers their answers for a while.
ASK_EVERY_S = 5.0
# Slurm warns so long before a lease's time is up; a trial then stops between two batches.
WARN_S = 90
DEFAULT_TIME_S = 4 * 3600.0
MAX_FALSE_STARTS = 3
CLOSE_TIMEOUT_S = 10.0
END_TIMEOUT_S = 2.0
# Slurm's words for jobs that are over, and those of submitit's local stand-in.
OVER = frozenset({
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE",
    "REVOKED", "FINISHED", "INTERRUPTED", "NO",
})  # fmt: skip


@dataclass
class _Lease:
    """A Slurm job, waiting or running, and its mailbox."""

    submitted: Any  # submitit.Job
    mailbox: Mailbox
    orders: Box
    said: Box
    pulse: Pulse
    job: Job | None = None
    given: int = 0  # the number of the word that gave the job
    asked: float = field(default_factory=time.monotonic)

    @property
    def began(self) -> bool:
        """Whether its process has spoken: what waits in Slurm's queue is not silent."""
        return self.pulse.heard is not None or self.said.last > 0


class SlurmExecutor(Executor):
    """At most `slots` leases at a time. Refused without submitit, or without Slurm.

    `cluster`: submitit's name of what runs the jobs; "local" runs them on this machine, for tests.
    """

    def __init__(
        self,
        *,
        slots: int,
        device: str,
        need: Resources,
        name: str,
        stores: Path,
        logs: Path,
        home: Path,
        visible: Sequence[Path] = (),
        cluster: str = "slurm",
        lease_s: float = LEASE_S,
        idle_s: float = IDLE_S,
        warn_s: int = WARN_S,
    ) -> None:
        self.slots_wanted, self._lease_s, self._idle_s = slots, lease_s, idle_s
        self._gpus = _gpus(device, need)
        self._folder, self._logs = home / "leases" / secrets.token_hex(8), logs
        self._folder.mkdir(parents=True, mode=0o700)
        self._submitter = _submitter(self._folder / "submitit", name, need, self._gpus, cluster, warn_s)
        self._proof = offered(home / "nodes", visible)
        self._place = Workplace(stores, "cuda:0" if self._gpus else "cpu")
        self._leases: list[_Lease] = []
        self._ended: list[Any] = []  # submitit's jobs of leases that are over
        self._made = self._false_starts = 0
        self._waiting: deque[Job] = deque()
        self._pending: list[Message] = []
        self._closed = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="beats", daemon=True)
        self._beats.start()

    @property
    def slots(self) -> int:
        return self.slots_wanted

    @property
    def devices(self) -> list[str]:
        """A device of its own for each slot."""
        return [f"slurm {'gpu' if self._gpus else 'cpu'} {index}" for index in range(self.slots)]

    def free(self) -> int:
        return self.slots - len(self._waiting) - sum(lease.job is not None for lease in self._leases)

    def submit(self, job: Job) -> None:
        self._waiting.append(job)
        self._hand_out()

    def messages(self, timeout_s: float) -> list[Message]:
        deadline = time.monotonic() + timeout_s
        while True:
            found, self._pending = self._pending, []
            for lease in list(self._leases):
                found += self._heard(lease)
            self._hand_out()
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(min(0.1, timeout_s))

    def stop(self, job: Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
            self._pending.append(Message(job, stopped()))
        for lease in self._leases:
            if lease.job == job:
                lease.orders.put({"word": "stop", "job": job_words(job)})

    def close(self) -> None:
        for lease in list(self._leases):
            if lease.began:
                lease.orders.put({"word": "close", "job": None})
            else:
                lease.submitted.cancel(check=False)
                self._forget(lease)
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        while self._leases and time.monotonic() < deadline:
            for lease in list(self._leases):
                self._heard(lease)
                if lease in self._leases and _over(lease):
                    self._forget(lease)
            time.sleep(0.1)
        for lease in self._leases:
            lease.submitted.cancel(check=False)
        deadline = time.monotonic() + END_TIMEOUT_S
        while any(not job.done() for job in self._ended) and time.monotonic() < deadline:
            time.sleep(0.1)
        self._closed.set()
        self._beats.join()
        if not self._leases:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _hand_out(self) -> None:
        """Give jobs that wait to idle leases; ask for another lease for those that are left."""
        for lease in self._leases:
            if lease.job is None and self._waiting:
                lease.job = self._waiting.popleft()
                lease.given = lease.orders.put({"word": "do", "job": job_words(lease.job)})
        for _ in range(min(len(self._waiting), self.slots - len(self._leases))):
            lease = self._new_lease()
            self._leases.append(lease)
            lease.job = self._waiting.popleft()
            lease.given = lease.orders.put({"word": "do", "job": job_words(lease.job)})

    def _new_lease(self) -> _Lease:
        self._made += 1
        mailbox = Mailbox(self._folder / f"lease-{self._made}")
        mailbox.path.mkdir()
        terms = Terms(
            mailbox.path, self._folder / "controller", self._folder.name, self._place, self._logs, self._proof,
            self._idle_s, self._lease_s,
        )  # fmt: skip
        submitted = self._submitter.submit(serve_lease, terms)
        return _Lease(submitted, mailbox, Box(mailbox.orders), Box(mailbox.said), Pulse(mailbox.beat))

    def _heard(self, lease: _Lease) -> list[Message]:
        """The lease's news; one that is over leaves the list, and what it held is handed out again."""
        found: list[Message] = []
        for word in lease.said.take():
            if word["event"] == "left":
                return found + self._left(lease, word)
            self._false_starts = 0
            if lease.job is not None:
                found.append(Message(lease.job, word))
                if word["event"] in ENDS:
                    lease.job = None
        silent = lease.pulse.look()
        if silent is not None and silent > self._lease_s:
            lease.submitted.cancel(check=False)
            return found + self._dropped(lease, f"its lease was silent for {self._lease_s:g} s", "evicted")
        if time.monotonic() - lease.asked > ASK_EVERY_S:
            lease.asked = time.monotonic()
            if _over(lease) and not (lease.mailbox.said / f"{lease.said.last + 1:06d}.json").exists():
                return found + self._dropped(lease, *self._how_it_ended(lease))
        return found

    def _left(self, lease: _Lease, word: dict[str, Any]) -> list[Message]:
        """A lease said goodbye. A job that it never read waits again; one that it was at goes on elsewhere."""
        if word["refused"]:
            self._forget(lease)
            raise Refused(f"a node of the cluster cannot take part: {word['why']}")
        if lease.job is not None and lease.given > word["read"]:
            self._waiting.appendleft(lease.job)
            lease.job = None
        return self._dropped(lease, f"its lease ended: {word['why']}", "evicted")

    def _dropped(self, lease: _Lease, message: str, cause: str) -> list[Message]:
        job = lease.job
        self._forget(lease)
        return [] if job is None else [Message(job, {"event": "lost", "message": message, "cause": cause})]

    def _how_it_ended(self, lease: _Lease) -> tuple[str, str]:
        """(message, cause) for a lease whose job is over without a word. Refused when none ever begins."""
        where = f"job {lease.submitted.job_id} ({lease.submitted.state.lower()}); its output is in {self._folder}"
        if lease.began:
            return f"its lease ended: {where}", "evicted"
        self._false_starts += 1
        if self._false_starts >= MAX_FALSE_STARTS:
            raise Refused(
                f"{MAX_FALSE_STARTS} jobs in a row ended before they began, the last as {where}/submitit; "
                "is the home, and this Python, on a file system that every node sees?"
            )
        return f"its lease never began: {where}", "evicted"

    def _forget(self, lease: _Lease) -> None:
        self._leases.remove(lease)
        self._ended.append(lease.submitted)

    def _beat(self) -> None:
        """Tell the leases that this process lives; from a thread, since others take their time."""
        count = 0
        while True:
            count += 1
            with contextlib.suppress(OSError):  # a full disk: the leases wait as long as they may
                write_text(self._folder / "controller", f"{self._folder.name} {count}\n")
            if self._closed.wait(beat_every_s(self._lease_s)):
                return


def _over(lease: _Lease) -> bool:
    """Whether the job is over, by what submitit says of it (Slurm: `CANCELLED by 1000`)."""
    return str(lease.submitted.state).split(" ")[0] in OVER


def _gpus(device: str, need: Resources) -> int:
    if device in ("cpu", "mps"):
        return 0
    wanted = need.gpus if need.gpus is not None else float(device == "cuda")
    if wanted != int(wanted):
        raise Refused(f"resources.gpus: {wanted:g}: Slurm gives whole GPUs (a fraction works with --executor ray)")
    return int(wanted)


def _submitter(folder: Path, name: str, need: Resources, gpus: int, cluster: str, warn_s: int) -> Any:
    """submitit's executor, with what every lease asks of Slurm."""
    try:
        import submitit
    except ImportError:
        raise Refused("submitit is not installed; pip install 'tissue-sweep-harness[slurm]' brings it") from None
    time_min = ceil((need.time or DEFAULT_TIME_S) / 60)
    setup = list(need.setup) or None
    if cluster == "local":
        here = submitit.LocalExecutor(folder)
        here.update_parameters(timeout_min=time_min, signal_delay_s=warn_s, gpus_per_node=gpus, setup=setup or ())
        return here
    if shutil.which("sbatch") is None:
        raise Refused("no Slurm here: `sbatch` is not on the PATH; run the sweep on a login node of the cluster")
    asked = {
        "job_name": f"harness-{name}",
        "time": time_min,
        "cpus_per_task": need.cpus,
        "gpus_per_node": gpus or None,
        "mem": None if need.memory is None else f"{ceil(need.memory / 2**20)}M",
        "partition": need.partition,
        "account": need.account,
        "qos": need.qos,
        "constraint": need.constraint,
        "setup": setup,
        "nodes": 1,
        "ntasks_per_node": 1,
        "signal_delay_s": warn_s,
        # A job that Slurm starts again would find its lease taken; whoever waits gets a new one.
        "additional_parameters": {"no-requeue": True},
    }
    submitter = submitit.SlurmExecutor(folder)
    submitter.update_parameters(**{key: value for key, value in asked.items() if value is not None})
    return submitter
