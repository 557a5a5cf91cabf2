"""One behaviour suite over every executor: real jobs, real processes.

Each kind is started once; its tests follow one another on the same executor, as trials of a sweep do.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from harness.config.imported import ImportedPart, located
from harness.config.spec import ModelSpec
from harness.execute.base import ENDS, Executor, Job, Message
from harness.execute.local import LocalExecutor
from harness.execute.work import Workplace
from harness.files import read_json, sha256_file
from harness.trial.folder import TrialFolder
from tests.execute.executors import BESIDE, ELSEWHERE, KINDS, lose_node, made
from tests.processes import FORK_SERVER, is_worker
from tests.toy import toy_spec, write_cohort

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cohort."""
    return write_cohort(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of the suite's trial of six epochs, trained in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    inline, todo = made("inline", folder, 1), job(root, folder / "trial", epochs=6)
    inline.submit(todo)
    inline.messages(0)
    return weights(todo)


@pytest.fixture(scope="module")
def strangers() -> list[psutil.Process]:
    """What other tests of this process left running for theirs, such as a browser."""
    return psutil.Process().children(recursive=True)


@pytest.fixture(scope="module")
def executor(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, strangers: list[psutil.Process]
) -> Iterator[Executor]:
    """The executor under test, with two slots where it can have them; a folder with a blank and a quote in its name."""
    one = made(request.param, tmp_path_factory.mktemp(f"{request.param} it's"), 2)
    yield one
    one.close()


def on(kinds: Sequence[str], *, apart: Sequence[str] = ELSEWHERE) -> pytest.MarkDecorator:
    """Run a test on executors of these kinds; those in `apart` by `make test-cluster`."""
    chosen = [pytest.param(kind, marks=[pytest.mark.cluster] if kind in apart else []) for kind in kinds]
    return pytest.mark.parametrize("executor", chosen, indirect=True, scope="module")


def job(root: Path, folder: Path, *, epochs: int = 2, seed: int = 1) -> Job:
    """A trial folder ready for its first attempt."""
    trial = TrialFolder(folder)
    folder.mkdir(parents=True)
    trial.write_spec(toy_spec(root, epochs=epochs, seed=seed))
    return again(Job(folder))


def again(one: Job) -> Job:
    """The trial's next attempt."""
    return Job(one.folder, TrialFolder(one.folder).new_attempt().number)


def collect(executor: Executor, until: Callable[[Message], bool], timeout_s: float = 120) -> list[Message]:
    """Messages up to the one that `until` is true of."""
    found: list[Message] = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for message in executor.messages(0.2):
            found.append(message)
            if until(message):
                return found
    raise AssertionError(f"waited {timeout_s} s; got {[message.event['event'] for message in found]}")


def is_end(message: Message) -> bool:
    """The last event of a job."""
    return message.event["event"] in ENDS


def is_epoch(message: Message) -> bool:
    """An epoch ended."""
    return message.event["event"] == "epoch"


def weights(of: Job) -> str:
    """Hash of the weights an attempt left."""
    return sha256_file(TrialFolder(of.folder).attempt(of.attempt).outputs / "weights.safetensors")


def trainer(messages: list[Message]) -> psutil.Process:
    """The process that said it started."""
    return psutil.Process(next(m.event["pid"] for m in messages if m.event["event"] == "started"))


@on(KINDS, apart=())
def test_a_job_tells_its_epochs_in_order_and_leaves_its_outputs(executor: Executor, root: Path, tmp_path: Path) -> None:
    """started, epoch 1, epoch 2, finished; and the slot is free again."""
    slots, todo = executor.slots, job(root, tmp_path / "a trial")
    assert executor.free() == slots
    executor.submit(todo)
    assert executor.free() == slots - 1
    messages = collect(executor, is_end)
    kinds = [(m.event["event"], m.event.get("epoch"), m.event.get("state")) for m in messages]
    assert kinds == [
        ("started", None, None),
        ("epoch", 1, None),
        ("epoch", 2, None),
        ("finished", None, "complete"),
    ]
    assert {m.job for m in messages} == {todo}
    assert executor.free() == slots
    outputs = TrialFolder(todo.folder).attempt(1).outputs
    assert read_json(outputs / "result.json")["epochs_run"] == 2


@on(KINDS)
def test_the_same_spec_gives_the_same_weights_wherever_and_whenever_it_runs(
    executor: Executor, root: Path, tmp_path: Path, undisturbed: str
) -> None:
    """In a warm worker, beside another trial where there is room for one, and in this process."""
    jobs = [job(root, tmp_path / name, epochs=6, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    waiting, ended, deadline = list(jobs), set[Job](), time.monotonic() + 120
    while len(ended) < 2 and time.monotonic() < deadline:
        if waiting and executor.free():
            executor.submit(waiting.pop(0))
        ended |= {message.job for message in executor.messages(0.2) if is_end(message)}
    assert weights(jobs[0]) == undisturbed
    assert weights(jobs[1]) != undisturbed


@on(BESIDE)
def test_a_stopped_job_answers_and_its_worker_takes_the_next(executor: Executor, root: Path, tmp_path: Path) -> None:
    """Within seconds, in the middle of an epoch."""
    endless, short = job(root, tmp_path / "a", epochs=10_000), job(root, tmp_path / "b", epochs=1)
    executor.submit(endless)
    collect(executor, is_epoch)
    executor.stop(endless)
    asked = time.monotonic()
    last = collect(executor, is_end)[-1]
    assert (last.job, last.event["state"]) == (endless, "stopped")
    assert time.monotonic() - asked < 10
    executor.submit(short)
    assert collect(executor, is_end)[-1].event["state"] == "complete"


@on(BESIDE)
def test_a_killed_worker_is_lost_its_slot_is_not(executor: Executor, root: Path, tmp_path: Path) -> None:
    """kill -9 is one `lost` message that names the signal; the next job gets a new process."""
    endless, short = job(root, tmp_path / "a", epochs=10_000), job(root, tmp_path / "b", epochs=1)
    executor.submit(endless)
    trainer(collect(executor, is_epoch)).send_signal(signal.SIGKILL)
    last = collect(executor, is_end)[-1]
    assert (last.job, last.event["event"], last.event["cause"]) == (endless, "lost", "lost")
    assert "SIGKILL" in last.event["message"]
    executor.submit(short)
    assert collect(executor, is_end)[-1].event["state"] == "complete"


@on(ELSEWHERE)
def test_a_lost_node_costs_its_trial_the_epoch_it_was_in(
    executor: Executor, root: Path, tmp_path: Path, undisturbed: str
) -> None:
    """All of its processes end at once: it is evicted; another slot goes on from the last epoch, to the same end."""
    first = job(root, tmp_path / "a", epochs=6)
    executor.submit(first)
    messages = collect(executor, is_epoch)
    lose_node(trainer(messages))
    lost = collect(executor, is_end)
    assert (lost[-1].job, lost[-1].event["event"], lost[-1].event["cause"]) == (first, "lost", "evicted")
    trained = len(TrialFolder(first.folder).attempt(1).read_events()) - 1
    second = again(first)
    executor.submit(second)
    resumed = collect(executor, is_end)
    assert resumed[-1].event["state"] == "complete"
    assert next(m.event for m in resumed if m.event["event"] == "started")["resumed_epoch"] >= trained - 1
    assert weights(second) == undisturbed


@on(BESIDE)
def test_closing_leaves_no_process(
    executor: Executor, root: Path, tmp_path: Path, strangers: list[psutil.Process]
) -> None:
    """Also in the middle of a job. (The last test of each executor.)"""
    executor.submit(job(root, tmp_path / "a", epochs=10_000))
    collect(executor, is_epoch)
    before = [child for child in psutil.Process().children(recursive=True) if child not in strangers]
    executor.close()
    gone, alive = psutil.wait_procs(before, timeout=10)
    assert gone
    # Python's resource tracker and fork server end with this process.
    own = ("multiprocessing.resource_tracker", FORK_SERVER)
    assert not [
        child for child in alive if is_worker(child) or not any(one in " ".join(child.cmdline()) for one in own)
    ]


def test_a_silent_worker_loses_its_job_and_writes_only_into_its_own_attempt(root: Path, tmp_path: Path) -> None:
    """Stopped past its lease and out of reach of a kill: another attempt ends the trial; continued, it ends itself."""
    place = Workplace(tmp_path / "stores")
    executor = LocalExecutor([place], logs=tmp_path / "logs", lease_s=3.0, end=lambda process: None)
    try:
        first = job(root, tmp_path / "trial", epochs=6)
        executor.submit(first)
        stopped = trainer(collect(executor, is_epoch))
        stopped.suspend()
        lost = collect(executor, lambda message: message.event["event"] == "lost", timeout_s=20)[-1]
        assert lost.job == first
        assert "did not beat for 3 s" in lost.event["message"]
        folder = TrialFolder(first.folder)
        second = Job(first.folder, folder.new_attempt().number)
        executor.submit(second)
        collect(executor, lambda message: message.event["event"] == "finished")
        folder.accept(folder.attempt(2))
        before = contents(first.folder, apart=folder.attempt(1).path)
        stopped.resume()
        stopped.wait(timeout=30)
        assert contents(first.folder, apart=folder.attempt(1).path) == before
        assert read_json(folder.manifest)["attempt"] == 2
        assert folder.damaged() == []
    finally:
        executor.close()


OWN_NETWORK = """
import torch

class Network(torch.nn.Conv2d):
    def forward(self, images):
        if self.training:
            torch.empty(2**60)
        return super().forward(images)

def build(classes):
    return Network(3, classes, 1)
"""


def process_of(executor: Executor, todo: Job) -> tuple[int, str, str | None]:
    """Do a job: the process that did it, its state and its cause."""
    executor.submit(todo)
    messages = collect(executor, is_end)
    assert messages[-1].event["event"] == "finished"
    return trainer(messages).pid, messages[-1].event["state"], messages[-1].event["cause"]


def test_a_worker_that_ran_out_of_memory_or_did_its_share_is_replaced(root: Path, tmp_path: Path) -> None:
    """torch cannot allocate: that job fails, the next one is another process's, and so is the one after two. Nothing is
    lost, and of the processes before none is left."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "own_network.py").write_text(OWN_NETWORK)
    part = located(ImportedPart(target="own_network:build", name="own"), [own])
    short = TrialFolder(tmp_path / "short")
    short.write_spec(toy_spec(root, model=ModelSpec(architecture=part)))
    executor = LocalExecutor([Workplace(tmp_path / "stores")], logs=tmp_path / "logs", jobs_a_worker=2)
    try:
        first, *why = process_of(executor, again(Job(short.path)))
        assert why == ["failed", "out_of_memory"]
        done = [process_of(executor, job(root, tmp_path / name, epochs=1)) for name in "abc"]
        assert {tuple(rest) for _, *rest in done} == {("complete", None)}
        second, also_second, third = (pid for pid, _, _ in done)
        assert second == also_second
        assert len({first, second, third}) == 3
        assert not psutil.pid_exists(first) and not psutil.pid_exists(second)
        assert sha256_file(tmp_path / "a/attempts/1/outputs/weights.safetensors") == weights(Job(tmp_path / "c", 1))
    finally:
        executor.close()


def contents(folder: Path, *, apart: Path) -> dict[Path, str]:
    """The hash of every file that does not lie in `apart`."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(apart)]
    return {path: sha256_file(path) for path in files}
