"""Where a trial ran: device, threads, versions. No part of its fingerprint: same spec, same trial."""

from __future__ import annotations

import platform
import resource
import sys
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


def system_metrics() -> dict[str, float]:
    """Load of the machine and memory of this process, named as MLflow names its system metrics."""
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
