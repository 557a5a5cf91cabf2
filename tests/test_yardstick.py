"""The yardstick against its definition, written out pixel by pixel; and folding before or after argmax.

Definition (UNICORN task 9's score): pixels of source id 0 are dropped, and no others. Tumor is {1, 3}, stroma is
{2, 6}; a prediction that is neither counts as rest, a predicted `undefined` too. All pixels of all regions are pooled;
the score is the mean of tumor Dice and stroma Dice. n/a when tumor, or stroma, is in neither truth nor prediction,
and when a class of the label map holds ids of more than one of tumor, stroma, rest {4, 5, 7}.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.config.labels import BUILTIN, LabelMap
from harness.scores import Matrix, Scheme, class_confusion, pooled, score_matrix, source_matrix, yardstick_refusal

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # source ids of the truth, predicted classes
MERGED = {1: "tumor", 3: "tumor", 2: "stroma", 6: "stroma", 4: "rest", 5: "rest", 7: "rest"}
# unicorn3's class of each of tiger7's, by hand: invasive, stroma, in situ, glands, necrosis, inflamed stroma, rest.
SEVEN_TO_THREE = np.array([0, 1, 2, 1, 3, 3, 2, 3], np.uint8)
TIGER_IDS = tuple(range(8))


def merged_class(ids: tuple[int, ...]) -> str | None:
    """What a predicted class counts as; None when its ids are of several."""
    merged = {MERGED[source_id] for source_id in ids}
    return merged.pop() if len(merged) == 1 else None


def by_definition(rois: list[Pair], classes: dict[str, tuple[int, ...]]) -> float | None:
    """The yardstick of some regions, one pixel after the other; a prediction of 0 is `undefined`."""
    said_as = ["rest", *(merged_class(ids) for ids in classes.values())]
    if None in said_as:
        return None
    both, true, said = ({"tumor": 0, "stroma": 0, "rest": 0} for _ in range(3))
    for truth_HW, predicted_HW in rois:
        for source_id, predicted in zip(truth_HW.ravel().tolist(), predicted_HW.ravel().tolist(), strict=True):
            if source_id == 0:
                continue
            wanted, given = MERGED[source_id], said_as[predicted]
            true[wanted] += 1
            said[given] += 1
            both[wanted] += wanted == given
    dice = []
    for name in ("tumor", "stroma"):
        if true[name] + said[name] == 0:
            return None
        dice.append(2 * both[name] / (true[name] + said[name]))
    return (dice[0] + dice[1]) / 2


def regions(seed: int, classes: int, *, undefined: bool) -> list[Pair]:
    """One to three small regions; what occurs in truth and in prediction is drawn apart, so that anything may lack."""
    rng = np.random.default_rng(seed)
    true = rng.choice(8, rng.integers(1, 9), replace=False)
    said = np.arange(0 if undefined else 1, classes + 1)
    said = rng.choice(said, rng.integers(1, len(said) + 1), replace=False)
    shapes = [tuple(rng.integers(1, 7, 2)) for _ in range(rng.integers(1, 4))]
    return [(rng.choice(true, shape).astype(np.uint8), rng.choice(said, shape).astype(np.uint8)) for shape in shapes]


def ours(rois: list[Pair], scheme: Scheme) -> float | None:
    """The harness's yardstick of the same regions."""
    return score_matrix(pooled([source_matrix(*pair, scheme) for pair in rois]), scheme)["yardstick"]


@pytest.mark.parametrize("undefined", [False, True], ids=["ignore", "as_paper"])
@pytest.mark.parametrize("name", ["tiger7", "unicorn3"])
def test_the_yardstick_equals_its_definition_on_1000_random_cases(name: str, undefined: bool) -> None:
    """Also with tumor or stroma absent from truth, prediction, or both: then it is n/a in the same cases, and for
    seven classes it is the same after folding the predictions to three."""
    labels = BUILTIN[name]
    scheme = Scheme(TIGER_IDS, labels, undefined_column=undefined)
    three = Scheme(TIGER_IDS, BUILTIN["unicorn3"], undefined_column=undefined)
    missing = 0
    for seed in range(1000):
        rois = regions(seed, len(labels.classes), undefined=undefined)
        expected = by_definition(rois, labels.classes)
        assert ours(rois, scheme) == expected, seed  # whole numbers until the last division: no rounding differs
        if name == "tiger7":
            folded = [(truth, SEVEN_TO_THREE[predicted]) for truth, predicted in rois]
            assert ours(folded, three) == ours(rois, scheme)
        missing += expected is None
    assert 50 < missing < 500  # both kinds of case are well represented


