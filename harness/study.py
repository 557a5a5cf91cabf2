"""Optuna's only room: one study per stratum, proposing combinations and pruning.

The trial folders are the truth. In-memory twins of the study, rebuilt from the folders at every start, propose and
prune (that saves 36 ms a trial, and a resumed sweep proposes what an undisturbed one would have); the durable copy in
Optuna's storage is for people and tools (optuna-dashboard) and is written when a trial starts and when it ends.
"""

from __future__ import annotations

import json
import logging
import random
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from harness.config.cells import (
    Assignment,
    Stratum,
    baselines_of,
    combinations,
    in_order,
    is_active,
    meets_rules,
    open_ranges,
)
from harness.config.knobs import is_numeric, label_of
from harness.config.space import Parameter, SearchSpace
from harness.durable import STATES, DurableStudy
from harness.errors import Refused
from harness.files import fingerprint
from harness.outbox import Outbox

# A server that is restarted, cut off or stopped ends a request instead of hanging it; the outbox tries again.
_PATIENCE = {
    "pool_pre_ping": True,
    "connect_args": {"connect_timeout": 10, "options": "-c statement_timeout=60s", "tcp_user_timeout": 30_000},
}
# After this many exact repeats in a row, draw from the combinations that are left instead.
MAX_REPEATS = 20


@dataclass(frozen=True)
class Past:
    """A trial as the studies know it, read from its folder."""

    uid: str
    number: int
    assignment: Mapping[str, Any]
    state: str  # running (also: to be continued), paused (also: was, and goes on), complete, pruned, failed
    value: float | None = None
    reported: Mapping[int, float] = field(default_factory=dict)  # epoch -> objective
    baseline_row: int | None = None


@dataclass(frozen=True)
class Proposal:
    """What to train next, and which of the stratum's baselines it is (None: a searched combination)."""

    assignment: Assignment
    baseline_row: int | None = None


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Optuna's durable storage at an SQLAlchemy URL; Refused in one line when it cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # alembic announces every migration step of a new database on the root logger's children.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=_PATIENCE if url.startswith("postgres") else None)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise Refused(f"Optuna's storage cannot be opened: {reason}") from None


def serve_dashboard(url: str, port: int) -> None:
    """optuna-dashboard on a storage, at 127.0.0.1 only, until interrupted; Refused when it is not installed."""
    from harness.dashboard import serve

    hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]
    serve(open_storage(url), host="127.0.0.1", port=port, allowed=hosts)


