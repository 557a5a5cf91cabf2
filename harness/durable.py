"""What Optuna's storage holds of a sweep, whether the folders say so, and how it is told. Part of Optuna's room.

The storage may be a server that is away for a while: what is to be told goes through an outbox then, each trial as a
whole, so that the same may be told twice.

Optuna ends a trial for good: a state told by mistake, or one that no longer holds (a failed trial that is tried again,
a damaged result), cannot be taken back. The next durable trial of the same uid takes its place then, and says so in
the attribute `supersedes`. So the newest trial of a uid counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import TrialIntermediateValueModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.files import is_disk_full
from harness.outbox import Outbox
from harness.tracking.store import printable

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
_WORDS = {state: word for word, state in STATES.items()}


@dataclass(frozen=True, slots=True)
class DurableTrial:
    """One trial as Optuna's storage has it."""

    trial_id: int
    number: int
    uid: str
    state: str  # running, complete, pruned, failed
    value: float | None
    supersedes: int | None  # the number of the trial of the same uid whose place it takes

    @property
    def ended(self) -> bool:
        """Whether Optuna accepts no further word on it."""
        return self.state != "running"

    def agrees(self, state: str, value: float | None) -> bool:
        """Whether it is what a record with this state and value should be: to Optuna, all that goes on is running."""
        if state not in STATES:
            return not self.ended
        if state != "complete" or value is None or self.value is None:
            return self.state == state
        return self.state == state and math.isclose(self.value, value, rel_tol=1e-12)


def trials_of(study: optuna.Study) -> list[DurableTrial]:
    """All trials of a study, oldest first."""
    return [_seen(trial) for trial in study.get_trials(deepcopy=False)]


def newest(trials: Iterable[DurableTrial]) -> dict[str, DurableTrial]:
    """{uid: the trial that counts}."""
    return {trial.uid: trial for trial in sorted(trials, key=lambda t: t.number)}


def studies_of(storage: optuna.storages.BaseStorage, *, prefix: str) -> Mapping[str, list[DurableTrial]]:
    """{study: its trials} of every study whose name starts with `prefix`; reads only."""
    names = [name for name in optuna.get_all_study_names(storage) if name.startswith(prefix)]
    return {name: trials_of(optuna.load_study(study_name=name, storage=storage)) for name in names}


@dataclass(frozen=True, slots=True)
class Told:
    """All that the storage is to know of a trial."""

    parameters: Mapping[str, object]
    distributions: Mapping[str, BaseDistribution]
    supersedes: int | None = None
    state: str = "running"
    value: float | None = None
    reported: Mapping[int, float] = field(default_factory=dict)  # epoch -> objective


class DurableStudy:
    """One study in Optuna's storage, told at once, or through `outbox` by a thread of its own."""

    def __init__(self, study: optuna.Study, outbox: Outbox | None) -> None:
        self._study, self._outbox = study, outbox
        self._told: dict[str, Told] = {}
        self._ids: dict[str, int] = {}  # of the newest durable trial of each uid
        self._superseded: dict[str, int] = {}  # uid -> number of the durable trial that ended otherwise
        self._settled: set[str] = set()  # ended, as its folder says
        self._unsure: set[str] = set()  # a write failed, and may have arrived all the same

    def read(self, known: Mapping[str, tuple[str, float | None]]) -> None:
        """Find the trials of `known`, {uid: (state, value)}, in the storage. One that ended otherwise gets a successor;
        one that runs and is nobody's any more is ended."""
        trials = trials_of(self._study)
        current = {uid: trial for uid, trial in newest(trials).items() if uid in known}
        for trial in trials:
            if not trial.ended and current.get(trial.uid) is not trial:
                self._study._storage.set_trial_state_values(trial.trial_id, TrialState.FAIL)
        for uid, trial in current.items():
            if trial.ended and not trial.agrees(*known[uid]):
                self._superseded[uid] = trial.number
            else:
                self._ids[uid] = trial.trial_id
                if trial.ended:
                    self._settled.add(uid)

    def started(
        self, uid: str, parameters: Mapping[str, object], distributions: Mapping[str, BaseDistribution]
    ) -> None:
        """A trial runs."""
        self._told[uid] = Told(parameters, distributions, self._superseded.pop(uid, None))
        self._tell(uid)

    def finished(self, uid: str, state: str, value: float | None, reported: Mapping[int, float]) -> None:
        """It ended."""
        self._told[uid] = replace(self._told[uid], state=state, value=value, reported=dict(reported))
        self._tell(uid)

    def _tell(self, uid: str) -> None:
        if uid in self._settled:
            return
        if self._outbox is None:
            self._bring_up_to_date(uid)
        else:
            self._outbox.put(f"{self._study.study_name}: {uid}", lambda: self._bring_up_to_date(uid))

    def _bring_up_to_date(self, uid: str) -> None:
        """Make the storage say of the trial what is to be told now; may be repeated."""
        told, storage = self._told[uid], self._study._storage
        if uid in self._unsure:
            self._look_again(uid)
        self._unsure.add(uid)
        if uid not in self._ids:
            self._ids[uid] = storage.create_new_trial(self._study._study_id, template_trial=_template(uid, told))
        if told.state in STATES and not storage.get_trial(self._ids[uid]).state.is_finished():
            _report(storage, self._ids[uid], told.reported)
            values = [told.value] if told.state == "complete" and told.value is not None else None
            storage.set_trial_state_values(self._ids[uid], STATES[told.state], values)
        self._unsure.discard(uid)

    def _look_again(self, uid: str) -> None:
        """After a failure: whether the trial was made, and only the answer was lost."""
        trial = newest(trials_of(self._study)).get(uid)
        if trial is not None and trial.number != self._told[uid].supersedes:
            self._ids[uid] = trial.trial_id


