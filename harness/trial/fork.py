"""A trial that goes another way from one of its epochs on: the state of then, other settings from there.

The fork is a trial of its own in a folder of its own; its attempt 0 holds the state it starts from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from torch.optim.lr_scheduler import CosineAnnealingLR

from harness.checkpoint import Checkpoint, save_checkpoint
from harness.config.base import choose_from
from harness.config.imported import is_import
from harness.config.spec import TrainSpec, TrialSpec
from harness.errors import BadInput, Refused
from harness.files import write_json
from harness.optimization import build_optimizer, build_schedule
from harness.train import initial_model
from harness.trial.folder import TrialFolder

# Which settings the course of the learning rate follows from; where none is changed, it goes on as it was.
_OF_THE_RATE = ("learning_rate", "optimizer", "schedule", "plateau_patience", "plateau_factor", "epochs", "monitor")
FORK = "fork.json"


def forked_spec(spec: TrialSpec, changes: Sequence[tuple[str, Any]], *, epoch: int) -> TrialSpec:
    """The spec with settings of its training (or `seed`) changed; BadInput for others, or where nothing is left."""
    train: dict[str, Any] = spec.train.model_dump()
    seed = spec.seed
    for key, value in changes:
        name = key.removeprefix("train.")
        if name == "seed":
            seed = value
        elif name not in TrainSpec.model_fields:
            known = ["seed", *TrainSpec.model_fields]
            raise BadInput(f"--set {key}: a fork changes settings of training; {choose_from(name, known)}")
        elif is_import(value):
            raise BadInput(f"--set {key}: own parts are given in a search space; see docs/own-parts.md")
        else:
            train[name] = value
    try:
        forked = TrialSpec.model_validate({**spec.model_dump(), "train": train, "seed": seed})
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        raise BadInput(f"--set {'.'.join(map(str, item['loc']))}: {item['msg']}") from None
    if forked.classes != spec.classes:
        raise BadInput("--set undefined: it changes the number of classes, so the network of then does not fit")
    if forked.train.epochs < epoch:
        raise BadInput(f"--set epochs: {forked.train.epochs} is before epoch {epoch}, where the fork begins")
    if forked.fingerprint == spec.fingerprint:
        raise BadInput("--set: nothing is changed by it; the trial has these settings")
    return forked


def carried_over(state: Checkpoint, old: TrialSpec, new: TrialSpec) -> tuple[Checkpoint, list[str]]:
    """The state as the fork takes it over, and what does not come along, a line each.

    Weights do. The best epoch is looked for among the fork's own. Adam's moments (or the momentum) come along where
    the optimiser stays the same; the learning rate goes on unless a setting that it follows from was changed.
    """
    before, after = old.train, new.train
    lines = [f"{name}: {was} -> {now}" for name, was, now in _changed(old, new)]
    optimizer = build_optimizer(initial_model(new), after)
    schedule = build_schedule(optimizer, after)
    stored: Mapping[str, Any] = state.optimizer
    moments = stored["state"] if before.optimizer == after.optimizer else {}
    if not moments and stored["state"]:
        lines.append("the optimiser starts without what the other one had gathered")
    if any(getattr(before, name) != getattr(after, name) for name in _OF_THE_RATE):
        if isinstance(schedule, CosineAnnealingLR):
            optimizer.step()  # without gradients it moves nothing; torch wants it before a schedule's step
            for _ in range(state.progress.epoch):
                schedule.step()
        groups, stepped = optimizer.state_dict()["param_groups"], schedule.state_dict() if schedule else None
        lines.append(f"learning rate from here on: {groups[0]['lr']:g}, by the schedule `{after.schedule}`")
    else:
        groups, stepped = stored["param_groups"], state.schedule
        groups = [{**group, "weight_decay": after.weight_decay} for group in groups]
    progress = replace(
        state.progress, best_epoch=None, best_value=None, monitor_best=None, bad_epochs=0,
        history=list(state.progress.history), patients=list(state.progress.patients),
        seconds=list(state.progress.seconds),
    )  # fmt: skip
    optimizer_state = {"state": moments, "param_groups": groups}
    return replace(state, progress=progress, best=None, optimizer=optimizer_state, schedule=stepped), lines


def begin_fork(fork: TrialFolder, spec: TrialSpec, state: Checkpoint | None, *, origin: str, epoch: int) -> None:
    """Make the fork's folder, ready to be trained; one that is there already goes on. Refused for another spec's."""
    if fork.spec_file.exists():
        if fork.read_spec().fingerprint != spec.fingerprint:
            raise Refused(f"{fork.path} holds another spec; choose another --out")
        return
    first = fork.attempt(0)
    if state is not None:
        first.path.mkdir(parents=True, exist_ok=True)
        save_checkpoint(first.checkpoint, state, fingerprint=spec.fingerprint)
    write_json(fork.path / FORK, {"of": origin, "from_epoch": epoch})
    fork.write_spec(spec)


def _changed(old: TrialSpec, new: TrialSpec) -> Iterator[tuple[str, Any, Any]]:
    before, after = old.train.model_dump(), new.train.model_dump()
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield name, before.get(name), after.get(name)
    if old.seed != new.seed:
        yield "seed", old.seed, new.seed
