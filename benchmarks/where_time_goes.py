"""Where the time of a sweep goes, from its command to its end: slots, and what the command does when no trial runs.

    python benchmarks/where_time_goes.py search_spaces/quickstart.yaml
    python benchmarks/where_time_goes.py search_spaces/unicorn.yaml --data phantom --smoke

Runs the sweep in a home of its own. The command's phases end with the first trial's start, the last one's end, and the
lines that it prints. What a slot did is in the events of the trials: between `started` and the first epoch the network
is made; an epoch says how long it took and how long it waited for batches; between the last epoch and `finished` scores
are counted, pictures drawn and files written. The rest of a slot's time is imports, exports, the sweep's own pictures,
and waiting.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# The first words of lines that begin a phase of the command, once the trials are over.
PHASES = ("bringing MLflow", "writing the report")


def run(arguments: list[str], folder: Path) -> tuple[float, float, list[tuple[float, str]]]:
    """(when the command began, its seconds, [(seconds since its start, line of stderr)])."""
    options = ["--home", str(folder / "home"), "--out", str(folder / "report")]
    began = time.time()
    command = [sys.executable, "-m", "harness.cli", "sweep", *arguments, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        lines = [(time.time() - began, line.rstrip()) for line in process.stderr]
    if process.returncode not in (0, 4):
        raise SystemExit("\n".join(line for _, line in lines[-5:]))
    return began, time.time() - began, lines


def phases(lines: list[tuple[float, str]], seconds: float, trials: tuple[float, float]) -> list[tuple[str, float]]:
    """[(what, seconds)] one after the other. `trials`: when the first one began and the last one ended."""
    marks = [(0.0, "imports, data, until the first trial"), (trials[0], "trials"), (trials[1], "exports, pictures")]
    marks += [(at, line.removesuffix(" ...")) for at, line in lines if line.startswith(PHASES)]
    ends = [*(at for at, _ in marks[1:]), seconds]
    return [(what, end - at) for (at, what), end in zip(marks, ends, strict=True)]


def events_of(trials: Path) -> list[list[dict[str, Any]]]:
    """The events of every attempt."""
    files = trials.glob("*/attempts/*/events.jsonl")
    return [[json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in files]


def slots(attempts: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Seconds of all slots by what they did."""
    spent: dict[str, float] = defaultdict(float)
    for events in attempts:
        before: dict[str, Any] | None = None
        for event in events:
            since = event["time"] - before["time"] if before else 0.0
            if event["event"] == "epoch":
                spent["training and evaluation"] += event["seconds"] - event["data_seconds"]
                spent["waiting for batches"] += event["data_seconds"]
                spent["network made, or checkpoints written"] += max(since - event["seconds"], 0.0)
            elif event["event"] == "finished":
                spent["scores, pictures, files"] += since
            before = event
    return spent


def main() -> None:
    """Two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, arguments = parser.parse_known_args()
    with TemporaryDirectory(prefix="where-") as name:
        began, seconds, lines = run(arguments, Path(name))
        (trials,) = Path(name).glob("home/sweeps/*/g1/trials")
        attempts = events_of(trials)
        spent = slots(attempts)
        busy = len(json.loads((trials.parents[1] / "slots.json").read_text(encoding="utf-8"))["devices"])
    print(f"{seconds:.1f} s from the command to its end, {busy} slots\n")
    times = [event["time"] - began for events in attempts for event in events]
    for what, took in phases(lines, seconds, (min(times), max(times))):
        print(f"{took:8.1f} s  {100 * took / seconds:5.1f} %  {what}")
    print(f"\nof {busy} x {seconds:.1f} s of the slots:")
    spent["imports, exports, the sweep's own pictures, waiting"] = busy * seconds - sum(spent.values())
    for what, took in sorted(spent.items(), key=lambda item: -item[1]):
        print(f"{took:8.1f} s  {100 * took / busy / seconds:5.1f} %  {what}")


if __name__ == "__main__":
    main()
