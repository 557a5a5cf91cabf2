"""A PostgreSQL server of our own for tests: a fresh cluster in a temporary folder, on this machine alone."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy import postgres
from deploy.account import account_of_postgres, handed_over
from deploy.postgres import programs
from harness.errors import Refused

__all__ = ["Server", "programs", "restartable", "server"]


@dataclass(frozen=True)
class Server:
    """A server that can be away for a while."""

    url: str  # SQLAlchemy's
    begin: Callable[[], None]
    end: Callable[[], None]  # at once, as a crash would


@contextmanager
def restartable() -> Iterator[Server]:
    """It runs; stopped at once in the end. It refuses to run as root, so then it runs as `postgres`."""
    with TemporaryDirectory(prefix="postgres-") as name, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        folder, cluster, account = Path(name), Path(name) / "cluster", account_of_postgres()
        handed_over(folder, account)

        def pg_ctl(*arguments: str) -> None:
            command = [postgres.program("pg_ctl"), *arguments, "--pgdata", str(cluster)]
            postgres.run(command, folder=folder, account=account)

        postgres.initialise(cluster, account, "--auth=trust", "--username=postgres", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {name} -c fsync=off"
        there = Server(
            f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres",
            lambda: pg_ctl("start", "--wait", "--log", f"{name}/log", "--options", options),
            lambda: pg_ctl("stop", "--mode=immediate"),
        )
        there.begin()
        try:
            yield there
        finally:
            with suppress(Refused):  # it is away
                there.end()


@contextmanager
def server() -> Iterator[str]:
    """The URL of one that stays."""
    with restartable() as there:
        yield there.url
