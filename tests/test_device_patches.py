"""Patches that stay on the device against batches made on the host; the device is the CPU, which computes the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from harness.config.imported import ImportedPart
from harness.config.labels import BUILTIN
from harness.config.spec import Cut, TrainSpec
from harness.data.batches import training_batches
from harness.data.cohort import read_cohort
from harness.data.patches import PatchStore, open_store
from harness.data.targets import target_table
from harness.device_patches import SHARE, DevicePatches, fitting, free_bytes, moves_on_device, size_bytes
from harness.epoch import Trained, train_epoch
from harness.losses import build_loss
from harness.optimization import build_optimizer
from tests.toy import toy_spec, write_cohort
from tests.training import CPU, data_of, tiny_net, trained

LABELS = BUILTIN["tiger7"]
TABLE = target_table(LABELS, "ignore")
PX, PATCHES = 64, 36


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    """36 patches of 64 px: smooth colours, and blocks of 16 px of every source id."""
    folder = tmp_path_factory.mktemp("device patches")
    base, rng = folder / "wsirois" / "roi-level-annotations" / "tissue-bcss", np.random.default_rng(4)
    image = cv2.resize(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8), (6 * PX, 6 * PX))
    mask = np.kron(rng.integers(0, 8, (24, 24), dtype=np.uint8), np.ones((16, 16), np.uint8))
    for kind, pixels in (("images", image), ("masks", mask)):
        (base / kind).mkdir(parents=True)
        assert cv2.imwrite(str(base / kind / f"TCGA-A2-A0A1-DX1_[0, 0, {6 * PX}, {6 * PX}].png"), pixels)
    cut = Cut(patch_px=PX, input_px=PX, stride=PX)
    return open_store(folder / "stores", read_cohort(folder), cut, data_hash="device")


INDICES = np.random.default_rng(0).permutation(PATCHES)[:33]  # in no order, and not all of them


def both(store: PatchStore, *, epochs: int = 1, **train: object) -> list[tuple[np.ndarray, ...]]:
    """(images, targets) of the host and of the device, batch by batch, over some epochs of 33 patches."""
    spec = TrainSpec.model_validate({"batch_size": 8, **train})
    on_device, found = DevicePatches(store, INDICES, CPU), []
    for epoch in range(1, epochs + 1):
        drawn = [
            made(store, INDICES, spec=spec, table=TABLE, labels=LABELS, seed=3, epoch=epoch)
            for made in (training_batches, on_device.batches)
        ]
        for (images, targets), (images_there, targets_there) in zip(*drawn, strict=True):
            assert (images_there.dtype, targets_there.dtype) == (torch.float32, torch.int64)
            assert images_there.is_contiguous(memory_format=torch.channels_last)
            found.append((images, targets, images_there.numpy(), targets_there.numpy()))
    return found


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
@pytest.mark.parametrize("normalize", ["unit", "imagenet"])
def test_without_moves_batches_have_the_bits_of_the_hosts(store: PatchStore, normalize: str, sampling: str) -> None:
    """The same patches in the same order; 33 in batches of 8 are 8, 8, 8 and 9."""
    found = both(store, augment="none", normalize=normalize, sampling=sampling)
    assert [len(images) for images, *_ in found] == [8, 8, 8, 9]
    for images, targets, images_there, targets_there in found:
        assert images.tobytes() == images_there.tobytes()
        assert targets.tobytes() == targets_there.tobytes()


def test_one_warp_there_is_the_hosts_within_a_level_of_grey(store: PatchStore) -> None:
    """Of three epochs: nowhere more than one level, and less than one value of 1,000; of targets one pixel of 500."""
    images, targets, images_there, targets_there = (
        np.concatenate(parts) for parts in zip(*both(store, epochs=3, augment="paper_one_warp"), strict=True)
    )
    greys, greys_there = np.rint(images * 255), np.rint(images_there * 255)
    assert np.abs(greys - greys_there).max() <= 1
    assert (greys != greys_there).mean() < 1e-3
    assert (targets != targets_there).mean() < 2e-3


def test_normalised_as_imagenet_expects_moved_patches_are_the_hosts_but_for_that_level(store: PatchStore) -> None:
    """Where the grey is equal, values agree to 1e-5; elsewhere they differ by a level, 1 / 255 / .224 at most."""
    for images, _, images_there, _ in both(store, augment="paper_one_warp", normalize="imagenet"):
        difference = np.abs(images - images_there)
        assert (difference > 1e-5).mean() < 1e-3
        assert difference.max() < 1 / 255 / 0.224 + 1e-5


def test_moves_do_not_depend_on_the_size_of_the_batch(store: PatchStore) -> None:
    """In batches of 4 and of 32 the epoch is the same, bit by bit."""
    small, large = (both(store, augment="paper_one_warp", batch_size=size) for size in (4, 32))
    for of in (2, 3):
        assert np.concatenate([one[of] for one in small]).tobytes() == np.concatenate([o[of] for o in large]).tobytes()


def test_patches_that_do_not_fit_stay_on_the_host(store: PatchStore) -> None:
    """33 patches of 64 px take 64 * 64 * 4 bytes each. A quarter of what is free is theirs, not a byte more."""
    need = 33 * PX * PX * 4
    assert size_bytes(store, INDICES) == need
    assert fitting(store, INDICES, CPU, free=lambda device: int(need / SHARE)) is not None
    assert fitting(store, INDICES, CPU, free=lambda device: int(need / SHARE) - 1) is None


def test_a_device_that_is_full_by_then_leaves_them_on_the_host(
    store: PatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may take the memory between the question and the copy."""

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("harness.device_patches._moved", full)
    assert fitting(store, INDICES, CPU, free=lambda device: 10**9) is None


