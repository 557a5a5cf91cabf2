"""`harness trial FOLDER` with `--at-epoch`, `--until-nan`, `--set`: going back into a trial, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.checkpoint import Checkpoint
from harness.config.spec import TrialSpec
from harness.epoch import NotFinite, OnStep, Step
from harness.errors import TrialsFailed
from harness.execute.work import Workplace
from harness.sweep.layout import Home
from harness.sweep.progress import Screen
from harness.trial.folder import TrialFolder
from harness.trial.fork import begin_fork, carried_over, forked_spec
from harness.trial.nan_hunt import Hunt, NotFiniteFound, range_text, write_batch
from harness.trial.step_in import step_in
from harness.trial.travel import Journey, Seen

# Differing numbers that are named; the rest is counted.
NAMED = 3


class Revisit:
    """One visit of a trial; what happens goes to `say`."""

    def __init__(self, path: Path, place: Workplace, screen: Screen, say: Callable[[str], None]) -> None:
        self.folder = TrialFolder(path.resolve())
        self.journey = Journey(self.folder, stores=place.stores, device=place.device)
        self.place, self.screen, self.say = place, screen, say
        self._differ = 0

    def step_into(self, epoch: int, *, until: int, debug: bool) -> None:
        """Train the epochs `epoch` to `until` again. TrialsFailed when a number is not the trial's own."""
        self.journey.check(epoch)
        self.journey.check(until)
        state = self._arrive(epoch)
        first = _only_first(epoch, step_in) if debug else None
        self._train(state, until, f"training {_span(epoch, until)}", first)
        if self._differ:
            raise TrialsFailed(f"{self._differ} epochs differ from what the trial logged")

    def until_nan(self, epoch: int | None, *, folder: Path | None, home: Home, debug: bool) -> None:
        """Train on until something is not finite, and write that batch; say so when nothing is."""
        if epoch is not None:
            self.journey.check(epoch)
        spec = self.journey.spec
        state, file = self.journey.state_before(epoch)
        if state is not None and epoch is None and state.progress.epoch >= spec.train.epochs:
            state, file = self.journey.state_before(1)  # it ended well: whoever asks wants to see all of it
        self._say_start(state, file)
        found = self._hunted(state, spec.train.epochs)
        if found is None:
            self.say("everything was finite to the end")
            return
        self._report(found, folder or home.singles / f"{spec.fingerprint[:16]}-nan")
        if debug:
            step_in(found.step)

    def fork(
        self, epoch: int, changes: Sequence[tuple[str, Any]], out: Path | None, home: Home
    ) -> tuple[TrialSpec, Path]:
        """Prepare a trial that goes another way from `epoch` on; its spec and its folder, ready to be trained."""
        self.journey.check(epoch)
        spec = self.journey.spec
        new = forked_spec(spec, changes, epoch=epoch)
        path = out or home.singles / f"{new.fingerprint[:16]}-from-{self.folder.uid}-{epoch}"
        target = TrialFolder(path.resolve())
        if not target.spec_file.exists():
            state = self._arrive(epoch)
            lines: list[str] = []
            if state is not None:
                state, lines = carried_over(state, spec, new)
            for line in lines:
                self.say(f"  {line}")
            begin_fork(target, new, state, origin=str(self.folder.path), epoch=epoch)
        else:
            begin_fork(target, new, None, origin=str(self.folder.path), epoch=epoch)
        return new, target.path

    def _hunted(self, state: Checkpoint | None, until: int) -> NotFiniteFound | None:
        hunt = Hunt()
        try:
            with self.screen.step("looking at every batch"):
                self.journey.train(state, until=until, on_epoch=self._on_epoch, on_step=hunt)
        except NotFiniteFound as found:
            return found
        except NotFinite as error:
            return hunt.after(error)
        return None

    def _arrive(self, epoch: int) -> Checkpoint | None:
        """The state right before an epoch; epochs that no stored state covers are trained again."""
        state, file = self.journey.state_before(epoch)
        self._say_start(state, file)
        done = state.progress.epoch if state else 0
        if done == epoch - 1:
            return state
        return self._train(
            state, epoch - 1, f"training {_span(done + 1, epoch - 1)} again, which nothing is kept of", None
        )

    def _train(self, state: Checkpoint | None, until: int, doing: str, on_step: OnStep | None) -> Checkpoint | None:
        try:
            with self.screen.step(doing):
                return self.journey.train(state, until=until, on_epoch=self._on_epoch, on_step=on_step)
        except NotFinite as error:
            raise TrialsFailed(f"{error}; `--until-nan` shows the batch at which it begins") from None

    def _say_start(self, state: Checkpoint | None, file: Path | None) -> None:
        if state is None or file is None:
            self.say("starts from the beginning: no earlier state is stored (`keep_epochs: all` keeps them)")
        else:
            self.say(f"starts after epoch {state.progress.epoch}, from {file.relative_to(self.folder.path)}")

    def _on_epoch(self, seen: Seen) -> None:
        name, differences = f"epoch {seen.report.epoch}", seen.differences
        if differences is None:
            loss = seen.report.values["train/loss"]
            self.say(f"{name}: training loss {loss:.6g}; the trial logged nothing for it")
        elif not differences:
            self.say(f"{name}: {len(seen.report.values)} numbers, identical to the trial's")
        else:
            self._differ += 1
            shown = "; ".join(f"{d.name} {d.here} here, {d.logged} there" for d in differences[:NAMED])
            more = f"; and {len(differences) - NAMED} more" if len(differences) > NAMED else ""
            self.say(f"{name}: differs from the trial: {shown}{more}")

    def _report(self, found: NotFiniteFound, folder: Path) -> None:
        step = found.step
        self.say(f"epoch {step.epoch}, batch {step.number}: not finite first in {found.where}")
        self.say(f"  loss {step.loss.item():.6g}; logits {range_text(step.logits_NKHW)}")
        patches = write_batch(folder, self.journey.spec, self.journey.data, found)
        for patch in patches[:NAMED]:
            self.say(f"  patch of {patch.roi} at y {patch.y}, x {patch.x}")
        more = f" (and {len(patches) - NAMED} patches more)" if len(patches) > NAMED else ""
        self.say(f"written to {folder}: batch.pt, batch.json, pictures{more}; --pdb steps in at this batch")


def _span(first: int, last: int) -> str:
    return f"epoch {first}" if first == last else f"epochs {first} to {last}"


def _only_first(epoch: int, look: OnStep) -> OnStep:
    """`look` at the first batch of an epoch, once its gradients are there (or its loss is not finite)."""
    looked: list[bool] = []

    def on_step(step: Step) -> None:
        ready = step.stage == "backward" or not step.loss.isfinite()
        if step.epoch == epoch and ready and not looked:
            looked.append(True)
            look(step)

    return on_step
