"""What the network is given, and in which order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.config.labels import BUILTIN
from harness.config.spec import Cut, TrainSpec
from harness.data.augment import build_augment
from harness.data.batches import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    balanced_weights,
    batch_slices,
    epoch_order,
    normalized,
    training_batches,
    validation_batches,
)
from harness.data.cohort import read_cohort
from harness.data.patches import PatchStore, open_store
from harness.data.prefetch import prefetched
from harness.data.targets import target_table

LABELS = BUILTIN["tiger7"]
TABLE = target_table(LABELS, "ignore")


@pytest.fixture
def store(cohort, tmp_path: Path) -> PatchStore:
    """Nine patches of 16 px: eight of class 1, one (the last) of class 5."""
    mask = np.ones((48, 48), np.uint8)
    mask[32:, 32:] = 5
    cohort.add("100B_[0, 0, 48, 48]", mask)
    cut = Cut(patch_px=16, input_px=16, stride=16)
    return open_store(tmp_path / "stores", read_cohort(cohort.root), cut, data_hash="abc")


def batches(store: PatchStore, epoch: int = 1, **train: object) -> list[tuple[np.ndarray, np.ndarray]]:
    """One epoch over all patches."""
    spec = TrainSpec.model_validate({"augment": "none", "batch_size": 4, **train})
    everything = np.arange(len(store))
    drawn = training_batches(store, everything, spec=spec, table=TABLE, labels=LABELS, seed=3, epoch=epoch)
    return list(drawn)


def test_unit_divides_by_255() -> None:
    """The paper's normalisation; channels first."""
    images = np.zeros((1, 2, 3, 3), np.uint8)
    images[0, 1, 2] = (255, 51, 0)
    out = normalized(images, "unit")
    assert (out.shape, out.dtype) == ((1, 3, 2, 3), np.float32)
    assert out[0, :, 1, 2] == pytest.approx([1.0, 0.2, 0.0])


def test_imagenet_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    """White: (1 - .485) / .229 = 2.2489, (1 - .456) / .224 = 2.4286, (1 - .406) / .225 = 2.64."""
    white = np.full((1, 1, 1, 3), 255, np.uint8)
    assert normalized(white, "imagenet").ravel() == pytest.approx([2.2489, 2.4286, 2.6400], abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.uint8, st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.sampled_from(["unit", "imagenet"]),
)
def test_normalising_image_by_image_gives_the_bits_of_one_formula(images: np.ndarray, normalize: str) -> None:
    """x * (1 / 255 / std) + (-mean / std), in float32, for all at once; strides make no difference."""
    mean, std = (0.0, 1.0) if normalize == "unit" else (IMAGENET_MEAN[:, None, None], IMAGENET_STD[:, None, None])
    scale, shift = np.full((3, 1, 1), 1 / 255, np.float32) / np.float32(std), np.float32(-mean / std)
    expected = images.transpose(0, 3, 1, 2).astype(np.float32) * scale + shift
    assert normalized(images, normalize).tobytes() == expected.tobytes()
    assert normalized(images[:, ::-1, ::-1], normalize).tobytes() == expected[..., ::-1, ::-1].tobytes()


@pytest.mark.parametrize("normalize", ["unit", "imagenet"])
@pytest.mark.parametrize("augment", ["paper", "paper_one_warp", "histology", "none"])
def test_batches_are_the_augmented_patches_bit_by_bit(store: PatchStore, augment: str, normalize: str) -> None:
    """A plain loop over the epoch's order gives the same bits, whatever is done for speed."""
    policy = build_augment(augment, undefined_target=255)
    order = epoch_order(store, np.arange(9), sampling="uniform", labels=LABELS, seed=3, epoch=1)
    pairs = [
        policy(np.array(store.images_NHWC[i]), TABLE[store.masks_NHW[i]], seed=3, epoch=1, index=int(i)) for i in order
    ]
    drawn = batches(store, augment=augment, normalize=normalize)
    images, targets = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    assert images.tobytes() == normalized(np.stack([image for image, _ in pairs]), normalize).tobytes()
    assert targets.tobytes() == np.stack([target for _, target in pairs]).astype(np.int64).tobytes()


@pytest.mark.parametrize("augment", ["paper", "paper_one_warp", "histology"])
def test_batches_made_ahead_in_a_thread_are_the_same(store: PatchStore, augment: str) -> None:
    """Whatever the consumer augments meanwhile: paper's two generators are shared by all of a process."""
    spec, everything = TrainSpec(augment=augment, batch_size=2), np.arange(9)
    drawn = training_batches(store, everything, spec=spec, table=TABLE, labels=LABELS, seed=3, epoch=1)
    elsewhere = build_augment(augment, undefined_target=255)
    ahead = []
    for batch in prefetched(drawn):
        ahead.append(batch)
        for index in range(20):
            elsewhere(np.array(store.images_NHWC[0]), TABLE[store.masks_NHW[0]], seed=9, epoch=9, index=index)
    for (images, targets), (same_images, same_targets) in zip(
        batches(store, augment=augment, batch_size=2), ahead, strict=True
    ):
        assert np.array_equal(images, same_images)
        assert np.array_equal(targets, same_targets)


