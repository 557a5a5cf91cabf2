"""Patients never cross, classes are where they can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.config.spec import Split
from harness.data.splits import make_split, read_split, write_split
from harness.errors import BadInput

PATIENTS = st.dictionaries(
    st.text("ABCDEF0123", min_size=1, max_size=4),
    st.frozensets(st.integers(0, 7)),
    min_size=3,
    max_size=40,
)


@settings(deadline=None, max_examples=40)  # 5 ms a split, but cores are shared
@example({"A": frozenset(), "B": frozenset(), "C": frozenset()}, 0.5, 0.1, 0)  # rounded, nobody would train
@given(PATIENTS, st.floats(0, 0.5), st.sampled_from([0.0, 0.1]), st.integers(0, 2**63 - 1))
def test_every_patient_has_exactly_one_role(presence, validation: float, test: float, seed: int) -> None:
    """Also when shares round to nobody, or to everybody: at least one patient trains and one validates."""
    split = make_split(presence, validation=validation, test=test, seed=seed)
    assert sorted([*split.train, *split.validation, *split.test]) == sorted(presence)
    assert split.train
    left = len(presence) - len(split.test)
    assert len(split.validation) == max(1, min(round(len(presence) * validation), left - 1))
    assert bool(split.test) == (test > 0)


@settings(deadline=None, max_examples=40)  # 5 ms a split, but cores are shared
@given(PATIENTS, st.integers(0, 99))
def test_order_of_the_patients_does_not_matter(presence, seed: int) -> None:
    """A split is made from what is there, not from how a disk lists it."""
    backwards = dict(reversed(presence.items()))
    assert make_split(presence, validation=0.3, seed=seed) == make_split(backwards, validation=0.3, seed=seed)


def test_another_seed_deals_otherwise() -> None:
    """Twenty equal patients: 15 504 ways to choose five."""
    presence = {f"P{index:02}": frozenset({1, 2}) for index in range(20)}
    splits = {make_split(presence, validation=0.25, seed=seed).validation for seed in range(10)}
    assert len(splits) > 5


def test_the_rarest_class_is_in_train_and_in_validation() -> None:
    """Two of thirty patients have class 5: one trains, one validates, whatever the seed."""
    presence = {f"P{index:02}": frozenset({1, 2, 5} if index in (3, 17) else {1, 2}) for index in range(30)}
    for seed in range(20):
        split = make_split(presence, validation=0.2, seed=seed)
        assert len({"P03", "P17"} & set(split.validation)) == 1


def test_a_class_of_a_single_patient_is_trained_on() -> None:
    """It cannot be in both; a class that was never seen cannot be learned."""
    presence = {f"P{index:02}": frozenset({1, 3} if index == 4 else {1}) for index in range(10)}
    for seed in range(20):
        assert "P04" in make_split(presence, validation=0.3, seed=seed).train


def test_seven_rare_classes_fit_into_a_small_validation_set() -> None:
    """Pairs of patients share a class each; one patient has six of seven; two places to validate."""
    presence = {f"P{label}{copy}": frozenset({label}) for label in range(1, 8) for copy in "ab"}
    presence["rich"] = frozenset(range(1, 7))
    split = make_split(presence, validation=2 / 15, seed=3)
    assert len(split.validation) == 2
    assert frozenset().union(*(presence[name] for name in split.validation)) == frozenset(range(1, 8))
    assert frozenset().union(*(presence[name] for name in split.train)) == frozenset(range(1, 8))


def test_prevalence_is_alike_in_train_and_validation() -> None:
    """40 patients, half with class 2, a quarter with class 3: a fifth of each in a fifth of the patients."""
    presence = {
        f"P{index:02}": frozenset({1} | ({2} if index % 2 else set()) | ({3} if index % 4 == 0 else set()))
        for index in range(40)
    }
    validation = make_split(presence, validation=0.2, seed=5).validation
    assert sum(2 in presence[name] for name in validation) == 4
    assert sum(3 in presence[name] for name in validation) == 2


def test_one_patient_cannot_be_split() -> None:
    """The line says how many there are."""
    with pytest.raises(BadInput, match=r"1 patient\(s\).*nobody is left to train on"):
        make_split({"P1": frozenset({1})}, validation=0.2, seed=0)


def test_a_split_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """Later runs use the saved one."""
    split = Split(train=("A", "B"), validation=("C",), test=("D",))
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json", ["A", "B", "C", "D", "E"]) == split


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ('{"train": ["A"], "validation": ["A"]}', ["'A' is named more than once: train, validation"]),
        ('{"train": ["A", "A"], "validation": ["B"]}', ["'A' is named more than once: train, train"]),
        ('{"train": ["A"], "validation": ["X"]}', ["not in the data: X; its patients are A, B"]),
        ('{"train": [], "validation": ["B"]}', ["nobody is in 'train'"]),
        ('{"train": ["A"], "validation": []}', ["nobody is in 'validation'"]),
        ('{"train": ["A"], "validation": ["A", "X"], "test": ["X"]}',
         ["'A' is", "'X' is", "not in the data: X"]),
        ('{"train": ["A"], "valid": ["B"]}', ["is not a split"]),
        ('{"train": "A", "validation": ["B"]}', ["is not a split"]),
        ("[]", ["is not a split"]),
        ("{", ["not JSON"]),
    ],
)  # fmt: skip
def test_a_split_that_leaks_or_misses_names_every_reason(tmp_path: Path, text: str, reasons: list[str]) -> None:
    """One line each, with the file in front."""
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read_split(path, ["A", "B"])
    assert len(caught.value.problems) == len(reasons)
    for problem, reason in zip(caught.value.problems, reasons, strict=True):
        assert problem.startswith(str(path))
        assert reason in problem


def test_a_missing_split_file_is_named(tmp_path: Path) -> None:
    """Bad input, not a traceback."""
    with pytest.raises(BadInput, match="No such file"):
        read_split(tmp_path / "split.json", ["A"])
