"""Disk and memory that run short in the middle of a real sweep, and are there again at the next start.

python -m tests.faults.scarcity
"""

from __future__ import annotations

import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.faults.real import Bench, Outcome, bench, problems, regions, shown, weights_of

EPOCHS = 3
REFUSED = 3
# Of files, in bytes: MLflow's tables, then a checkpoint do not fit.
FILE_LIMITS = (100_000, 400_000)
# Of the whole home, on a file system of its own: full while patches are cut, in the first trial, in the second.
DISKS_KB = (1000, 2000, 3000, 4000)
# Of address space: torch's libraries fit, training does not.
ADDRESS_SPACE = 4_000_000_000
TIMEOUT_S = 240


def outcomes(folder: Path) -> Iterator[Outcome]:
    """Each shortage, then the same command without it; in the end equal to an undisturbed sweep."""
    data = regions(folder / "data")
    undisturbed = bench(folder / "undisturbed", data, epochs=EPOCHS)
    code = undisturbed.start("--executor", "inline").wait(TIMEOUT_S)
    yield Outcome("undisturbed sweep", problems(undisturbed, weights=None, kills=0) + _code(code, 0))
    weights = weights_of(undisturbed)
    for limit in FILE_LIMITS:
        there = bench(folder / f"file {limit}", data, epochs=EPOCHS)
        yield _files(there, limit, weights)
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0:
        for size in DISKS_KB:
            yield _disk(bench(folder / f"disk {size}", data, epochs=EPOCHS), size, weights)
    else:
        print("skipped: a full disk of its own, which this machine does not allow (unshare -rm)")
    yield _memory(bench(folder / "memory", data, epochs=EPOCHS), weights)


def _files(there: Bench, limit: int, weights: dict[str, str]) -> Outcome:
    first = there.start("--executor", "inline", limits={resource.RLIMIT_FSIZE: limit}).wait(TIMEOUT_S)
    wrong = _code(first, REFUSED) + _said_in_one_line(there)
    second = there.start("--executor", "inline").wait(TIMEOUT_S)
    wrong += _code(second, 0) + problems(there, weights=weights, kills=2)
    return Outcome(f"files of at most {limit:,} bytes", wrong)


def _disk(there: Bench, size_kb: int, weights: dict[str, str]) -> Outcome:
    """In a mount namespace: the home on a small tmpfs, which then grows; it is copied out in the end."""
    command = shlex.join(there.command("--executor", "inline"))
    script = f"""
        mkdir home && mount -t tmpfs -o size={size_kb}k none home || exit 77
        {command}; echo "first code $?"
        mount -o remount,size=1g none home
        {command}; echo "second code $?"
        cp -a home copied"""
    there.run(["unshare", "-rm", "sh", "-c", script], {}).wait(2 * TIMEOUT_S)
    shutil.rmtree(there.home)
    if not (there.path / "copied").exists():
        return Outcome(f"a disk of {size_kb} kB", [f"nothing was done: {there.said[-300:]}"])
    (there.path / "copied").rename(there.home)
    said = there.said
    wrong = [] if f"first code {REFUSED}" in said else ["the first run was not refused"]
    wrong += [] if "second code 0" in said else ["the second run did not succeed"]
    wrong += _said_in_one_line(there) + problems(there, weights=weights, kills=2)
    return Outcome(f"a disk of {size_kb} kB", wrong)


def _memory(there: Bench, weights: dict[str, str]) -> Outcome:
    """Trials may fail for it, none may hang or be called complete; with memory, and `retry`, all are as undisturbed."""
    first = there.start("--workers", "1", limits={resource.RLIMIT_AS: ADDRESS_SPACE}).wait(TIMEOUT_S)
    wrong = [] if first in (3, 4, 5) else [f"the command ended with {first}"]
    causes = {record["cause"] for record in there.records().values() if record["state"] == "failed"}
    wrong += [] if causes <= {"out_of_memory", "lost"} else [f"trials failed by {causes}"]
    retry = [sys.executable, "-m", "harness.cli", "retry", "real", "--cause", "all", "--home", str(there.home)]
    wrong += _code(there.run(retry, {}).wait(60), 0)
    wrong += _code(there.start("--workers", "1").wait(TIMEOUT_S), 0)
    in_parts = [record["uid"] for record in there.records().values() if record["halved"]]
    wrong += problems(there, weights=None if in_parts else weights, kills=6)
    return Outcome(f"{ADDRESS_SPACE / 1e9:g} GB of address space", wrong, {"trials in parts": len(in_parts)})


def _said_in_one_line(there: Bench) -> list[str]:
    lines = [line for line in there.said.splitlines() if line.startswith("harness: ")]
    wrong = [] if len(lines) == 1 else [f"{len(lines)} lines instead of one: {lines}"]
    return wrong + (["a traceback was shown"] if "Traceback" in there.said else [])


def _code(code: int, wanted: int) -> list[str]:
    return [] if code == wanted else [f"exit code {code} instead of {wanted}"]


if __name__ == "__main__":
    sys.exit(bool(shown(outcomes)))