@pytest.mark.parametrize(
    ("patches", "batch_size", "sizes"),
    [
        (64, 32, [32, 32]),
        (65, 32, [32, 33]),
        (66, 32, [32, 32, 2]),
        (5, 32, [5]),
        (1, 32, [1]),
        (33, 32, [33]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
        (0, 4, []),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before(patches: int, batch_size: int, sizes: list[int]) -> None:
    """BatchNorm cannot train on a single value; no patch is dropped."""
    slices = batch_slices(patches, batch_size)
    assert [len(range(patches)[batch]) for batch in slices] == sizes
    assert [i for batch in slices for i in range(patches)[batch]] == list(range(patches))


def test_an_epoch_shows_every_patch_once_as_it_is_stored(store: PatchStore) -> None:
    """Nine patches in batches of 4: 4 and 5. Targets are class 1 -> 0, class 5 -> 4."""
    drawn = batches(store)
    assert [len(images) for images, _ in drawn] == [4, 5]
    images, targets = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
    assert (images.dtype, targets.dtype) == (np.float32, np.int64)
    expected = {normalized(store.images_NHWC[i : i + 1], "unit").tobytes() for i in range(9)}
    assert {image[None].tobytes() for image in images} == expected
    assert sorted(target.mean() for target in targets) == [0] * 8 + [4]


def test_epochs_differ_in_order_and_repeat_exactly(store: PatchStore) -> None:
    """Epoch 2 is the same whether or not epoch 1 ran before: that is what resume relies on."""
    first, second = batches(store, 1, augment="histology"), batches(store, 2, augment="histology")
    again = batches(store, 2, augment="histology")
    for (images, targets), (same_images, same_targets) in zip(second, again, strict=True):
        assert np.array_equal(images, same_images)
        assert np.array_equal(targets, same_targets)
    assert not all(np.array_equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True))


def test_a_patch_is_augmented_alike_wherever_it_stands_in_the_epoch(store: PatchStore) -> None:
    """The key is the patch's index in the store: half the patches, in another order, look the same."""
    spec = TrainSpec(augment="histology", batch_size=3)

    def pictures(indices: np.ndarray) -> set[bytes]:
        drawn = training_batches(store, indices, spec=spec, table=TABLE, labels=LABELS, seed=3, epoch=1)
        return {image.tobytes() for images, _ in drawn for image in images}

    assert pictures(np.array([7, 2, 4])) <= pictures(np.arange(9))


def test_balanced_draws_give_each_class_its_half(store: PatchStore) -> None:
    """One patch of class 5 among nine: half of 2 000 draws, give or take."""
    counts = np.array([[10, 0]] * 8 + [[0, 10]])
    assert balanced_weights(counts).tolist() == pytest.approx([1 / 16] * 8 + [1 / 2])
    drawn = [
        epoch_order(store, np.arange(9), sampling="balanced", labels=LABELS, seed=0, epoch=epoch)
        for epoch in range(222)
    ]
    assert {len(order) for order in drawn} == {9}
    assert np.mean(np.concatenate(drawn) == 8) == pytest.approx(0.5, abs=0.05)


def test_a_patch_drawn_twice_in_an_epoch_is_augmented_twice(store: PatchStore) -> None:
    """Balanced epochs repeat the rare patch; the same pixels over and over would be memorised."""
    drawn = batches(store, augment="histology", sampling="balanced")
    rare = [
        image.tobytes()
        for images, targets in drawn
        for image, target in zip(images, targets, strict=True)
        if 4 in target
    ]
    assert len(rare) > 2
    assert len(set(rare)) == len(rare)


COUNTS = arrays(np.int64, st.tuples(st.integers(1, 30), st.integers(1, 7)), elements=st.integers(0, 400))


@settings(deadline=None)
@given(COUNTS)
def test_balanced_weights_never_make_classes_less_even(counts: np.ndarray) -> None:
    """Sum of log(share of class), over the classes that occur, does not fall below that of uniform draws."""
    weights = balanced_weights(counts)
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = shares[:, shares.any(axis=0)]
    defined = counts.any(axis=1)
    if defined.any():
        uniform = shares[defined].mean(axis=0)
        assert np.log(weights @ shares).sum() >= np.log(uniform).sum() - 1e-9
        assert not weights[~defined].any()


def test_without_any_defined_pixel_draws_are_uniform() -> None:
    """Nothing to balance."""
    assert balanced_weights(np.zeros((4, 3), np.int64)).tolist() == [0.25] * 4


def test_validation_keeps_the_order_it_is_given(store: PatchStore) -> None:
    """Nothing shuffled, nothing augmented, nothing merged."""
    indices = np.array([5, 0, 8, 3, 1])
    drawn = list(validation_batches(store, indices, batch_size=2, normalize="unit"))
    assert [batch.tolist() for _, batch in drawn] == [[5, 0], [8, 3], [1]]
    assert np.array_equal(drawn[1][0], normalized(store.images_NHWC[np.array([8, 3])], "unit"))
