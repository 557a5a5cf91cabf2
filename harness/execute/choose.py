"""From `--executor`, `--device` and `--workers` to an executor; decided on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.config.resources import Resources
from harness.errors import Refused
from harness.execute.base import Executor
from harness.execute.devices import workplaces
from harness.execute.inline import InlineExecutor
from harness.execute.local import LocalExecutor

Kind = Literal["local", "inline", "ray", "slurm"]
KINDS: tuple[Kind, ...] = ("local", "inline", "ray", "slurm")


@dataclass(frozen=True, slots=True)
class Chosen:
    """An executor, each slot's device (slots that share one have the same), and where that is, in words."""

    executor: Executor
    devices: Sequence[str]
    where: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where a sweep's files lie, for workers on this machine or another one."""

    name: str  # of the sweep
    home: Path
    stores: Path
    logs: Path
    data: Sequence[Path] = ()  # what workers read beside the home

    def executor(
        self, kind: Kind, device: str, workers: int | None, need: Resources, interrupted: Callable[[], bool]
    ) -> Chosen:
        """Start it; its workers import torch while the caller reads the data. Refused where it cannot be had."""
        if kind == "ray":
            return self._ray(device, workers, need)
        if kind == "slurm":
            return self._slurm(device, workers, need)
        places = workplaces(device, workers, stores=self.stores)
        devices = [place.device for place in places]
        if kind == "inline":
            return Chosen(InlineExecutor(places[0], interrupted), devices[:1], _slots(1, devices[0]))
        return Chosen(LocalExecutor(places, logs=self.logs), devices, _slots(len(places), devices[0]))

    def _ray(self, device: str, workers: int | None, need: Resources) -> Chosen:
        from harness.execute.ray import RayExecutor

        made = RayExecutor(
            slots=workers, device=device, need=need, stores=self.stores, logs=self.logs, home=self.home,
            visible=self.data,
        )  # fmt: skip
        return Chosen(made, made.devices, f"{_slots(made.slots, made.place.device)} of Ray {made.where}")

    def _slurm(self, device: str, workers: int | None, need: Resources) -> Chosen:
        from harness.execute.slurm import SlurmExecutor

        if workers is None:
            raise Refused("--executor slurm needs --workers: how many jobs may wait and run in Slurm at a time")
        made = SlurmExecutor(
            slots=workers, device=device, need=need, name=self.name, stores=self.stores, logs=self.logs,
            home=self.home, visible=self.data,
        )  # fmt: skip
        return Chosen(made, made.devices, f"up to {workers} Slurm jobs at a time, as they are needed")


def _slots(count: int, device: str) -> str:
    return f"{count} {'slots' if count > 1 else 'slot'} on {device.split(':')[0]}"
