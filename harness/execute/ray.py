"""Trials on a Ray cluster: one warm actor per slot, wherever Ray finds room for it.

Connects to the cluster at RAY_ADDRESS, or starts one on this machine, on its loopback interface only. Authentication
stays on. Ray decides where an actor lives; jobs wait here until an actor is up, so a node that is gone costs its trials
the epoch they were in, and what is left of the cluster takes them over.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from harness.config.resources import Resources
from harness.errors import Refused
from harness.execute.base import ENDS, Event, Executor, Job, Message, stopped
from harness.execute.local import LEASE_S
from harness.execute.seat import NEWS_S, Seat
from harness.execute.visible import Proof, answered, offered
from harness.execute.work import Workplace
from harness.files import safe_name

# Every node answers the first question within seconds, or there is something wrong with it.
NODE_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 3.0
CONNECT_TIMEOUT_S = 10.0
WORKER_TIMEOUT_S = 30.0


@dataclass
class _Slot:
    """An actor, and the one question that it is answering: whether it is up, or what is new about its job."""

    actor: Any
    number: int
    up: bool = False
    job: Job | None = None
    question: Any = None
    asked: float = 0.0


class RayExecutor(Executor):
    """`slots` actors, each with the resources of one slot. Refused when Ray or a node of it is not fit for the sweep.

    `visible`: paths that every node must see, beside `home`.
    """

    def __init__(
        self,
        *,
        slots: int | None,
        device: str,
        need: Resources,
        stores: Path,
        logs: Path,
        home: Path,
        visible: Sequence[Path] = (),
        lease_s: float = LEASE_S,
    ) -> None:
        self._ray = _connected()
        _await_workers(self._ray)
        self._lease_s, self._logs = lease_s, logs
        gpus = gpus_of_a_slot(self._ray.cluster_resources(), device, need)
        self.place = Workplace(stores, "cuda:0" if gpus else "cpu")
        self._options = {"num_cpus": need.cpus, "num_gpus": gpus, "max_restarts": 0, "max_concurrency": 2}
        if need.memory is not None:
            self._options["memory"] = need.memory
        try:
            self._proof = offered(home / "nodes", visible)
            _proved(self._ray, self._proof)
            wanted = slots or slots_in(self._ray.cluster_resources(), self._options)
            self._numbers = count()
            self._slots = [self._new_slot() for _ in range(wanted)]
        except BaseException:
            self._ray.shutdown()
            raise
        self._waiting: deque[Job] = deque()
        self._pending: list[Message] = []

    @property
    def slots(self) -> int:
        return len(self._slots)

    @property
    def devices(self) -> list[str]:
        """The device of each slot, as far as slots share one."""
        share = self._options["num_gpus"] or 1
        return [f"ray {'gpu' if self._options['num_gpus'] else 'cpu'} {int(i * share)}" for i in range(self.slots)]

    @property
    def where(self) -> str:
        """The cluster in words."""
        nodes = sum(bool(node["Alive"]) for node in self._ray.nodes())
        address = os.environ.get("RAY_ADDRESS", "").strip()
        return f"at {address}, {nodes} {'nodes' if nodes > 1 else 'node'}" if address else "on this machine"

    def free(self) -> int:
        return self.slots - len(self._waiting) - sum(slot.job is not None for slot in self._slots)

    def submit(self, job: Job) -> None:
        self._waiting.append(job)
        self._place()

    def messages(self, timeout_s: float) -> list[Message]:
        found, self._pending = self._pending, []
        if found:
            return found
        asked = {slot.question: slot for slot in self._slots if slot.question is not None}
        if not asked:
            return []
        self._ray.wait(list(asked), num_returns=1, timeout=timeout_s)
        done, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
        for question in done:
            found += self._heard(asked[question])
        for slot in self._slots:
            if slot.job is not None and time.monotonic() - slot.asked > self._lease_s + NEWS_S:
                found.append(self._lost(slot, f"no word from it for {self._lease_s:g} s; it was given up", "evicted"))
        self._place()
        return found

    def stop(self, job: Job) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
            self._pending.append(Message(job, stopped()))
        for slot in self._slots:
            if slot.job == job:
                slot.actor.stop.remote(job)

    def close(self) -> None:
        if not self._ray.is_initialized():  # closed before; Ray would start a cluster to answer
            return
        ends = [slot.actor.close.remote() for slot in self._slots if slot.up]
        with contextlib.suppress(Exception):
            self._ray.wait(ends, num_returns=len(ends), timeout=CLOSE_TIMEOUT_S) if ends else None
        for slot in self._slots:
            with contextlib.suppress(Exception):
                self._ray.kill(slot.actor)
        self._ray.shutdown()

    def _new_slot(self) -> _Slot:
        number = next(self._numbers)
        actor = self._ray.remote(Seat).options(**self._options)
        made = actor.remote(self.place, self._logs, self._proof, f"slot-{number}")
        # `news` of a worker without a job is empty at once: the answer means that the actor is up.
        return _Slot(made, number, question=made.news.remote(0.0), asked=time.monotonic())

    def _place(self) -> None:
        """Hand jobs that wait to actors that are up and idle."""
        for slot in self._slots:
            if slot.up and slot.job is None and self._waiting:
                slot.job = self._waiting.popleft()
                slot.question, slot.asked = slot.actor.do.remote(slot.job), time.monotonic()

    def _heard(self, slot: _Slot) -> list[Message]:
        """What a slot's answer says; the next question is asked."""
        job = slot.job
        try:
            events: list[Event] = self._ray.get(slot.question)
        except Exception as error:  # of Ray's own, or one raised on the node
            message, cause = self._reason(error)
            return [self._lost(slot, message, cause)] if job is not None else self._gone(slot, message)
        slot.up, slot.question, slot.asked = True, None, time.monotonic()
        if job is None:
            return []
        found = [Message(job, event) for event in events]
        if any(event["event"] in ENDS for event in events):
            slot.job = None
        else:
            slot.question = slot.actor.news.remote()
        return found

    def _lost(self, slot: _Slot, message: str, cause: str) -> Message:
        """The slot's job is nobody's any more; another actor takes the slot as soon as Ray finds room."""
        job = slot.job
        assert job is not None
        self._replace(slot)
        return Message(job, {"event": "lost", "message": message, "cause": cause})

    def _gone(self, slot: _Slot, message: str) -> list[Message]:
        """An actor that had no job is gone, or could not begin; Refused when no actor ever could."""
        if not any(other.up for other in self._slots) and "Refused" in message:
            raise Refused(f"a node of the Ray cluster cannot take part: {message}")
        self._replace(slot)
        return []

    def _replace(self, slot: _Slot) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(slot.actor)
        self._slots[self._slots.index(slot)] = self._new_slot()

    def _reason(self, error: Exception) -> tuple[str, str]:
        """(message, cause): what became of an actor, in a line."""
        if isinstance(error, self._ray.exceptions.ActorDiedError | self._ray.exceptions.ActorUnavailableError):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            said = next((line for line in lines if "Refused" in line or "is dead because" in line), lines[0])
            return f"its Ray actor is gone: {said[:300]}", "evicted"
        return f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:300]}", "lost"


