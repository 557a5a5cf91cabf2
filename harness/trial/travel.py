"""Going back into a trial: its training again from any epoch, bit by bit on the CPU, checked against its own events.

Reads the trial's folder and writes nothing there, so it works while a sweep runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from harness.checkpoint import Checkpoint, CheckpointUnreadable, load_checkpoint
from harness.epoch import OnStep
from harness.errors import BadInput
from harness.train import EpochReport, Stopped, TrialData, fit, initial_model
from harness.trial.folder import TrialFolder
from harness.trial.run import cohort, open_data, settle
from harness.trial.warm import KEPT_PATCHES


@dataclass(frozen=True, slots=True)
class Difference:
    """A number that came out otherwise than the trial logged it."""

    name: str
    here: float | None
    logged: float | None


@dataclass(frozen=True, slots=True)
class Seen:
    """An epoch trained again. `differences` is None where the trial never logged that epoch."""

    report: EpochReport
    differences: tuple[Difference, ...] | None


class Journey:
    """The training of a trial's spec on its data, from a stored state or from the beginning."""

    def __init__(self, folder: TrialFolder, *, stores: Path, device: str) -> None:
        self.folder, self.spec = folder, folder.read_spec()
        self.device = torch.device(device)
        self._stores = stores
        self._logged = logged_epochs(folder)
        self._data: TrialData | None = None

    @property
    def data(self) -> TrialData:
        """The trial's patches; BadInput where its regions are not there any more."""
        if self._data is None:
            self._data = open_data(self.spec, cohort(self.spec), self._stores)
        return self._data

    def check(self, epoch: int) -> None:
        """BadInput for an epoch that the trial does not have."""
        if not 1 <= epoch <= self.spec.train.epochs:
            raise BadInput(f"--at-epoch {epoch}: {self.folder.uid} has the epochs 1 to {self.spec.train.epochs}")

    def state_before(self, epoch: int | None) -> tuple[Checkpoint | None, Path | None]:
        """The newest stored state from which `epoch` is still to come (None: of all), and its file; none is as good
        as the beginning."""
        for done, file in stored_states(self.folder):
            if epoch is None or done <= epoch:
                try:
                    state = load_checkpoint(file, fingerprint=self.spec.fingerprint)
                except CheckpointUnreadable:
                    continue
                if epoch is None or state.progress.epoch < epoch:
                    return state, file
        return None, None

    def train(
        self,
        start: Checkpoint | None,
        *,
        until: int,
        on_epoch: Callable[[Seen], None],
        on_step: OnStep | None = None,
    ) -> Checkpoint | None:
        """Train on from `start` to the end of epoch `until`; the state after it (None where training ends before)."""
        settle(self.device)
        last: list[Checkpoint] = [start] if start is not None else []
        if start is not None and start.progress.epoch >= until:
            return start

        def told(report: EpochReport) -> None:
            on_epoch(Seen(report, self._differences(report)))

        def reached() -> bool:
            return bool(last) and last[-1].progress.epoch >= until

        def keep(checkpoint: Checkpoint) -> None:
            last[:] = [checkpoint]
            if reached():
                raise Stopped

        try:
            fit(
                self.spec, self.data, initial_model(self.spec), device=self.device, save=keep, on_epoch=told,
                should_stop=lambda: False, resume_from=start, on_step=on_step,
                on_device=KEPT_PATCHES.of(self.spec, self.data, self.device),
            )  # fmt: skip
        except Stopped:
            return last[-1]
        return last[-1] if reached() else None

    def _differences(self, report: EpochReport) -> tuple[Difference, ...] | None:
        logged = self._logged.get(report.epoch)
        return None if logged is None else tuple(differing(report.values, logged))


def logged_epochs(folder: TrialFolder) -> dict[int, Mapping[str, float]]:
    """{epoch: values} as the trial's attempts wrote them, without what the machine was doing."""
    events = (event for attempt in folder.attempts() for event in attempt.read_events() if event["event"] == "epoch")
    return {
        event["epoch"]: {name: value for name, value in event["values"].items() if not name.startswith("system/")}
        for event in events
    }


def differing(here: Mapping[str, float], logged: Mapping[str, float]) -> Iterator[Difference]:
    """Every number that is not equal to the last bit."""
    for name in [*logged, *(name for name in here if name not in logged)]:
        if here.get(name) != logged.get(name):
            yield Difference(name, here.get(name), logged.get(name))


def stored_states(folder: TrialFolder) -> list[tuple[int, Path]]:
    """(epochs done, file) of kept epochs and last checkpoints, the most epochs first."""
    found = [(int(kept.stem), kept) for attempt in folder.attempts() for kept in attempt.kept_epochs()]
    for attempt in folder.attempts():
        if states := attempt.states:
            epochs = [event["epoch"] for event in attempt.read_events() if event["event"] == "epoch"]
            # An epoch is told of before it is saved: the file may hold the one before; whoever loads it looks.
            found.append((epochs[-1] if epochs else 0, states[0]))
    return sorted(found, key=lambda state: -state[0])
