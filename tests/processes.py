"""Which of the processes around are whose."""

from __future__ import annotations

import psutil

FORK_SERVER = "multiprocessing.forkserver"


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is a fork of Python's fork server, whose command line it has."""
    parent = process.parent()
    return parent is not None and all(FORK_SERVER in " ".join(one.cmdline()) for one in (process, parent))
