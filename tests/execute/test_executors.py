"""One behaviour suite over every executor: real jobs, real processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.execute.base import Executor, Job, Message
from harness.execute.inline import InlineExecutor
from harness.execute.local import LocalExecutor
from harness.execute.work import Workplace
from harness.files import read_json, sha256_file
from harness.trial.folder import TrialFolder
from tests.toy import toy_spec, write_cohort

pytestmark = pytest.mark.slow

Made = Callable[[int], Executor]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cohort."""
    return write_cohort(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    """A way to make the executor under test with so many slots."""
    executors: list[Executor] = []

    def make(slots: int) -> Executor:
        place = Workplace(tmp_path / "stores")
        if request.param == "inline":
            executors.append(InlineExecutor(place, lambda: False))
        else:
            executors.append(LocalExecutor([place] * slots, logs=tmp_path / "logs"))
        return executors[-1]

    yield make
    for executor in executors:
        executor.close()


both = pytest.mark.parametrize("made", ["inline", "local"], indirect=True)
local = pytest.mark.parametrize("made", ["local"], indirect=True)


def job(root: Path, folder: Path, *, epochs: int = 2, seed: int = 1) -> Job:
    """A trial folder ready for its first attempt."""
    trial = TrialFolder(folder)
    folder.mkdir(parents=True)
    trial.write_spec(toy_spec(root, epochs=epochs, seed=seed))
    trial.attempt(1).path.mkdir(parents=True)
    return Job(folder, 1)


def collect(executor: Executor, until: Callable[[Message], bool], timeout_s: float = 90) -> list[Message]:
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
    return message.event["event"] in ("finished", "lost", "exported")


def weights(of: Job) -> str:
    """Hash of the weights an attempt left."""
    return sha256_file(TrialFolder(of.folder).attempt(of.attempt).outputs / "weights.safetensors")


@both
def test_a_job_tells_its_epochs_in_order_and_leaves_its_outputs(made: Made, root: Path, tmp_path: Path) -> None:
    """started, epoch 1, epoch 2, finished; and the slot is free again."""
    executor, todo = made(1), job(root, tmp_path / "a trial")
    executor.submit(todo)
    assert executor.free() == 0
    messages = collect(executor, is_end)
    kinds = [(m.event["event"], m.event.get("epoch"), m.event.get("state")) for m in messages]
    assert kinds == [
        ("started", None, None),
        ("epoch", 1, None),
        ("epoch", 2, None),
        ("finished", None, "complete"),
    ]
    assert {m.job for m in messages} == {todo}
    assert executor.free() == 1
    outputs = TrialFolder(todo.folder).attempt(1).outputs
    assert read_json(outputs / "result.json")["epochs_run"] == 2


@pytest.mark.parametrize("made", ["local"], indirect=True)
def test_the_same_spec_gives_the_same_weights_wherever_and_whenever_it_runs(
    made: Made, root: Path, tmp_path: Path
) -> None:
    """First in one worker, second in a warm one beside another trial, and in this process."""
    executor = made(2)
    jobs = [job(root, tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 2), ("c", 1))]
    executor.submit(jobs[0])
    executor.submit(jobs[1])
    ended: set[Job] = set()
    collect(executor, lambda message: is_end(message) and (ended.add(message.job) or len(ended) == 2))
    executor.submit(jobs[2])
    collect(executor, is_end)
    inline = InlineExecutor(Workplace(tmp_path / "stores"), lambda: False)
    inline.submit(job(root, tmp_path / "d", seed=1))
    inline.messages(0)
    assert weights(jobs[0]) == weights(jobs[2]) == weights(Job(tmp_path / "d", 1))
    assert weights(jobs[0]) != weights(jobs[1])


@local
def test_a_stopped_job_answers_and_its_worker_takes_the_next(made: Made, root: Path, tmp_path: Path) -> None:
    """Within seconds, in the middle of an epoch."""
    executor, endless, short = made(1), job(root, tmp_path / "a", epochs=10_000), job(root, tmp_path / "b", epochs=1)
    executor.submit(endless)
    collect(executor, lambda message: message.event["event"] == "epoch")
    executor.stop(endless)
    asked = time.monotonic()
    last = collect(executor, is_end)[-1]
    assert (last.job, last.event["state"]) == (endless, "stopped")
    assert time.monotonic() - asked < 5
    executor.submit(short)
    assert collect(executor, is_end)[-1].event["state"] == "complete"


@local
def test_a_killed_worker_is_lost_its_slot_is_not(made: Made, root: Path, tmp_path: Path) -> None:
    """kill -9 is one `lost` message that names the signal; the next job gets a new process."""
    executor, endless, short = made(1), job(root, tmp_path / "a", epochs=10_000), job(root, tmp_path / "b", epochs=1)
    executor.submit(endless)
    started = collect(executor, lambda message: message.event["event"] == "epoch")
    pid = next(m.event["pid"] for m in started if m.event["event"] == "started")
    os.kill(pid, signal.SIGKILL)
    last = collect(executor, is_end)[-1]
    assert (last.job, last.event["event"]) == (endless, "lost")
    assert "SIGKILL" in last.event["message"]
    executor.submit(short)
    assert collect(executor, is_end)[-1].event["state"] == "complete"


@local
def test_closing_leaves_no_process(made: Made, root: Path, tmp_path: Path) -> None:
    """Also in the middle of a job."""
    executor, endless = made(2), job(root, tmp_path / "a", epochs=10_000)
    executor.submit(endless)
    collect(executor, lambda message: message.event["event"] == "epoch")
    before = psutil.Process().children(recursive=True)
    executor.close()
    gone, alive = psutil.wait_procs(before, timeout=5)
    assert gone
    assert not [child for child in alive if "spawn_main" in " ".join(child.cmdline())]


def test_a_silent_worker_loses_its_job_and_writes_only_into_its_own_attempt(root: Path, tmp_path: Path) -> None:
    """Stopped past its lease and out of reach of a kill: another attempt ends the trial; continued, it ends itself."""
    place = Workplace(tmp_path / "stores")
    executor = LocalExecutor([place], logs=tmp_path / "logs", lease_s=3.0, end=lambda process: None)
    try:
        first = job(root, tmp_path / "trial", epochs=6)
        executor.submit(first)
        collect(executor, lambda message: message.event["event"] == "epoch")
        (stopped,) = [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
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


def contents(folder: Path, *, apart: Path) -> dict[Path, str]:
    """The hash of every file that does not lie in `apart`."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_relative_to(apart)]
    return {path: sha256_file(path) for path in files}
