"""Whether the kernel has ended processes for want of memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

# Of this process's own control group where there is one, else of the whole machine; both count since boot.
_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


def out_of_memory_kills() -> int:
    """How many processes were ended so far; 0 where no counter can be read (other systems than Linux)."""
    for file in _COUNTERS:
        with suppress(OSError, ValueError):
            for line in file.read_text(encoding="ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0
