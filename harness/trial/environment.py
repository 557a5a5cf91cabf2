"""Where a trial ran: device, threads, versions. No part of its fingerprint: same spec, same trial."""

from __future__ import annotations

import math
import platform
import resource
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil
import torch

MEGABYTE = 1e6

# Names in environment.json, and the distributions they stand for.
DISTRIBUTIONS = {
    "torch": "torch",
    "smp": "segmentation-models-pytorch",
    "timm": "timm",
    "albumentations": "albumentations",
    "torchmetrics": "torchmetrics",
    "numpy": "numpy",
    "opencv": "opencv-python-headless",
    "harness": "tissue-sweep-harness",
}


def environment(device: torch.device) -> dict[str, Any]:
    """The content of `environment.json`."""
    return {
        "device": str(device),
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(distribution) for name, distribution in DISTRIBUTIONS.items()},
    }


def device_name(device: torch.device) -> str:
    """The name people know the device by."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


class Gauge:
    """Load of the machine and memory of this process, read at most once in `every_s`: over less than .1 s psutil's
    utilisation means nothing, and a reading takes as long as a small checkpoint."""

    def __init__(self, every_s: float = 1.0) -> None:
        self._every_s = every_s
        self._read_at = -math.inf
        self._last: dict[str, float] = {}

    def read(self) -> dict[str, float]:
        """The last reading, or a new one."""
        if time.monotonic() >= self._read_at + self._every_s:
            self._last, self._read_at = system_metrics(), time.monotonic()
        return self._last


def system_metrics() -> dict[str, float]:
    """What a gauge reads, named as MLflow names its system metrics."""
    return {
        "system/cpu_utilization_percentage": float(psutil.cpu_percent(interval=None)),
        "system/system_memory_usage_megabytes": psutil.virtual_memory().used / MEGABYTE,
        "system/process_memory_megabytes": psutil.Process().memory_info().rss / MEGABYTE,
    }


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory in use so far: the device's on CUDA, else this process's (earlier trials included)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@cache  # 1.2 ms each, and a worker asks for every trial
def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
