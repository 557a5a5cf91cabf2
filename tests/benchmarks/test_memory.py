"""How row 8 measures shared memory."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.bench.row_08_memory import rollup_bytes, store_pss_bytes

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="/proc/PID/smaps is Linux's")
MIB = 2**20


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A file of 4 MiB, in a folder with a space in its name."""
    folder = tmp_path / "patch stores"
    folder.mkdir()
    np.zeros(4 * MIB, np.uint8).tofile(folder / "images.npy")
    return folder


def test_a_map_that_one_process_has_read_counts_whole_and_other_files_do_not(store: Path) -> None:
    mapped = np.memmap(store / "images.npy", np.uint8, mode="r")
    assert mapped.sum() == 0
    assert store_pss_bytes(os.getpid(), store) == 4 * MIB
    assert store_pss_bytes(os.getpid(), store / "elsewhere") == 0


def test_a_map_that_two_processes_have_read_is_a_half_in_each(store: Path) -> None:
    mapped = np.memmap(store / "images.npy", np.uint8, mode="r")
    assert mapped.sum() == 0
    code = (
        "import sys, numpy as np; a = np.memmap(sys.argv[1], np.uint8, mode='r'); print(a.sum(), flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(store / "images.npy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "0\n"
        both = [store_pss_bytes(pid, store) for pid in (os.getpid(), other.pid)]
        other.communicate("\n")
    assert both == [2 * MIB, 2 * MIB]


def test_private_memory_grows_by_what_a_process_fills() -> None:
    before = rollup_bytes(os.getpid(), "Private_Clean", "Private_Dirty")
    # Not of malloc: in a process that ran other tests it has pages to give again.
    filled = mmap.mmap(-1, 32 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    filled.write(b"1" * (32 * MIB))
    grown = rollup_bytes(os.getpid(), "Private_Clean", "Private_Dirty") - before
    assert grown == pytest.approx(len(filled), abs=2 * MIB)
