"""Row 9: training throughput on a CUDA device: U-Net over EfficientNet-B0, 256 px, batch 32, three classes, Dice, Adam.

`smp example as written` does what segmentation_models_pytorch's notebooks of pets and CamVid do: PNG files read and
augmented by a DataLoader with a worker per core, fp32, `get_stats` of every batch. The tuned loops are by hand: patches
in memory, bytes through pinned memory, channels last, cuDNN's benchmark, fused Adam, nothing read while they train;
without TF32, and with bf16. Ours is `fit()` as a trial runs it, in bf16, with one warp, events and checkpoints.

All train on the same patches with the paper's moves and validate after every epoch on the same others. The rate counts
training patches over whole epochs with validation; the first epoch warms up.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from filelock import FileLock

from benchmarks.bench.loops import ENCODER, LABELS, Clock, Confusion, on_phantom, paper_moves, trial
from benchmarks.bench.results import FOLDER
from benchmarks.bench.row import Comparison, Figures, Row, Side
from harness.config.labels import IGNORE
from harness.config.spec import Cut, TrainSpec, TrialSpec
from harness.data.batches import IMAGENET_MEAN, IMAGENET_STD
from harness.data.phantom import Phantom
from harness.data.targets import target_table
from harness.execute.devices import cpu_cores, nvidia_devices

if TYPE_CHECKING:  # these load torch
    import torch

    from harness.train import TrialData

CLASSES, TABLE = len(LABELS.class_names), target_table(LABELS, "ignore")
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class Sizes:
    """How much work it is, and where its patches are kept."""

    px: int = 256
    batch: int = 32
    patches: int = 4096  # to train on, at most
    epochs: int = 4  # the first one warms up
    patients: int = 10  # one of them validates
    roi_px: int = 1100
    workers: int | None = None  # of a DataLoader; None: what each side says
    folder: Path = FOLDER / "09_gpu"


def prepared(sizes: Sizes) -> tuple[TrialSpec, TrialData]:
    """The trial and its patches, cut once for all sides and repeats, and written as PNG files, too."""
    train = TrainSpec(
        epochs=sizes.epochs, batch_size=sizes.batch, learning_rate=LEARNING_RATE, loss="dice",
        augment="paper_one_warp", precision="bf16", schedule="constant", stop_patience=None,
    )  # fmt: skip
    sizes.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(sizes.folder / "lock"):
        phantom = Phantom(patients=sizes.patients, roi_px=sizes.roi_px, tiny_share=0.0)
        cut = Cut(patch_px=sizes.px, input_px=sizes.px, stride=sizes.px // 4)
        spec, data = on_phantom(sizes.folder, phantom, row="row 9", cut=cut, train=train)
        data = replace(data, training_indices=data.training_indices[: sizes.patches])
        for role, pairs in zip(("train", "valid"), arrays(data), strict=True):
            _write_png(sizes.folder / "png" / role, *pairs)
    return spec, data


def arrays(data: TrialData) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """(images_NHWC, targets_NHW) uint8 of the training patches, and of the validation patches, in memory."""
    train, valid = data.training_indices, data.validation_indices
    return (
        (data.training.images_NHWC[train], TABLE[data.training.masks_NHW[train]]),
        (data.validation.images_NHWC[valid], TABLE[data.validation.masks_NHW[valid]]),
    )


def _write_png(folder: Path, images_NHWC: Any, targets_NHW: Any) -> None:
    whole = folder / "whole"
    if whole.exists():
        return
    for kind, pixels in (("images", images_NHWC[..., ::-1]), ("masks", targets_NHW)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(pixels):
            cv2.imwrite(str(folder / kind / f"{number:05}.png"), np.ascontiguousarray(one))
    whole.touch()


def ours(device: torch.device, sizes: Sizes) -> Figures:
    """A trial's training."""
    spec, data = prepared(sizes)
    clock = Clock(device=device)
    trial(spec, data, device, clock)
    return _figures(clock, len(data.training_indices) * clock.timed_epochs)


