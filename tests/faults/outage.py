"""A real MLflow server behind a line that fails in every way a line can, while a real sweep runs.

python -m tests.faults.outage [SECONDS]
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

from harness.tracking.store import sqlite_uri
from tests.faults.real import Bench, Outcome, bench, epochs_of, problems, regions, shown, wait_for, weights_of

Fault = Literal["refuse", "cut", "503", "hang"]
FAULTS: tuple[Fault, ...] = ("refuse", "cut", "503", "hang")
# Requests whose first answer is lost before any outage: repeated blindly they would make a second run, or points twice.
LOST = (b"/runs/create", b"/runs/log-batch")
AWAY_S = 90.0
# Promise 6.
CAUGHT_UP_S = 60.0
# Trials run for longer than the outage of a test, on two cores that others use, too.
EPOCHS = 60
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Line:
    """A TCP proxy on 127.0.0.1 to `target`. While `broken`, each connection meets the next of FAULTS."""

    def __init__(self, target: int) -> None:
        self.broken = False
        self.met: list[Fault] = []
        self.lost: list[bytes] = []
        self._target = target
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._socket.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                fault = FAULTS[len(self.met) % len(FAULTS)] if self.broken else None
                self.met += [fault] if fault else []
                threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: Fault | None) -> None:
        with suppress(OSError), client:
            if fault == "refuse":
                # Reset at once, which is what a closed port looks like from the client's side.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif fault == "hang":
                while self.broken:
                    time.sleep(0.1)
            elif fault == "503":
                client.recv(1 << 16)
                client.sendall(UNAVAILABLE)
            else:
                self._forward(client, cut=fault == "cut")

    def _forward(self, client: socket.socket, *, cut: bool) -> None:
        """Both ways; when cut, the request is passed on and its answer is not."""
        asked: list[bytes] = []
        with socket.create_connection(("127.0.0.1", self._target)) as server:
            threading.Thread(target=_pump, args=(client, server, asked), daemon=True).start()
            while answer := server.recv(1 << 16):
                # A connection that was opened before the line broke is cut, too.
                if cut or self.broken or self._loses(asked):
                    return
                client.sendall(answer)

    def _loses(self, asked: list[bytes]) -> bool:
        """Whether this answer is one of those that are lost once."""
        said = b"".join(asked)
        asked.clear()
        lost = [path for path in LOST if path in said and path not in self.lost]
        self.lost += lost
        return bool(lost)


def _pump(source: socket.socket, sink: socket.socket, seen: list[bytes]) -> None:
    with suppress(OSError):
        while some := source.recv(1 << 16):
            seen.append(some)
            sink.sendall(some)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """An MLflow server over SQLite in `folder`; its port."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        sqlite_uri(folder / "mlflow.db"),
        "--artifacts-destination",
        str(folder / "files"),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            command, env=os.environ | quiet, stdout=said, stderr=said, cwd=folder, start_new_session=True
        )
    try:
        if not wait_for(lambda: _answers(port), timeout_s=90):
            raise RuntimeError((folder / "said").read_text()[-500:])
        yield port
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def _answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def outcomes(folder: Path, *, away_s: float = AWAY_S) -> Iterator[Outcome]:
    """The server away for `away_s` seconds; then the same with the controller killed meanwhile."""
    data = regions(folder / "data")
    undisturbed = bench(folder / "undisturbed", data, epochs=EPOCHS)
    undisturbed.finish()
    weights, alone_s = weights_of(undisturbed), training_s(undisturbed)
    for name, killed in (("the server away", False), ("the server away, the controller killed", True)):
        at = folder / f"server {killed}"
        with server(at) as port:
            line = Line(port)
            uri = f"http://127.0.0.1:{line.port}"
            there = bench(folder / f"away {killed}", data, epochs=EPOCHS, MLFLOW_TRACKING_URI=uri)
            wrong, measured = _through_an_outage(there, line, away_s, killed=killed)
            line.close()
        wrong += problems(there, weights=weights, kills=int(killed), database=at / "mlflow.db")
        if not killed:
            measured |= {"training, s": training_s(there), "training undisturbed, s": alone_s}
        yield Outcome(name, wrong, measured)


def training_s(there: Bench) -> float:
    """From the first epoch's end to the last one's."""
    times = [event["time"] for folder in there.folders() for event in epochs_of(folder)]
    return max(times) - min(times) if times else float("nan")


def _through_an_outage(there: Bench, line: Line, away_s: float, *, killed: bool) -> tuple[list[str], dict[str, float]]:
    """Run the sweep; the line is broken from its first epoch on, for `away_s` seconds."""
    sweep = there.start()
    if not wait_for(there.trained):
        sweep.kill()
        return [f"nothing was trained: {there.said[-300:]}"], {}
    began, line.broken = time.monotonic(), True
    time.sleep(away_s / 2)
    if killed:
        sweep.kill()
        sweep.wait()
        sweep = there.start()
    time.sleep(away_s / 2)
    line.broken, back = False, time.monotonic()
    code = sweep.wait(240)
    ended_s = time.monotonic() - back
    if code == 0 and "MLflow is not up to date" in there.said:
        again = time.monotonic()
        code = there.finish()  # what the line says to do
        ended_s = time.monotonic() - again
    wrong = [] if code == 0 else [f"the command ended with {code}: {there.said[-300:]}"]
    if ended_s > CAUGHT_UP_S:
        wrong.append(f"it ended {ended_s:.0f} s after the server's return")
    wrong += [f"no request met a line that did {fault}" for fault in FAULTS if fault not in line.met]
    wrong += [f"no answer to {path.decode()} was lost" for path in LOST if path not in line.lost]
    measured = {"away, s": back - began, "ended after its return, s": ended_s, "requests meanwhile": len(line.met)}
    return wrong, measured


if __name__ == "__main__":
    sys.exit(bool(shown(partial(outcomes, away_s=float(sys.argv[1]) if sys.argv[1:] else AWAY_S))))
