"""A real MLflow server over SQLite that keeps artifacts in a folder, and a line to it that harms single files."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from harness.tracking.store import sqlite_uri

# cut: the connection ends in the middle of the file. alter: one byte becomes another one. late: the answer comes after
# LATE_S. large: 413, as of a proxy that takes no such files.
Fault = Literal["cut", "alter", "late", "large"]
LATE_S = 3.0
PIECE = 1 << 16
# Of one connection and its hop.
HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


class Served:
    """An MLflow server that may be killed and started again on the same port and folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def files(self) -> Path:
        """Where it keeps artifacts."""
        return self.folder / "files"

    def start(self) -> None:
        """Returns when it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", sqlite_uri(self.folder / "mlflow.db")]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.files)]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "said").open("ab") as said:
            self._process = subprocess.Popen(
                command, env=os.environ | quiet, stdout=said, stderr=said, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "said").read_text()[-500:]
            time.sleep(0.2)

    def kill(self) -> None:
        """Without a warning, in the middle of whatever it does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        asked = closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=2))
        with suppress(OSError, http.client.HTTPException), asked as connection:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        return False


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """A server that runs, and is stopped in the end."""
    server = Served(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@dataclass
class Line:
    """A reverse proxy on 127.0.0.1 to a server. Each upload of a file meets the next of that file's `faults`."""

    server: Served
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)  # names of the files that were uploaded, each time
    middle: threading.Event = field(default_factory=threading.Event)  # half of a file that is cut is on its way
    uri: str = ""

    def next_fault(self, name: str) -> Fault | None:
        """What this upload meets."""
        waiting = self.faults.get(name)
        return waiting.pop(0) if waiting else None


@contextmanager
def line_to(server: Served) -> Iterator[Line]:
    """A line, closed in the end."""
    line = Line(server)

    class Handler(_Handler):
        to = line

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    line.uri = f"http://127.0.0.1:{proxy.server_address[1]}"
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield line
    finally:
        proxy.shutdown()
        proxy.server_close()


class _Handler(BaseHTTPRequestHandler):
    to: Line

    def _pass_on(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            self._passed_on()
            return
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

    def _passed_on(self) -> None:
        left, fault = int(self.headers.get("Content-Length") or 0), None
        if self.command == "PUT":
            name = self.path.rsplit("/", 1)[-1]
            self.to.sent.append(name)
            fault = self.to.next_fault(name)
        with closing(http.client.HTTPConnection("127.0.0.1", self.to.server.port)) as server:
            self._forward(server, left, fault)

    def _forward(self, server: http.client.HTTPConnection, left: int, fault: Fault | None) -> None:
        server.putrequest(self.command, self.path)
        for key, value in self.headers.items():
            if key.lower() not in HOP_HEADERS:
                server.putheader(key, value)
        server.putheader("Content-Length", str(left))
        server.endheaders()
        half = left // 2
        while left > 0:
            piece = self.rfile.read(min(PIECE, left))
            if fault == "alter" and left - len(piece) <= half:
                piece, fault = bytes([piece[0] ^ 1]) + piece[1:], None
            left -= len(piece)
            server.send(piece)
            if fault == "cut" and left <= half:
                self.to.middle.set()
                self.close_connection = True
                return
        answer = server.getresponse()
        content = answer.read()
        if fault == "late":
            time.sleep(LATE_S)
        self._answer(413 if fault == "large" else answer.status, answer.getheaders(), content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for key, value in headers:
            if key.lower() not in HOP_HEADERS:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