class PngFiles:
    """The example's data set: read, augment, channels first; bytes."""

    def __init__(self, folder: Path, augmentation: Any = None) -> None:
        self.images, self.masks = sorted((folder / "images").iterdir()), sorted((folder / "masks").iterdir())
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        image: Any = cv2.cvtColor(cv2.imread(str(self.images[number])), cv2.COLOR_BGR2RGB)
        mask: Any = cv2.imread(str(self.masks[number]), 0)
        if self.augmentation is not None:
            both = self.augmentation(image=image, mask=mask)
            image, mask = both["image"], both["mask"]
        return image.transpose(2, 0, 1), mask


def smp_example(device: torch.device, sizes: Sizes) -> Figures:
    """The notebooks' step: normalise, Dice from logits, softmax, argmax, true and false positives and negatives."""
    import segmentation_models_pytorch as smp
    import torch
    from torch.utils.data import DataLoader

    prepared(sizes)
    n_cpu = os.cpu_count() if sizes.workers is None else sizes.workers
    train, valid = (PngFiles(sizes.folder / "png" / role, moves)
                    for role, moves in (("train", paper_moves()), ("valid", None)))  # fmt: skip
    train_loader: Any = DataLoader(train, batch_size=sizes.batch, shuffle=True, num_workers=n_cpu)  # type: ignore[arg-type]
    valid_loader: Any = DataLoader(valid, batch_size=sizes.batch, shuffle=False, num_workers=n_cpu)  # type: ignore[arg-type]
    model = smp.Unet(ENCODER, encoder_weights=None, classes=CLASSES).to(device)
    # `get_preprocessing_params`, without its question to the hub.
    mean, std = (torch.tensor(one).view(1, 3, 1, 1).to(device) for one in (IMAGENET_MEAN, IMAGENET_STD))
    loss_of = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True, ignore_index=IGNORE)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def step(batch: Any) -> tuple[Any, Any]:
        images, masks = batch[0].to(device), batch[1].to(device).long()
        logits = model((images - mean) / std).contiguous()
        classes = logits.softmax(dim=1).argmax(dim=1)
        stats = smp.metrics.get_stats(classes, masks, mode="multiclass", ignore_index=IGNORE, num_classes=CLASSES)
        return loss_of(logits, masks), stats

    clock, seen = Clock(device=device), _Seen()
    for _ in range(sizes.epochs):
        outputs = []
        model.train()
        for batch in train_loader:
            optimizer.zero_grad()
            loss, stats = step(batch)
            loss.backward()
            optimizer.step()
            outputs.append(stats)
            seen.batch(len(batch[0]))
        _ious(outputs)
        model.eval()
        with torch.no_grad():
            _ious([step(batch)[1] for batch in valid_loader])
        clock.epoch()
        seen.epoch()
    return _figures(clock, seen.timed)


def _ious(outputs: list[Any]) -> list[float]:
    """The example's two scores of an epoch: by image, and of the whole set."""
    import segmentation_models_pytorch as smp
    import torch

    stats = [torch.cat(parts) for parts in zip(*outputs, strict=True)]
    return [float(smp.metrics.iou_score(*stats, reduction=how)) for how in ("micro-imagewise", "micro")]


class InMemory:
    """Patches in memory: augment, and hand on as bytes."""

    def __init__(self, images_NHWC: Any, targets_NHW: Any) -> None:
        self.images, self.targets, self.moves = images_NHWC, targets_NHW, paper_moves()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        both = self.moves(image=self.images[number], mask=self.targets[number])
        return both["image"], both["mask"]


def tuned(bf16: bool, device: torch.device, sizes: Sizes) -> Figures:
    """The loop by hand."""
    import torch

    _, data = prepared(sizes)
    # TF32 would be neither fp32 nor bf16; products of matrices are without it unless told otherwise.
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=False):
        return _tuned(torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16), data, device, sizes)