def _connected() -> Any:
    """Ray, connected. Refused, in one line, where it is not installed, not reachable, or open to everybody."""
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        raise Refused(
            f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}: whoever reaches such a cluster runs code as you; unset it, "
            "and give the cluster a token (ray get-auth-token --generate)"
        )
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # else a refused token is a line a second for 20 s
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    address = os.environ.get("RAY_ADDRESS", "").strip()
    own: dict[str, Any] = {}
    if address not in ("", "auto", "local"):
        _refuse_nobody(address)
    if address in ("", "local"):
        # Named for other systems, where Ray keeps to the loopback interface by itself; here it binds every one without.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        own = {"include_dashboard": False, "object_store_memory": 100 * 2**20, "_node_ip_address": "127.0.0.1"}
    try:
        import ray
        from ray._private import worker
    except ImportError:
        raise Refused("Ray is not installed; pip install 'tissue-sweep-harness[ray]' brings it") from None
    # Otherwise every actor that ends is a paragraph on stdout; what matters of it is in our own messages.
    worker._worker_logs_enabled = False
    with _own_signals():
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except Exception as error:
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            hint = " (is its token in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token?)" if address else ""
            where = address or "this machine"
            raise Refused(f"no Ray cluster at {where}: {first.strip()[:200]}{hint}") from None
    return ray


