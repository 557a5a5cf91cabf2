"""Results of a row: a JSON line for each repeat of each side, the last one for a pair counts."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from harness.execute.devices import nvidia_devices

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Result:
    """One repeat of one side: its figures, or in `failed` why there are none."""

    side: str
    repeat: int
    figures: dict[str, float]
    failed: str | None
    wall_s: float  # of the whole process, set-up included
    date: str  # UTC
    commit: str
    machine: str
    load: float  # processes that were running when it started, by the kernel's mean over a minute


class Results:
    """The file of one row."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> list[Result]:
        """The newest result of each (side, repeat)."""
        if not self.file.exists():
            return []
        lines = self.file.read_text(encoding="utf-8").splitlines()
        found = [Result(**json.loads(line)) for line in lines]
        return list({(one.side, one.repeat): one for one in found}.values())

    def append(self, result: Result) -> None:
        """Add a line with a single write, so that an interrupt leaves whole lines."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (json.dumps(asdict(result)) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def clear(self) -> None:
        """Begin anew."""
        self.file.unlink(missing_ok=True)


def now() -> str:
    """This second, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine() -> str:
    """Processor, cores, memory, the version of torch and NVIDIA devices; no name of a host."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory_gib = psutil.virtual_memory().total / 2**30
    devices = [line.partition(": ")[2].partition(" (UUID")[0] for line in nvidia_devices()]  # GPU 0: NVIDIA ... (UUID
    own = f"{model or platform.machine()}, {cores} cores, {memory_gib:.0f} GiB, torch {version('torch')}"
    return ", ".join([own, *(f"{devices.count(name)} x {name}" for name in sorted(set(devices)))])


def commit() -> str:
    """The commit, with `-dirty` where files differ from it; `unknown` outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
