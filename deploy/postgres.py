"""PostgreSQL from the programs of the system: a cluster of its own in a folder, on this machine alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.account import Account
from harness.errors import Refused

SQL = Path(__file__).with_name("databases.sql")


def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; None where PostgreSQL is not installed."""
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def program(name: str) -> str:
    """One of them; Refused where PostgreSQL is not installed."""
    folder = programs()
    if folder is None:
        raise Refused("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return str(folder / name)


def run(
    command: Sequence[str], *, folder: Path, account: Account | None, environment: Mapping[str, str] | None = None
) -> None:
    """Run one of the programs to its end; Refused with the first line of its error, which never quotes a statement."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **(account.options if account else {}),
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise Refused(f"{Path(command[0]).name}: {said[0][:300]}")


def initialise(cluster: Path, account: Account | None, *options: str) -> None:
    """Make a cluster unless it is there: aside, so that one that is there is whole."""
    if cluster.exists():
        return
    aside = cluster.with_name(f"{cluster.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    run([program("initdb"), *options, "--pgdata", str(aside)], folder=cluster.parent, account=account)
    aside.rename(cluster)
