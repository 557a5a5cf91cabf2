"""One job in this process: the only place where executors meet torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.config.spec import TrialSpec
from harness.errors import HarnessError
from harness.execute.base import Event, Job
from harness.files import read_json
from harness.trial.folder import TrialFolder


@dataclass(frozen=True, slots=True)
class Workplace:
    """What is the same for all jobs of a worker."""

    stores: Path  # folder of patch stores
    device: str = "cpu"  # cpu, cuda:0, mps


def warm_up() -> None:
    """Import what every trial needs (5-20 s), and settle on one torch thread."""
    import torch

    import harness.trial.run  # noqa: F401  # imported for its effect: warm module caches

    # With 2 threads on shared cores torch was 15 times slower, and thread counts change the weights.
    torch.set_num_threads(1)


def do_job(job: Job, place: Workplace, emit: Callable[[Event], None], should_stop: Callable[[], bool]) -> None:
    """Do one job; what happens is told through `emit`. Exceptions are events, too."""
    folder = TrialFolder(job.folder)
    if job.weights is not None:
        emit({"event": "prepared", "message": _fetch(*job.weights)})
        return
    if job.task == "try":
        emit({"event": "prepared", "message": _try(job.folder)})
        return
    if job.task == "sketch":
        emit({"event": "sketched", "message": _sketch(job.folder)})
        return
    if job.task == "export":
        emit({"event": "exported", "message": _export(folder)})
        return
    from harness.trial.run import run_trial

    run_trial(
        folder,
        job.attempt,
        stores=place.stores,
        device=place.device,
        emit=emit,
        should_stop=should_stop,
        pause=job.pause,
    )


def _fetch(encoder: str, weights: str) -> str | None:
    from harness.models.weights import fetch

    try:
        fetch(encoder, weights)
    except HarnessError as error:
        return str(error)
    return None


def _try(specs: Path) -> str | None:
    from harness.trial.tryout import try_parts

    try:
        for file in sorted(specs.glob("*.json")):
            try_parts(TrialSpec.model_validate(read_json(file)))
    except HarnessError as error:
        return str(error)
    return None


def _sketch(generation: Path) -> str | None:
    from harness.explore.sweep_figures import write_sweep_figures

    try:
        specs = [TrialSpec.model_validate(read_json(file)) for file in sorted(generation.glob("trials/*/spec.json"))]
        write_sweep_figures(generation / "figures", specs)
    except Exception as error:
        # The trials stand without these pictures; the controller shows the reason.
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return None


def _export(folder: TrialFolder) -> str | None:
    from harness.trial.export import export_model

    try:
        export_model(folder)
    except Exception as error:
        # The trial stands without its MLflow model; the controller shows the reason.
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    return None
