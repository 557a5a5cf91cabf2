"""Leases of Slurm jobs, over submitit's local stand-in: real jobs, without a Slurm."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.config.pause import Pause
from harness.config.resources import Resources
from harness.errors import Refused
from harness.execute.base import Job
from harness.execute.lease import Terms, serve_lease
from harness.execute.mailbox import Box, Mailbox, Pulse, job_of, job_words
from harness.execute.slurm import SlurmExecutor
from harness.execute.visible import offered
from harness.execute.work import Workplace
from harness.trial.folder import TrialFolder
from tests.execute.executors import environment, made
from tests.execute.test_executors import again, collect, is_end, is_epoch, job, trainer, weights
from tests.toy import write_cohort


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cohort."""
    return write_cohort(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def executor(tmp_path: Path) -> Iterator[SlurmExecutor]:
    """One slot, whose lease ends after three idle seconds."""
    one = made("slurm", tmp_path / "home", 1, idle_s=3.0)
    assert isinstance(one, SlurmExecutor)
    yield one
    one.close()


@pytest.mark.slow
@pytest.mark.cluster
def test_a_lease_whose_time_is_up_hands_its_trial_on(executor: SlurmExecutor, root: Path, tmp_path: Path) -> None:
    """Slurm's warning (USR2) stops the trial between two batches; the next lease goes on, to the weights of an
    undisturbed run; and a lease with nothing to do ends: no allocation is held."""
    first = job(root, tmp_path / "a", epochs=8)
    executor.submit(first)
    worker = trainer(collect(executor, is_epoch))
    server, step = worker.parents()[:2]
    for process in (worker, server, step):  # as Slurm does
        process.send_signal(signal.SIGUSR2)
    lost = collect(executor, is_end)[-1].event
    assert (lost["event"], lost["cause"]) == ("lost", "evicted")
    assert "its time is up" in lost["message"]
    second = again(first)
    executor.submit(second)
    told = collect(executor, is_end)
    assert told[0].event["resumed_epoch"] >= 1
    assert told[-1].event["state"] == "complete"
    plain, undisturbed = made("inline", tmp_path, 1), job(root, tmp_path / "plain", epochs=8)
    plain.submit(undisturbed)
    plain.messages(0)
    assert weights(second) == weights(undisturbed)

    deadline = time.monotonic() + 60
    while jobs_here() and time.monotonic() < deadline:
        assert executor.messages(0.2) == []
    assert jobs_here() == []
    assert executor.free() == 1


def jobs_here() -> list[psutil.Process]:
    """The jobs that this process has running in submitit's stand-in."""
    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "submitit" in " ".join(child.cmdline())]


CONTROLLER = """
import sys, time
from pathlib import Path
from tests.execute.executors import made
from tests.execute.test_executors import collect, is_epoch, job
root, home = map(Path, sys.argv[1:])
executor = made("slurm", home, 1, lease_s=4.0)
executor.submit(job(root, home / "a", epochs=10_000))
collect(executor, is_epoch)
print("training", flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.cluster
def test_a_lease_whose_controller_is_gone_ends_by_itself(root: Path, tmp_path: Path) -> None:
    """kill -9 of the controller: its jobs outlive it, hear no beat any more, and go within their patience."""
    home = tmp_path / "home"
    command = [sys.executable, "-c", CONTROLLER, str(root), str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as controller:
        assert controller.stdout is not None and controller.stdout.readline() == b"training\n"
        left = psutil.Process(controller.pid).children(recursive=True)
        assert len(left) >= 3  # submitit's local stand-in, the job, the worker
        controller.kill()
    _, alive = psutil.wait_procs(left, timeout=60)
    assert alive == []


@pytest.mark.slow
def test_a_lease_does_not_begin_twice_nor_for_another_controller(tmp_path: Path) -> None:
    """A job that Slurm starts again finds its lease begun; one that comes late finds another controller's beat."""
    (tmp_path / "lease").mkdir()
    place, proof = Workplace(tmp_path / "stores"), offered(tmp_path / "nodes")
    terms = Terms(
        tmp_path / "lease", tmp_path / "controller", "mine", place, tmp_path / "logs", proof, idle_s=60, silence_s=60
    )
    (tmp_path / "controller").write_text("another 7\n")
    handlers = {name: signal.getsignal(name) for name in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)}
    try:
        assert serve_lease(terms) == "its controller was replaced by another one"
        assert serve_lease(terms).startswith("begun before")
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)