@pytest.mark.parametrize(
    ("true", "said", "expected"),
    [
        ([1, 2, 2, 6, 7], [1, 2, 2, 2, 3], 1.0),  # all right
        ([1, 1, 2, 2], [2, 2, 1, 1], 0.0),  # all wrong
        ([2, 2, 7], [2, 2, 3], None),  # tumor in neither: n/a, not 1
        ([2, 2, 7], [2, 2, 1], 0.5),  # tumor in the prediction only: Dice 0
        ([1, 2, 2], [3, 2, 2], 0.5),  # tumor in the truth only: Dice 0
        ([1, 1, 7], [1, 1, 3], None),  # stroma in neither
        ([0, 0, 1, 2], [1, 2, 1, 2], 1.0),  # what is said on undefined pixels does not count
        ([0, 0], [1, 2], None),  # nothing is defined
        ([1, 3, 2, 6], [1, 0, 2, 0], 2 / 3),  # a predicted undefined is rest: each Dice is 2 / 3
    ],
)
def test_the_yardstick_of_cases_worked_by_hand(true: list[int], said: list[int], expected: float | None) -> None:
    """Truth as source ids, predictions as classes of unicorn3 (0: undefined)."""
    scheme = Scheme(TIGER_IDS, BUILTIN["unicorn3"], undefined_column=True)
    assert ours([(np.array([true], np.uint8), np.array([said], np.uint8))], scheme) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("classes", "held"),
    [
        (BUILTIN["tiger3"].classes, "class 'rest' holds ids of rest and tumor"),
        ({"tissue": (1, 2), "other": (3, 4, 5, 6, 7)}, "class 'tissue' holds ids of stroma and tumor"),
        ({"tumor": (1, 3), "other": (2, 4, 5, 6, 7)}, "class 'other' holds ids of rest and stroma"),
    ],
)
def test_a_map_that_straddles_the_merge_has_no_yardstick(classes: dict[str, tuple[int, ...]], held: str) -> None:
    """However right the predictions are; the reason names the class."""
    scheme = Scheme(TIGER_IDS, LabelMap(name="m", classes=classes))
    truth = np.arange(1, 8, dtype=np.uint8)[None]
    predicted = np.array([[scheme.labels.class_of(i) for i in range(1, 8)]], np.uint8)
    assert score_matrix(source_matrix(truth, predicted, scheme), scheme)["iou"] == 1.0
    assert by_definition([(truth, predicted)], classes) is None
    assert ours([(truth, predicted)], scheme) is None
    assert yardstick_refusal(scheme) == held


@st.composite
def coarsenings(draw: st.DrawFn) -> tuple[LabelMap, LabelMap, list[int]]:
    """A label map over TIGER's ids, a coarser one made of whole classes of it, and the coarse class of each fine one.

    A fine class is dropped (its ids ignored) in the coarse map when it is drawn as 0.
    """
    fine_of = draw(st.lists(st.integers(0, 5), min_size=7, max_size=7).filter(any))
    kept = sorted({number for number in fine_of if number})
    fine = {f"f{n}": tuple(i for i, number in enumerate(fine_of, start=1) if number == n) for n in kept}
    left_out = tuple(i for i, number in enumerate(fine_of, start=1) if number == 0)
    numbers = draw(st.lists(st.integers(1, 3), min_size=len(fine), max_size=len(fine)))
    order = sorted(set(numbers))
    coarse_of = [order.index(number) + 1 for number in numbers]
    coarse = {
        f"c{n}": tuple(i for ids, of in zip(fine.values(), coarse_of, strict=True) if of == n for i in ids)
        for n in range(1, len(order) + 1)
    }
    maps = (LabelMap(name=name, classes=c, ignore_ids=left_out) for name, c in (("fine", fine), ("coarse", coarse)))
    return *maps, coarse_of


def folded_columns(matrix: Matrix, coarse_of: list[int], *, undefined: bool) -> Matrix:
    """The counts of fine predictions added up to coarse ones; a first `undefined` column stays."""
    first = int(undefined)
    result = np.zeros((len(matrix), max(coarse_of) + first), np.int64)
    result[:, :first] = matrix[:, :first]
    for column, coarse in enumerate(coarse_of):
        result[:, coarse - 1 + first] += matrix[:, column + first]
    return result


@given(coarsenings(), st.integers(0, 10_000), st.booleans())
@settings(max_examples=300, deadline=None)
def test_folding_a_matrix_after_argmax_equals_folding_masks_and_predictions_first(
    drawn: tuple[LabelMap, LabelMap, list[int]], seed: int, undefined: bool
) -> None:
    """For any label map and any coarser one: columns add up as predictions merge, rows as masks do."""
    fine, coarse, coarse_of = drawn
    fine_scheme, coarse_scheme = (Scheme(TIGER_IDS, labels, undefined_column=undefined) for labels in (fine, coarse))
    of_fine = np.array([0, *coarse_of], np.uint8)
    of_source = np.array([coarse.class_of(i) or 0 for i in range(8)], np.uint8)
    rois = regions(seed, len(fine.classes), undefined=undefined)
    matrix = pooled([source_matrix(*pair, fine_scheme) for pair in rois])
    folded = folded_columns(matrix, coarse_of, undefined=undefined)
    first = [source_matrix(truth, of_fine[predicted], coarse_scheme) for truth, predicted in rois]
    assert (folded == pooled(first)).all()
    # Masks merged to classes beforehand, with class numbers for source ids: the same confusion, and every score.
    merged = LabelMap(name="merged", classes={name: (n,) for n, name in enumerate(coarse.classes, start=1)})
    merged_scheme = Scheme(tuple(range(len(coarse.classes) + 1)), merged, "other", undefined)
    last = pooled([source_matrix(of_source[truth], of_fine[predicted], merged_scheme) for truth, predicted in rois])
    assert (class_confusion(folded, coarse_scheme) == class_confusion(last, merged_scheme)).all()
    scores, expected = score_matrix(folded, coarse_scheme), score_matrix(last, merged_scheme)
    assert {k: v for k, v in scores.items() if "yardstick" not in k} == {
        k: v for k, v in expected.items() if "yardstick" not in k
    }
