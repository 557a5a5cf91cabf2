"""The account that PostgreSQL runs under: it refuses root, so then it, and nothing else, is the system's `postgres`."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import Refused


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this system."""

    uid: int
    gid: int

    @property
    def options(self) -> dict[str, Any]:
        """For `subprocess`."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def account_of_postgres() -> Account | None:
    """`postgres` where this process is root, else None: whoever it is. Refused where there is no such user."""
    if os.geteuid() != 0:
        return None
    try:
        found = pwd.getpwnam("postgres")
    except KeyError:
        raise Refused(
            "PostgreSQL refuses to run as root, and there is no user `postgres`; run as another user"
        ) from None
    return Account(found.pw_uid, found.pw_gid)


def handed_over(folder: Path, account: Account | None) -> None:
    """Make a folder that the account owns and nobody else enters."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if account is not None:
        os.chown(folder, account.uid, account.gid)


def check_passage(folder: Path, account: Account | None) -> None:
    """Refused when the account cannot come to `folder`, naming what is in the way."""
    if account is None:
        return
    for part in (folder, *folder.parents):
        if not part.stat().st_mode & 0o001 and part.stat().st_uid != account.uid:
            raise Refused(
                f"PostgreSQL refuses to run as root, and its own user `postgres` may not pass through {part}: "
                f"choose another --folder, or chmod o+x {part}"
            )
