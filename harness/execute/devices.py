"""From `--device` and `--workers` to slots; decided on the command line, never in a config's default."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from harness.errors import Refused
from harness.execute.work import Workplace


def workplaces(device: str, workers: int | None, *, stores: Path) -> list[Workplace]:
    """The slots: one per CUDA device (or `workers` in turn), else one per CPU core, each with one torch thread."""
    kind = _kind(device)
    if kind == "cuda":
        count = _cuda_devices()
        return [Workplace(stores, f"cuda:{index % count}") for index in range(workers or count)]
    if kind == "mps":
        return [Workplace(stores, "mps")] * (workers or 1)
    return [Workplace(stores, "cpu")] * (workers or cpu_cores())


def cpu_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def nvidia_devices() -> list[str]:
    """Names of NVIDIA devices the driver reports, without torch; empty when there are none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in listed.stdout.splitlines() if line.startswith("GPU ")]


def _kind(device: str) -> str:
    """`auto` resolved; an NVIDIA device that torch cannot use is refused unless the CPU was asked for."""
    if device == "cpu":
        return "cpu"
    seen = nvidia_devices() if device in ("auto", "cuda") else []
    if device == "auto" and not seen and os.uname().sysname != "Darwin":
        return "cpu"
    import torch  # only here: a machine without accelerators decides without the 5 s of this import

    if device in ("auto", "cuda"):
        if torch.cuda.is_available():
            return "cuda"
        if seen:
            raise Refused(
                f"{seen[0].split(' (UUID')[0]} is there, but torch {torch.__version__} cannot use it (built for CUDA "
                f"{torch.version.cuda}); update the driver, install a torch build for it, or say --device cpu"
            )
        if device == "cuda":
            raise Refused("no NVIDIA device found; say --device cpu or auto")
    if torch.backends.mps.is_available():
        return "mps"
    if device == "mps":
        raise Refused("torch finds no MPS device here; say --device cpu or auto")
    return "cpu"


def _cuda_devices() -> int:
    import torch

    return torch.cuda.device_count()
