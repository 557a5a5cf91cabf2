"""Worker processes as forks: what they share, what they do not, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from harness.execute.process import WorkerProcess
from tests.processes import FORK_SERVER, is_worker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned"),
]


def echo(pipe: Connection, word: str) -> None:
    """Answer with what was sent, a word, this process's environment and what it imported already."""
    while True:
        try:
            sent = pipe.recv()
        except EOFError:
            return
        pipe.send((sent, word, dict(os.environ), "torch" in sys.modules))


@pytest.fixture
def started() -> Iterator[list[WorkerProcess]]:
    """Those begun by a test; they are ended after it."""
    processes: list[WorkerProcess] = []
    yield processes
    for process in processes:
        process.kill()
        process.join()


def fork_server() -> psutil.Process:
    """This process's."""
    found = (child for child in psutil.Process().children() if FORK_SERVER in " ".join(child.cmdline()))
    return next(child for child in found if child.status() != psutil.STATUS_ZOMBIE)


def test_what_is_sent_before_it_starts_waits_for_it(started: list[WorkerProcess]) -> None:
    """And the answer comes from another process that has torch without importing it."""
    process = WorkerProcess(echo, "hello")
    started.append(process)
    process.pipe.send(3)
    sent, word, _, has_torch = process.pipe.recv()
    assert (sent, word, has_torch) == (3, "hello", True)
    assert process.pid not in (None, os.getpid()) and is_worker(psutil.Process(process.pid))


def test_a_worker_has_the_environment_of_its_own_time(
    started: list[WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of the first worker of all: what was set since is there, what was taken away is not."""
    for value in ("first", "second"):
        monkeypatch.setenv("HARNESS_TEST_VALUE", value)
        started.append(WorkerProcess(echo, value))
    monkeypatch.delenv("HARNESS_TEST_VALUE")
    started.append(WorkerProcess(echo, "third"))
    found = []
    for process in started:
        process.pipe.send(None)
        found.append(process.pipe.recv()[2].get("HARNESS_TEST_VALUE"))
    assert found == ["first", "second", None]


def test_workers_hold_one_copy_of_what_they_import(started: list[WorkerProcess]) -> None:
    """Of 300 MB and more that each can see, less than a tenth is its own."""
    started += [WorkerProcess(echo, "") for _ in range(2)]
    for process in started:
        process.pipe.send(None)
        process.pipe.recv()
        memory = psutil.Process(process.pid).memory_full_info()
        assert memory.rss > 300e6 and memory.uss < memory.rss / 10


def test_a_kill_is_told_from_an_exit(started: list[WorkerProcess]) -> None:
    """As subprocess tells them: -9 and 0; and who runs has no code."""
    started += [WorkerProcess(echo, "") for _ in range(2)]
    killed, closed = started
    for process in started:
        process.pipe.send(None)
        process.pipe.recv()
        assert process.is_alive() and process.exit_code is None
    os.kill(killed.pid or 0, signal.SIGKILL)
    closed.pipe.close()
    for process in started:
        process.join(10)
    assert (killed.exit_code, closed.exit_code) == (-9, 0)
    assert not killed.is_alive() and not closed.is_alive()


def test_without_its_fork_server_a_worker_goes_on_and_the_next_one_gets_another(started: list[WorkerProcess]) -> None:
    """The kernel may take it for the largest process."""
    started.append(WorkerProcess(echo, "before"))
    started[0].pipe.send(1)
    assert started[0].pipe.recv()[0] == 1
    server = fork_server()
    server.kill()
    while server.status() != psutil.STATUS_ZOMBIE:  # not waited for: that is for multiprocessing
        time.sleep(0.01)
    started[0].pipe.send(2)
    assert started[0].pipe.recv()[0] == 2
    started.append(WorkerProcess(echo, "after"))
    started[1].pipe.send(3)
    assert started[1].pipe.recv()[:2] == (3, "after")
    assert fork_server() != server


def test_one_that_cannot_be_started_closes_its_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever waits for its word is told; it is not alive and has no exit code."""
    from multiprocessing.process import BaseProcess

    def refused(self: BaseProcess) -> None:
        raise EOFError

    monkeypatch.setattr(BaseProcess, "start", refused)
    process = WorkerProcess(echo, "")
    with pytest.raises(EOFError):
        process.pipe.recv()
    process.join(10)
    assert (process.is_alive(), process.pid, process.exit_code) == (False, None, None)


CONTROLLER = """
import time
from harness.execute.process import WorkerProcess
from tests.execute.test_process import echo
process = WorkerProcess(echo, "")
time.sleep(60)
"""


def test_a_killed_controller_leaves_no_fork_server_that_still_imports() -> None:
    """It would look for its parent only when it has imported all."""
    command = [sys.executable, "-c", CONTROLLER]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as controller:
        while not (left := psutil.Process(controller.pid).children(recursive=True)):
            time.sleep(0.01)
        while not any("torch" in mapped.path for child in left for mapped in child.memory_maps()):
            time.sleep(0.05)
            left = psutil.Process(controller.pid).children(recursive=True)
        controller.kill()
    _, alive = psutil.wait_procs(left, timeout=5)
    assert alive == []


SHORT = """
from harness.execute.process import WorkerProcess
from tests.execute.test_process import echo
process = WorkerProcess(echo, "")
process.pipe.send(1)
print(process.pipe.recv()[0])
process.pipe.close()
process.join()
"""


def test_where_the_fork_server_has_no_place_for_its_socket_workers_are_spawned(tmp_path: Path) -> None:
    """The path of a socket has at most 108 bytes."""
    folder = tmp_path / ("a long name" * 10)
    folder.mkdir()
    command = [sys.executable, "-c", SHORT]
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2], env=environment
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def test_neither_imports_nor_their_end_say_anything_to_the_terminal() -> None:
    """A command's last line is its own."""
    command = [sys.executable, "-c", SHORT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


def test_workers_are_forked_from_a_single_thread(started: list[WorkerProcess]) -> None:
    """A fork does not have the others, and the locks that they held stay locked."""
    started.append(WorkerProcess(echo, ""))
    started[0].pipe.send(None)
    started[0].pipe.recv()
    assert fork_server().num_threads() == 1


IMPORTS = """
import sys, torch
def asked(*_):
    raise SystemExit("asked for a CUDA device")
torch._C._cuda_getDeviceCount = torch._C._cuda_init = asked
torch.cuda._lazy_init = torch.cuda.is_available = torch.cuda.device_count = asked
import harness.execute.preloaded
print([name in sys.modules for name in ("harness.trial.run", "albumentations", "captum.attr")])
"""


def test_what_workers_import_asks_for_no_device() -> None:
    """CUDA once begun does not work in a fork."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[True, True, True]\n", 0), done.stderr
