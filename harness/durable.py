"""What Optuna's storage holds of a sweep, and whether that is what the folders say. Part of Optuna's room.

Optuna ends a trial for good: a state told by mistake, or one that no longer holds (a failed trial that is tried again,
a damaged result), cannot be taken back. The next durable trial of the same uid takes its place then, and says so in
the attribute `supersedes`. So the newest trial of a uid counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

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