class StratumStudy:
    """The study `<sweep>/<stratum>/g<n>`: proposes what to train next and says what to prune."""

    def __init__(
        self,
        space: SearchSpace,
        stratum: Stratum,
        *,
        name: str,
        storage: optuna.storages.BaseStorage | None,
        outbox: Outbox | None = None,
    ) -> None:
        """`storage`: where the durable copy is; it is told at once, or through `outbox`."""
        self.space, self.stratum, self.name = space, stratum, name
        # Two twins: drawing leaves a draft trial behind at every draw, and Hyperband assigns brackets by trial number,
        # which must be the same after a restart.
        self._sampling, self._judging = (
            optuna.create_study(
                storage=optuna.storages.InMemoryStorage(), study_name=name, direction=space.objective.goal
            )
            for _ in range(2)
        )
        self._durable = None if storage is None else DurableStudy(_durable(space, name, storage), outbox)
        self._pruner = _pruner(space)
        self._twin_ids: dict[str, tuple[int, int]] = {}  # uid -> ids in the sampling and the judging twin
        self._taken: set[str] = set()
        self._reported: dict[str, dict[int, float]] = {}
        self._paused: set[str] = set()
        self._waiting_baselines = {row: given for row, (given, _) in enumerate(baselines_of(space, stratum))}
        self._cells: list[Assignment] | None = None

    def restore(self, past: Iterable[Past]) -> None:
        """Take in the trials of an earlier run; the durable study is brought to agree with them."""
        trials = sorted(past, key=lambda p: p.number)
        if self._durable is not None:
            self._durable.read({trial.uid: (trial.state, trial.value) for trial in trials})
        for trial in trials:
            self.started(trial.uid, trial.assignment)
            if trial.baseline_row is not None:
                self._waiting_baselines.pop(trial.baseline_row, None)
            for epoch, value in sorted(trial.reported.items()):
                self.report(trial.uid, epoch, value)
            if trial.state == "paused":
                self.paused(trial.uid)
            if trial.state in STATES:
                self.finished(trial.uid, trial.state, trial.value)

    def propose(self) -> Proposal | None:
        """The next combination that was not tried yet, baselines first; None when nothing is left."""
        while self._waiting_baselines:
            row = min(self._waiting_baselines)
            assignment = self._drawn({name: v for name, v in self._waiting_baselines.pop(row).items() if v is not None})
            if assignment is not None:
                return Proposal(assignment, baseline_row=row)
        assignment = None if self.space.method == "grid" else self._drawn({})
        assignment = assignment or self._remaining_cell()
        return None if assignment is None else Proposal(assignment)

    def _drawn(self, given: Mapping[str, Any]) -> Assignment | None:
        """A new combination around the given values, from the sampler; None after too many that are not new."""
        for attempt in range(MAX_REPEATS):
            row = self._suggested(given, attempt=attempt)
            if row is not None and self._is_new(row):
                return row
        return None

    def started(self, uid: str, assignment: Mapping[str, Any]) -> None:
        """Note a trial as running, here and in the durable study."""
        self._taken.add(_cell_key(assignment))
        self._twin_ids[uid] = (
            self._create(self._sampling, uid, assignment),
            self._create(self._judging, uid, assignment),
        )
        if self._durable is not None:
            self._durable.started(uid, *self._drawn_values(assignment))
        self._reported[uid] = {}

    def report(self, uid: str, epoch: int, value: float) -> None:
        """Note the objective after an epoch (1, 2, ...)."""
        self._reported[uid][epoch] = value
        for study, trial_id in self._open_twins(uid):
            study._storage.set_trial_intermediate_value(trial_id, epoch, value)

    def should_prune(self, uid: str) -> bool:
        """Whether the trial's last reported value makes it not worth going on."""
        if self._pruner is None or not self._reported[uid]:
            return False
        study, trial_id = self._twins(uid)[1]
        return bool(self._pruner.prune(study, study._storage.get_trial(trial_id)))

    def paused(self, uid: str) -> None:
        """Show a paused trial to the sampler with what it reached: Optuna has no such state, and a trial that seems to
        run counts for nothing. There it keeps what it had at its first rung, beside others at that rung. The durable
        study hears of the trial's end only."""
        if uid not in self._paused:
            self._paused.add(uid)
            study, trial_id = self._twins(uid)[0]
            study._storage.set_trial_state_values(trial_id, TrialState.PRUNED)

    def finished(self, uid: str, state: str, value: float | None) -> None:
        """Tell the end of a trial: complete with its objective, pruned, or failed."""
        values = [value] if state == "complete" and value is not None else None
        for study, trial_id in self._open_twins(uid):
            study._storage.set_trial_state_values(trial_id, STATES[state], values)
        if self._durable is not None:
            self._durable.finished(uid, state, value, self._reported[uid])

    def _suggested(self, given: Mapping[str, Any], *, attempt: int) -> Assignment | None:
        """One combination from the sampler around the given values; None when it breaks a rule."""
        # A stream of its own for every trial and attempt: a resumed sweep draws what it would have drawn.
        number = len(self._twin_ids)
        seed = int(fingerprint([self.space.name, self.space.seed, self.stratum.name, number, attempt])[:8], 16)
        self._sampling.sampler = _sampler(self.space.method, seed)
        draft = self._sampling.ask()
        try:
            row: Assignment = dict(self.stratum.values)
            for name in in_order(self.space.parameters):
                row[name] = self._value(draft, name, given, row)
        finally:
            # The draft was only for drawing: as a failed trial it counts for nothing in sampler and pruner.
            self._sampling._storage.set_trial_state_values(draft._trial_id, TrialState.FAIL)
        return row if meets_rules(self.space, row) else None

    def _value(self, draft: optuna.Trial, name: str, given: Mapping[str, Any], row: Assignment) -> Any:
        parameter = self.space.parameters[name]
        if not is_active(parameter, row):
            return None
        if name in given:
            return given[name]
        if len(parameter.choices) == 1:
            return parameter.choices[0]
        if parameter.is_range:
            low, high = parameter.min, parameter.max
            assert low is not None and high is not None
            if is_numeric(name) is int:
                return draft.suggest_int(name, round(low), round(high), log=parameter.log)
            return draft.suggest_float(name, low, high, log=parameter.log)
        label = draft.suggest_categorical(name, [label_of(choice) for choice in parameter.choices])
        return next(choice for choice in parameter.choices if label_of(choice) == label)

    def _twins(self, uid: str) -> list[tuple[optuna.Study, int]]:
        return list(zip((self._sampling, self._judging), self._twin_ids[uid], strict=True))

    def _open_twins(self, uid: str) -> list[tuple[optuna.Study, int]]:
        """Those that still take a word on the trial."""
        return self._twins(uid)[1:] if uid in self._paused else self._twins(uid)

    def _is_new(self, assignment: Assignment) -> bool:
        return _cell_key(assignment) not in self._taken

    def _remaining_cell(self) -> Assignment | None:
        """A combination not tried yet, in an order that only the seed decides; ranges are drawn at random."""
        if self._cells is None:
            self._cells = list(combinations(self.space, self.stratum))
            random.Random(fingerprint([self.space.seed, self.stratum.name, "cells"])).shuffle(self._cells)
        if open_ranges(self.space):
            return self._drawn_cell()
        return next((cell for cell in self._cells if self._is_new(cell)), None)

    def _drawn_cell(self) -> Assignment | None:
        draw = random.Random(fingerprint([self.space.seed, self.stratum.name, len(self._twin_ids), "draw"]))
        for cell in (self._cells or []) * MAX_REPEATS:
            row = {
                name: _uniform(name, self.space.parameters[name], draw)
                if value is None and name in self.space.parameters and is_active(self.space.parameters[name], cell)
                else value
                for name, value in cell.items()
            }
            if meets_rules(self.space, row) and self._is_new(row):
                return row
        return None

    def _create(self, study: optuna.Study, uid: str, assignment: Mapping[str, Any]) -> int:
        """A running trial with known parameters, made in one step (enqueue and ask would be two)."""
        params, distributions = self._drawn_values(assignment)
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=params, distributions=distributions, user_attrs={"uid": uid}
        )
        return study._storage.create_new_trial(study._study_id, template_trial=template)

    def _drawn_values(self, assignment: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """(params, distributions) of what varies, in Optuna's words."""
        distributions = {
            name: _distribution(name, parameter)
            for name, parameter in self.space.parameters.items()
            if assignment.get(name) is not None and len(parameter.choices) != 1
        }
        return {name: label_of(assignment[name]) for name in distributions}, distributions


def _durable(space: SearchSpace, name: str, storage: optuna.storages.BaseStorage) -> optuna.Study:
    """The study in the storage, made if it is not there."""
    study = optuna.create_study(storage=storage, study_name=name, direction=space.objective.goal, load_if_exists=True)
    with warnings.catch_warnings():
        # Naming the objective, for the axes of optuna-dashboard, is marked experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([space.objective.metric])
    return study


def _cell_key(assignment: Mapping[str, Any]) -> str:
    return json.dumps({name: label_of(value) for name, value in assignment.items()}, sort_keys=True)


def _sampler(method: str, seed: int) -> optuna.samplers.BaseSampler:
    if method == "tpe":
        with warnings.catch_warnings():
            # Its grouping options are marked experimental; we pin Optuna below its next major version.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # What runs is not bad for that (the "constant liar"): repeats are dropped anyway.
            return optuna.samplers.TPESampler(seed=seed, constant_liar=False)
    return optuna.samplers.RandomSampler(seed=seed)


def _pruner(space: SearchSpace) -> optuna.pruners.BasePruner | None:
    prune, epochs = space.prune, space.train.epochs
    if prune.type == "hyperband":
        return optuna.pruners.HyperbandPruner(prune.min_epochs, epochs, prune.eta)
    if prune.type == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(prune.min_epochs, prune.eta)
    if prune.type == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=prune.min_epochs - 1)
    return None


def _distribution(name: str, parameter: Parameter) -> BaseDistribution:
    if parameter.is_range:
        low, high = parameter.min, parameter.max
        assert low is not None and high is not None
        if is_numeric(name) is int:
            return IntDistribution(round(low), round(high), log=parameter.log)
        return FloatDistribution(low, high, log=parameter.log)
    return CategoricalDistribution([label_of(choice) for choice in parameter.choices])


def _uniform(name: str, parameter: Parameter, draw: random.Random) -> Any:
    low, high = parameter.min, parameter.max
    assert low is not None and high is not None
    value = low * (high / low) ** draw.random() if parameter.log else draw.uniform(low, high)
    return round(value) if is_numeric(name) is int else value


def delete_studies(url: str, *, prefix: str) -> int:
    """Delete every study whose name starts with `prefix`; returns how many."""
    storage = open_storage(url)
    names = [name for name in optuna.get_all_study_names(storage) if name.startswith(prefix)]
    for name in names:
        optuna.delete_study(study_name=name, storage=storage)
    return len(names)
