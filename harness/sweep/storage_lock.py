"""One controller per sweep across machines: its name is held in the PostgreSQL database that has Optuna's studies.

An advisory lock of a session: the server frees it when the process, or its machine, is gone. A server that is started
again has forgotten it, so a thread takes it again then; should somebody else have been faster, this controller stops.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from harness.errors import Refused
from harness.files import fingerprint
from harness.tracking.store import printable

LOOK_EVERY_S = 5.0
_HOLDER = """select a.application_name from pg_locks l join pg_stat_activity a using (pid)
where l.locktype = 'advisory' and l.granted and ((l.classid::bigint << 32) | l.objid::bigint) = :number limit 1"""


@contextmanager
def held_in_storage(url: str | None, name: str, *, every_s: float = LOOK_EVERY_S) -> Iterator[Callable[[], str | None]]:
    """Hold the sweep's name; yields who else holds it by now (None: nobody). Refused, naming the holder, when somebody
    has it. Without PostgreSQL nothing is held: the sweep's folder has a lock of its own."""
    if url is None or not url.startswith("postgres"):
        yield lambda: None
        return
    claim = _Claim(url, name)
    with claim.kept(every_s):
        yield lambda: claim.taken_by


@dataclass
class _Claim:
    """The lock, and the session that has it."""

    url: str
    name: str
    taken_by: str | None = None
    _session: Any = None
    _closed: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def kept(self, every_s: float) -> Iterator[None]:
        """Take it, and look after it until the end."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            holder = self._take()
        except (SQLAlchemyError, ImportError) as error:
            raise Refused(f"Optuna's storage cannot be opened: {printable(str(error).splitlines()[0][:200])}") from None
        if holder is not None:
            raise Refused(f"the sweep {self.name!r} is being run by {holder}, with the same storage")
        keeper = threading.Thread(target=self._keep, args=(every_s,), name="storage lock", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            self._closed.set()
            keeper.join(2.0)  # it may wait for a server that hangs
            self._let_go()

    def _take(self) -> str | None:
        """Take the lock in a new session; who has it, if somebody else does."""
        from sqlalchemy import create_engine, text
        from sqlalchemy.pool import NullPool

        number = int(fingerprint(["harness sweep", self.name])[:16], 16) - 2**63  # a signed 64-bit integer
        # A server that is gone without a word is noticed within a minute.
        settings = {"application_name": _me(), "connect_timeout": 10, "tcp_user_timeout": 30_000,
                    "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}  # fmt: skip
        engine = create_engine(self.url, poolclass=NullPool, connect_args=settings)
        session = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with ExitStack() as unless_held:
            unless_held.enter_context(session)
            if not session.scalar(text("select pg_try_advisory_lock(:number)"), {"number": number}):
                return str(session.scalar(text(_HOLDER), {"number": number}) or "another process")
            unless_held.pop_all()
        self._session = session
        return None

    def _keep(self, every_s: float) -> None:
        """See that the session lives; after the server was away, take the lock again."""
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        while not self._closed.wait(every_s):
            try:
                self._session.scalar(text("select 1"))
            except SQLAlchemyError:
                self._let_go()
                with suppress(SQLAlchemyError):
                    holder = self._take()
                    # A server may not have noticed yet that our own session of before is gone.
                    self.taken_by = None if holder == _me() else holder
                if self.taken_by is not None:
                    return

    def _let_go(self) -> None:
        if self._session is not None:
            with suppress(Exception):  # a session of a server that is gone
                self._session.invalidate()
                self._session.close()


def _me() -> str:
    """As the server shows it; PostgreSQL cuts names after 63 bytes."""
    return f"harness on {socket.gethostname()}, process {os.getpid()}"[:63]
