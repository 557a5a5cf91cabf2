"""A forked child runs the tiny sweep, with torch and all else loaded already."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.faults.steps import Point, Steps
from tests.faults.tiny import Place

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int | None  # exit code; None: killed
    steps: list[str]  # only of a child that was not killed
    error: str
    seconds: float


def warm() -> None:
    """Load what the children need, once, in the process they are forked from."""
    import cv2
    import matplotlib.figure
    import mlflow.tracking  # noqa: F401
    import torch

    import harness.explore.sweep_figures
    import harness.trial.run
    import harness.trial.saving
    import harness.trial.speed

    # The tiny sweep's epochs take a tenth of a second; each is to be forced to disk like one of a minute.
    harness.trial.saving.SETTLE_EVERY_S = 0.0
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # a pool of threads does not survive a fork, and whoever waits for it waits for ever

    blank = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()

    def savefig(figure: object, target: object, **ignored: object) -> None:
        # What a picture shows is not at stake here, that its file is whole is.
        target.write(blank)  # type: ignore[attr-defined]  # a stream

    # Nine tenths of the tiny sweep's time would be drawing.
    matplotlib.figure.Figure.savefig = savefig
    gc.freeze()


def run_child(
    place: Place, *, at: int | Point | None = None, torn: bool = False, broken: Callable[[], None] | None = None
) -> Ended:
    """Fork, run the sweep to its end or to step `at`, and wait. `broken` changes the child's code first."""
    began = time.monotonic()
    note = place.path / "child.json"
    child = os.fork()
    if child == 0:
        _live(place, note, at, torn, broken)
    deadline = began + TIMEOUT_S
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        return Ended(None, [], f"hung for {TIMEOUT_S:.0f} s", TIMEOUT_S)
    seconds = time.monotonic() - began
    if os.WIFSIGNALED(status):
        return Ended(None, [], "", seconds)
    said = json.loads(note.read_text())
    return Ended(os.WEXITSTATUS(status), said["steps"], said["error"], seconds)


def _live(place: Place, note: Path, at: int | Point | None, torn: bool, broken: Callable[[], None] | None) -> None:
    """The child's life; it leaves by os._exit, so that nothing of the parent's is run twice."""
    steps, error, code = Steps(place.home.path, at, torn), "", 0
    faulthandler.dump_traceback_later(TIMEOUT_S - 20, exit=True)
    try:
        if broken is not None:
            broken()
        steps.install()
        place.run()
    except BaseException:
        error, code = traceback.format_exc(), 1
    note.write_text(json.dumps({"steps": steps.seen, "error": error}))
    os._exit(code)
