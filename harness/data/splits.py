"""Patients in roles. Patients, not patches: neighbours in both roles inflate every score.

`make_split` is iterative stratification (Sechidis et al., 2011) over the classes that each patient has, with
the sizes of the roles kept: the rarest class is dealt out first, each patient to the role that still lacks
the class most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from harness.config.labels import UNDEFINED
from harness.config.spec import Split
from harness.errors import BadInput
from harness.files import read_json, write_json

ROLES = ("train", "validation", "test")
# Dealing is greedy, so a few seeded deals are compared and the best is kept.
DEALS = 64
# A class that this many patients have should be in the role.
ENOUGH = {"train": 2, "validation": 2, "test": 3}

Dealt = dict[str, list[str]]


def make_split(presence: Mapping[str, frozenset[int]], *, validation: float, test: float = 0.0, seed: int) -> Split:
    """Split patients (name -> source ids that they have anywhere) by these shares; the same input gives the
    same split.

    At least one patient validates and one trains. A class that two patients have is in train and in
    validation, one that three have also in test, wherever the sizes allow it. BadInput when there are too
    few patients.
    """
    sizes = _sizes(len(presence), validation, test)
    classes = {patient: frozenset(presence[patient]) - {UNDEFINED} for patient in sorted(presence)}
    deals = [_deal(classes, sizes, np.random.default_rng([seed, deal])) for deal in range(DEALS)]
    best = min(deals, key=lambda dealt: _unevenness(dealt, classes))
    return Split(**{role: tuple(sorted(best[role])) for role in ROLES})


def presence_of(found: Iterable[tuple[str, Iterable[int]]]) -> dict[str, frozenset[int]]:
    """{patient: source ids that occur in any of their regions}, from (patient, ids) of every region."""
    presence: dict[str, set[int]] = {}
    for patient, ids in found:
        presence.setdefault(patient, set()).update(ids)
    return {patient: frozenset(ids) for patient, ids in presence.items()}


def write_split(path: Path, split: Split) -> None:
    """`{"train": [...], "validation": [...], "test": [...]}`, written in one step."""
    write_json(path, split.model_dump(mode="json"))


def read_split(path: Path, patients: Collection[str]) -> Split:
    """A saved split. Patients of the cohort that it does not name are left out of every role (`patients_without_role`).

    BadInput, all problems at once: not such a file, a patient twice, a patient that is not in the cohort,
    nobody in train or in validation.
    """
    split = load_split(path)
    twice = [f"{problem} (defect 11, patient_in_two_splits)" for problem in named_twice(split)]
    problems = [*twice, *split_problems(split, patients)]
    if problems:
        raise BadInput([f"{path}: {problem}" for problem in problems])
    return split


def load_split(path: Path) -> Split:
    """A split as its file has it, sensible or not. BadInput when it is not such a file."""
    try:
        document = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise BadInput(f"{path}: cannot be read as a split: {reason}") from None
    try:
        return Split.model_validate(document)
    except ValidationError:
        expected = '{"train": [patients], "validation": [...], "test": [...]}'
        raise BadInput(f"{path}: is not a split; expected {expected}, names as text") from None


def named_twice(split: Split) -> list[str]:
    """One line for each patient that the split names more than once, with the roles."""
    count = Counter(name for role in ROLES for name in getattr(split, role))
    lines = []
    for patient in sorted(name for name, times in count.items() if times > 1):
        where = ", ".join(role for role in ROLES for name in getattr(split, role) if name == patient)
        lines.append(f"patient {patient!r} is named more than once: {where}")
    return lines


def split_problems(split: Split, patients: Collection[str]) -> list[str]:
    """What else keeps a split from being used with this cohort."""
    unknown = sorted(set(roles_of(split)) - set(patients))
    problems = []
    if unknown:
        shown = ", ".join(unknown[:8]) + (f", ... ({len(unknown)} in all)" if len(unknown) > 8 else "")
        problems.append(f"not in the data: {shown}; its patients are {_shown(patients)}")
    return problems + [f"nobody is in {role!r}" for role in ("train", "validation") if not getattr(split, role)]


def roles_of(split: Split) -> dict[str, str]:
    """{patient: role}; the last role of a patient that is named twice."""
    return {patient: role for role in ROLES for patient in getattr(split, role)}


def patients_without_role(split: Split, patients: Collection[str]) -> list[str]:
    """Patients of the cohort that nobody trains on, validates or tests with."""
    return sorted(set(patients) - set(roles_of(split)))


def only(split: Split, patients: Collection[str]) -> Split:
    """The split without other patients."""
    return Split(**{role: tuple(name for name in getattr(split, role) if name in patients) for role in ROLES})


def _shown(patients: Collection[str]) -> str:
    names = sorted(patients)
    return ", ".join(names[:4]) + (f", ... ({len(names)} in all)" if len(names) > 4 else "")


def _sizes(patients: int, validation: float, test: float) -> dict[str, int]:
    testing = max(1, round(patients * test)) if test > 0 else 0
    # Of three patients half is two, and one is for testing: somebody has to be trained on.
    validating = max(1, min(round(patients * validation), patients - testing - 1))
    training = patients - validating - testing
    if training < 1:
        wanted = f"validation {validation:g}" + (f" and test {test:g}" if test else "")
        raise BadInput(f"data.split: {patients} patient(s) by {wanted}: nobody is left to train on")
    return {"train": training, "validation": validating, "test": testing}


def _deal(classes: Mapping[str, frozenset[int]], sizes: Mapping[str, int], rng: np.random.Generator) -> Dealt:
    """One deal: rarest class first, each of its patients to the open role that lacks it most."""
    patients = list(classes)
    waiting = [patients[place] for place in rng.permutation(len(patients))]
    lacking = {role: _wanted(classes, role, sizes[role]) for role in ROLES}
    dealt: Dealt = {role: [] for role in ROLES}
    while waiting:
        left = Counter(label for patient in waiting for label in classes[patient])
        rarest = min(left, key=lambda label: (left[label], label), default=None)
        for patient in [p for p in waiting if rarest is None or rarest in classes[p]]:
            places = {role: sizes[role] - len(dealt[role]) for role in ROLES}
            # Ties, and patients without any class, go where most places are left.
            lack = {role: lacking[role][rarest] if rarest is not None else 0.0 for role in ROLES}
            role = max((role for role in ROLES if places[role]), key=lambda r: (lack[r], places[r]))
            dealt[role].append(patient)
            waiting.remove(patient)
            for label in classes[patient]:
                lacking[role][label] -= 1
    return dealt


def _wanted(classes: Mapping[str, frozenset[int]], role: str, size: int) -> dict[int, float]:
    """Patients of each class that a role should get: its share, at least one where there are enough."""
    share = size / len(classes)
    return {
        label: max(count * share, 1.0 if size and count >= ENOUGH[role] else 0.0)
        for label, count in _count(classes, classes).items()
    }


def _unevenness(dealt: Dealt, classes: Mapping[str, frozenset[int]]) -> tuple[int, float]:
    """Classes missing in a role though enough patients have them, then squared differences of shares."""
    total = _count(classes, classes)
    missing, difference = 0, 0.0
    for role, members in dealt.items():
        if members:
            here = _count(members, classes)
            missing += sum(1 for label, count in total.items() if count >= ENOUGH[role] and not here[label])
            shares = ((here[label] / len(members), count / len(classes)) for label, count in total.items())
            difference += sum((share - overall) ** 2 for share, overall in shares)
    return missing, difference


def _count(patients: Iterable[str], classes: Mapping[str, frozenset[int]]) -> Counter[int]:
    """How many of these patients have each class."""
    return Counter(label for patient in patients for label in classes[patient])