@pytest.mark.slow
@pytest.mark.cluster
def test_jobs_that_never_begin_end_the_sweep_in_one_line(root: Path, tmp_path: Path) -> None:
    """A setup that fails, as on a node without the home: three jobs are enough to know, and their output is named."""
    need = Resources(setup=("false",))
    one = SlurmExecutor(slots=1, device="cpu", need=need, name="x", stores=tmp_path / "stores", logs=tmp_path / "logs",
                        home=tmp_path / "home", cluster="local")  # fmt: skip
    try:
        one.submit(job(root, tmp_path / "a"))
        with pytest.raises(Refused, match=r"3 jobs in a row ended before they began.*submitit") as caught:
            for attempt in range(2, 9):
                collect(one, is_end)
                one.submit(Job(tmp_path / "a", attempt))
        assert "\n" not in str(caught.value)
    finally:
        one.close()


def test_words_arrive_once_in_order_and_jobs_are_what_they_were(tmp_path: Path) -> None:
    """Also those of side jobs; what is being written aside is no word yet."""
    sender, receiver = Box(tmp_path / "box"), Box(tmp_path / "box")
    jobs = [
        Job(tmp_path / "a b", 3, pause=Pause("samples", 2500.0)),
        Job(tmp_path, task="fetch", weights=("resnet18", "imagenet")),
        Job(tmp_path, 0, "sketch"),
    ]
    assert receiver.take() == []
    for one in jobs[:2]:
        sender.put(job_words(one))
    assert [job_of(word) for word in receiver.take()] == jobs[:2]
    assert receiver.take() == []
    sender.put(job_words(jobs[2]))
    (tmp_path / "box/.000004.json.abcdefgh.json").write_text("{")
    assert [job_of(word) for word in receiver.take()] == jobs[2:]


def test_silence_counts_from_the_last_beat_that_was_new(tmp_path: Path) -> None:
    """What waits in Slurm's queue has never beaten, and is not silent; an unchanged beat is none."""
    pulse = Pulse(tmp_path / "beat")
    assert pulse.look() is None
    (tmp_path / "beat").write_text("1")
    first = pulse.look()
    time.sleep(0.05)
    later = pulse.look()
    assert first is not None and later is not None and later >= first + 0.05
    (tmp_path / "beat").write_text("2")
    fresh = pulse.look()
    assert fresh is not None and fresh < later


def test_without_slurm_or_with_a_part_of_a_gpu_it_is_refused(tmp_path: Path) -> None:
    """One line each, which says what to do."""
    common = {"slots": 1, "name": "x", "stores": tmp_path, "logs": tmp_path, "home": tmp_path}
    with environment(PATH=str(tmp_path)), pytest.raises(Refused, match="`sbatch` is not on the PATH"):
        SlurmExecutor(device="cpu", need=Resources(), **common)  # type: ignore[arg-type]
    with pytest.raises(Refused, match=r"resources.gpus: 0.5: Slurm gives whole GPUs"):
        SlurmExecutor(device="auto", need=Resources(gpus=0.5), **common)  # type: ignore[arg-type]


def test_what_a_lease_asks_of_slurm(tmp_path: Path) -> None:
    """The resources of the YAML as lines of the job's script: an `sbatch` that keeps what it is given."""
    sbatch = tmp_path / "bin/sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\n/bin/cat \"$1\" > '{tmp_path}/script'\necho Submitted batch job 17\n")
    for name in ("srun", "scancel"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
    for file in sbatch.parent.iterdir():
        file.chmod(0o755)
    need = Resources.model_validate(
        {"gpus": 1, "cpus": 8, "memory": "32G", "time": "4h", "partition": "a100", "setup": ["module load cuda"]}
    )
    with environment(PATH=f"{tmp_path}/bin"):
        one = SlurmExecutor(slots=1, device="auto", need=need, name="unicorn", stores=tmp_path, logs=tmp_path,
                            home=tmp_path / "my home", lease_s=1.0)  # fmt: skip
        one.submit(Job(TrialFolder(tmp_path / "trial").path, 1))
        one.close()
    script = (tmp_path / "script").read_text().splitlines()
    for line in ("--cpus-per-task=8", "--gpus-per-node=1", "--mem=32768M", "--time=240", "--partition=a100",
                 "--job-name=harness-unicorn", "--signal=USR2@90", "--no-requeue", "--nodes=1"):  # fmt: skip
        assert f"#SBATCH {line}" in script
    assert "module load cuda" in script
    assert Mailbox(tmp_path).orders == tmp_path / "orders"