def _tuned(precision: Any, data: TrialData, device: torch.device, sizes: Sizes) -> Figures:
    import segmentation_models_pytorch as smp
    import torch
    from torch.utils.data import DataLoader

    (images, targets), held = arrays(data)
    workers = cpu_cores() if sizes.workers is None else sizes.workers
    loader: Any = DataLoader(
        InMemory(images, targets), batch_size=sizes.batch, shuffle=True, num_workers=workers,  # type: ignore[arg-type]
        persistent_workers=workers > 0, pin_memory=device.type == "cuda", worker_init_fn=_one_thread,
    )  # fmt: skip
    model = smp.Unet(ENCODER, encoder_weights=None, classes=CLASSES).to(device, memory_format=torch.channels_last)
    loss_of = smp.losses.DiceLoss(smp.losses.MULTICLASS_MODE, from_logits=True, ignore_index=IGNORE)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    held_images, held_targets = (torch.from_numpy(one).to(device) for one in held)

    def logits_of(images_NHWC: Any) -> Any:
        with precision:  # of an image whose channels are last already
            return model(images_NHWC.permute(0, 3, 1, 2).float().div_(255)).float()

    def validated() -> float:
        confusion = Confusion(CLASSES)
        model.eval()
        with torch.inference_mode():
            for some, truth in zip(held_images.split(sizes.batch), held_targets.split(sizes.batch), strict=True):
                confusion.add(logits_of(some), truth.long())
        return confusion.iou()

    clock, seen, best = Clock(device=device), _Seen(), -1.0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(sizes.epochs):
            model.train()
            for some, truth in loader:
                optimizer.zero_grad(set_to_none=True)
                logits = logits_of(some.to(device, non_blocking=True))
                loss_of(logits, truth.to(device, non_blocking=True).long()).backward()
                optimizer.step()
                seen.batch(len(some))
            score = validated()
            if score > best:
                best = score
                torch.save(model.state_dict(), Path(folder) / "best.pt")
            clock.epoch()
            seen.epoch()
    return _figures(clock, seen.timed)


class _Seen:
    """Patches that a loop was given: of all epochs but the first."""

    def __init__(self) -> None:
        self._all, self._first = 0, 0

    def batch(self, patches: int) -> None:
        """So many more."""
        self._all += patches

    def epoch(self) -> None:
        """An epoch is over."""
        self._first = self._first or self._all

    @property
    def timed(self) -> int:
        return self._all - self._first


def _figures(clock: Clock, images: int) -> Figures:
    return {"images_per_s": images / clock.seconds, "images": float(images)}


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(1)


def unmeasured() -> str | None:
    """Why it cannot be measured here, asked as the controller asks: where no driver is, torch is not imported."""
    if nvidia_devices():
        import torch

        if torch.cuda.is_available():
            return None
    return "needs a CUDA device"


SIDES: dict[str, Callable[[torch.device, Sizes], Figures]] = {
    "ours": ours,
    "smp example as written": smp_example,
    "tuned fp32 loop": partial(tuned, False),
    "tuned bf16 loop": partial(tuned, True),
}


def _measured(name: str) -> Figures:
    import torch

    return SIDES[name](torch.device("cuda:0"), Sizes())


ROW = Row(
    number=9,
    work="training throughput on a CUDA device: 256 px, batch 32, H100 class",
    sides=tuple(Side(name, partial(_measured, name)) for name in SIDES),
    comparisons=(
        Comparison("ours", "smp example as written", "images_per_s", goal=10, better="more"),
        Comparison("ours", "tuned fp32 loop", "images_per_s", goal=3, better="more"),
        Comparison("ours", "tuned bf16 loop", "images_per_s", goal=1.4, better="more"),
    ),
    unmeasured=unmeasured(),
)