def _await_workers(ray: Any) -> None:
    """A head without room for work is waited for: its workers may still be starting."""
    deadline = time.monotonic() + WORKER_TIMEOUT_S
    while not ray.cluster_resources().get("CPU") and time.monotonic() < deadline:
        time.sleep(0.5)


def _refuse_nobody(address: str) -> None:
    """Ray itself tries an address at which nobody listens for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer"
        raise Refused(f"no Ray cluster at {address} (RAY_ADDRESS): {reason}") from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """`ray.init` takes SIGTERM for itself; a sweep has its own answer to it."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _proved(ray: Any, proof: Proof) -> None:
    """Ask every node at once whether it sees the home, and look for its answer here. Refused with a line per node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def look(proof: Proof, node: str) -> list[str]:
        from harness.execute.visible import objections

        return objections(proof, node)

    nodes = {safe_name(node["NodeID"]): node for node in ray.nodes() if node["Alive"]}
    asked = {
        ray.remote(look)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(proof, name): name
        for name, node in nodes.items()
    }
    done, _ = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_TIMEOUT_S)
    problems = []
    for question, name in asked.items():
        wrong = _answer(ray, question) if question in done else [f"it did not answer within {NODE_TIMEOUT_S:g} s"]
        if not wrong and not answered(proof, name):
            wrong = [f"what it writes to {proof.folder} is not to be seen here: choose a home that every node sees"]
        host = nodes[name]["NodeManagerHostname"]
        problems += [f"node {host} of the Ray cluster: {line}" for line in wrong]
    if problems:
        raise Refused("\n".join(problems))


def _answer(ray: Any, question: Any) -> list[str]:
    try:
        found: list[str] = ray.get(question)
    except Exception as error:
        return [str(error).strip().splitlines()[-1][:300]]
    return found


def gpus_of_a_slot(resources: Mapping[str, float], device: str, need: Resources) -> float:
    """GPUs per slot: as `resources.gpus` says, else one where the cluster has any and the CPU was not asked for."""
    there = resources.get("GPU", 0.0)
    wanted = need.gpus if need.gpus is not None else (1.0 if device == "cuda" or (device == "auto" and there) else 0.0)
    if device in ("cpu", "mps"):
        return 0.0
    if wanted > 1 and wanted != int(wanted):
        raise Refused(f"resources.gpus: {wanted:g}: Ray takes a fraction below one, or whole GPUs")
    return wanted


def slots_in(resources: Mapping[str, float], options: Mapping[str, Any]) -> int:
    """How many slots the cluster holds. Refused when it holds none."""
    asked = {"CPU": options["num_cpus"], "GPU": options["num_gpus"], "memory": options.get("memory", 0)}
    rooms = [int(resources.get(name, 0.0) / much + 1e-9) for name, much in asked.items() if much]
    if min(rooms) < 1:
        has = ", ".join(f"{name} {resources.get(name, 0.0):g}" for name, much in asked.items() if much)
        raise Refused(f"the Ray cluster has no room for one slot: it has {has} in all (resources: in the YAML)")
    return min(rooms)