def test_a_cpu_keeps_no_copy() -> None:
    """Its free memory is not asked for, so nothing fits."""
    assert free_bytes(CPU) is None


def test_policies_that_are_no_matrix_stay_on_the_host(store: PatchStore) -> None:
    """Histology's colours, the paper's two interpolations, and whatever a person's own file does."""
    own = ImportedPart(target="own:augment", name="own")
    found = {str(policy): moves_on_device(policy) for policy in ("paper", "paper_one_warp", "histology", "none", own)}
    assert [policy for policy, there in found.items() if there] == ["paper_one_warp", "none"]
    with pytest.raises(ValueError, match="histology is done on the host"):
        both(store, augment="histology")


def test_patches_of_others_are_refused(store: PatchStore) -> None:
    """Batches of other indices than those that were moved would be other patches."""
    spec = TrainSpec(augment="none")
    there = DevicePatches(store, INDICES, CPU)
    with pytest.raises(ValueError, match="not the patches"):
        next(there.batches(store, INDICES[::-1], spec=spec, table=TABLE, labels=LABELS, seed=3, epoch=1))


def test_pieces_of_any_size_make_the_same_copy(store: PatchStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven patches at a time, one at a time: the store's bytes."""
    for piece_bytes in (7 * PX * PX * 3, 1):
        monkeypatch.setattr("harness.device_patches.PIECE_BYTES", piece_bytes)
        there = DevicePatches(store, INDICES, CPU)
        assert there._images_NHWC.numpy().tobytes() == store.images_NHWC[INDICES].tobytes()
        assert there._masks_NHW.numpy().tobytes() == store.masks_NHW[INDICES].tobytes()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_epoch_on_them_is_the_epoch_on_the_hosts_batches(root: Path, accumulate: int) -> None:
    """Without moves: the same loss and the same scores to the last bit, whole batches or parts."""
    spec = toy_spec(root, augment="none", accumulate=accumulate)
    data = data_of(spec)

    def pass_over(on_device: DevicePatches | None) -> Trained:
        model = tiny_net(spec).to(memory_format=torch.channels_last)
        loss = build_loss(spec.train.loss_terms, classes=spec.classes, class_weights=None, undefined="ignore")
        torch.manual_seed(1)
        return train_epoch(
            spec, data.training, data.training_indices, model, loss, build_optimizer(model, spec.train),
            epoch=1, device=CPU, poll=lambda: None, on_device=on_device,
        )  # fmt: skip

    torch.set_num_threads(1)
    here, there = pass_over(None), pass_over(DevicePatches(data.training, data.training_indices, CPU))
    assert (here.loss, here.paper) == (there.loss, there.paper)


def test_training_on_them_is_training_on_the_hosts_batches(root: Path, tmp_path: Path) -> None:
    """Two epochs of one warp: a grey level in 1,000 values moves the loss by less than 1 %."""
    torch.set_num_threads(1)
    spec = toy_spec(root, epochs=2, augment="paper_one_warp")
    data = data_of(spec)
    on_device = DevicePatches(data.training, data.training_indices, CPU)
    here, there = (trained(spec, tmp_path / "c.pt", on_device=one).progress.history for one in (None, on_device))
    for epoch, epoch_there in zip(here, there, strict=True):
        assert epoch_there["train/loss"] == pytest.approx(epoch["train/loss"], rel=0.01)
