"""A PostgreSQL server of our own for tests: a fresh cluster in a temporary folder, on this machine alone."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None where PostgreSQL is not installed."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@contextmanager
def server() -> Iterator[str]:
    """Its SQLAlchemy URL; stopped at once in the end. It refuses to run as root, so then it runs as `postgres`."""
    binaries = programs()
    assert binaries is not None
    with TemporaryDirectory(prefix="postgres-") as name, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        cluster = Path(name) / "cluster"
        user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if user is not None:
            os.chown(name, user.pw_uid, user.pw_gid)

        def run(program: str, *arguments: str) -> None:
            _run([str(binaries / program), *arguments], Path(name), user.pw_uid if user else None)

        run("initdb", "--auth=trust", "--username=postgres", "--no-sync", "--pgdata", str(cluster))
        options = f"-c listen_addresses=127.0.0.1 -p {port} -k {name} -c fsync=off"
        run("pg_ctl", "start", "--wait", "--pgdata", str(cluster), "--log", f"{name}/log", "--options", options)
        try:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "stop", "--mode=immediate", "--pgdata", str(cluster))


def _run(command: Sequence[str], folder: Path, uid: int | None) -> None:
    subprocess.run(command, cwd=folder, check=True, user=uid, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