def _report(storage: optuna.storages.BaseStorage, trial_id: int, reported: Mapping[int, float]) -> None:
    """Note the values of a trial that are not there yet; in a database at once.

    Optuna's own way is a transaction for each: 50 epochs are 50 commits and .1 s of processor time, at once 3 ms.
    """
    backend = getattr(storage, "_backend", storage)
    if not isinstance(backend, RDBStorage):
        for epoch, objective in reported.items():
            storage.set_trial_intermediate_value(trial_id, epoch, objective)
        return
    with _create_scoped_session(backend.scoped_session) as session:
        step = TrialIntermediateValueModel.step
        there = {known for (known,) in session.query(step).filter_by(trial_id=trial_id)}
        rows = []
        for epoch in sorted(reported.keys() - there):
            value, kind = TrialIntermediateValueModel.intermediate_value_to_stored_repr(reported[epoch])
            rows.append({"trial_id": trial_id, "step": epoch, "intermediate_value": value,
                         "intermediate_value_type": kind})  # fmt: skip
        if rows:
            session.execute(TrialIntermediateValueModel.__table__.insert(), rows)


def storage_outbox(**pace: float) -> Outbox:
    """An outbox for Optuna's storage. `pace`: see `Outbox`."""
    return Outbox("Optuna's storage", away=_away, reason=_one_line, **pace)


def _away(error: Exception) -> str | None:
    """Why the storage does not answer, if that is what an error says."""
    from sqlalchemy.exc import InterfaceError, OperationalError, TimeoutError

    chain, seen = [], error
    while seen is not None and seen not in chain:
        chain.append(seen)
        seen = seen.__cause__ or seen.__context__  # type: ignore[assignment]
    away = any(isinstance(one, OperationalError | InterfaceError | TimeoutError | OSError) for one in chain)
    return _one_line(chain[-1]) if away or is_disk_full(error) else None


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable((lines or [type(error).__name__])[0][:200])


def _template(uid: str, told: Told) -> FrozenTrial:
    """A running trial with known parameters, made in one step (enqueue and ask would be two)."""
    attributes = {"uid": uid} | ({} if told.supersedes is None else {"supersedes": told.supersedes})
    return create_trial(
        state=TrialState.RUNNING,
        params=dict(told.parameters),
        distributions=dict(told.distributions),
        user_attrs=attributes,
    )


def _seen(trial: FrozenTrial) -> DurableTrial:
    supersedes = trial.user_attrs.get("supersedes")
    return DurableTrial(
        trial_id=trial._trial_id,
        number=trial.number,
        uid=str(trial.user_attrs.get("uid", "")),
        state=_WORDS.get(trial.state, "running"),
        value=trial.value if trial.state is TrialState.COMPLETE else None,
        supersedes=supersedes if isinstance(supersedes, int) else None,
    )
