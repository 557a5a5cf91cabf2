"""Row 3: training throughput on CPUs: U-Net over EfficientNet-B0, 64 px, batch 8, the paper's augmentation, Adam.

`plain` is the loop by hand, tuned: patches in memory, nothing read while it trains, channels last, inference mode,
one confusion matrix, the best weights saved; "that a kill does not undo" saves weights and optimizer after every epoch,
aside, fsynced and renamed. Ours is `fit()` as a trial runs it, with its events and its checkpoint after every epoch.
Both train the same network on the same patches; a rate counts training patches over whole epochs with validation.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from queue import Queue
from typing import Any

import cv2
import numpy as np
from filelock import FileLock

from benchmarks.bench.loops import ENCODER, LABELS, Clock, Confusion, on_phantom, paper_moves, trial
from benchmarks.bench.results import FOLDER
from benchmarks.bench.row import Comparison, Figures, Row, Side
from harness.config.spec import Cut, TrainSpec, TrialSpec
from harness.data.phantom import Phantom
from harness.data.targets import target_table
from harness.files import written_aside
from harness.train import TrialData

PX, BATCH, TRAINING_PATCHES = 64, 8, 256
EPOCHS = 3  # the first one warms up
DATA = FOLDER / "03_training"


def prepared() -> tuple[TrialSpec, TrialData]:
    """The trial and its patches, which are cut once for all sides and repeats; one of six patients validates."""
    train = TrainSpec(epochs=EPOCHS, batch_size=BATCH, loss="cross_entropy", augment="paper", stop_patience=None)
    DATA.mkdir(parents=True, exist_ok=True)
    with FileLock(DATA / "lock"):
        phantom = Phantom(patients=6, roi_px=256, tiny_share=0.0)
        cut = Cut(patch_px=PX, input_px=PX, stride=PX)
        spec, data = on_phantom(DATA, phantom, row="row 3", cut=cut, train=train)
    some = data.training_indices[:TRAINING_PATCHES]
    return spec, TrialData(data.training, some, data.validation, data.validation_indices, data.scheme)


def ours(barrier: Barrier | None = None) -> Figures:
    """A trial's training on one thread."""
    import torch

    spec, data = prepared()
    clock = Clock(barrier)
    trial(spec, data, torch.device("cpu"), clock)
    return figures(clock, len(data.training_indices))


def two_of_ours() -> Figures:
    """Two trials at the same time, each in a process of its own: the sum of their rates."""
    prepared()
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_one_of_two, args=(barrier, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return {name: sum(one[name] for one in found) for name in found[0]}


def _one_of_two(barrier: Barrier, answers: Queue[Figures]) -> None:
    answers.put(ours(barrier))


def plain(threads: int, *, kill_safe: bool = False) -> Figures:
    """The loop by hand."""
    import segmentation_models_pytorch as smp
    import torch

    spec, data = prepared()
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    random.seed(1)
    torch.manual_seed(1)
    table, classes = target_table(LABELS, "ignore"), len(LABELS.class_names)
    images, masks = (np.array(array[data.training_indices]) for array in _arrays(data.training, table))
    held_images, held_masks = (
        torch.tensor(array[data.validation_indices]) for array in _arrays(data.validation, table)
    )
    held_masks = held_masks.long()
    augment = paper_moves()
    model = smp.Unet(ENCODER, encoder_weights=None, classes=classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.train.learning_rate)
    loss_of = torch.nn.CrossEntropyLoss(ignore_index=255)

    def as_input(some: Any) -> Any:
        # Stays channels last, which is 1.4 times faster here.
        return some.permute(0, 3, 1, 2).float().div_(255)

    def validated() -> float:
        model.eval()
        confusion = Confusion(classes)
        with torch.inference_mode():
            for start in range(0, len(held_images), BATCH):
                truth = held_masks[start : start + BATCH]
                logits = model(as_input(held_images[start : start + BATCH]))
                loss_of(logits, truth)
                confusion.add(logits, truth)
        return confusion.iou()

    best, clock = -1.0, Clock()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(EPOCHS):
            model.train()
            order = torch.randperm(len(images)).numpy()
            for start in range(0, len(order), BATCH):
                both = [augment(image=images[i], mask=masks[i]) for i in order[start : start + BATCH]]
                inputs = as_input(torch.from_numpy(np.stack([pair["image"] for pair in both])))
                truth = torch.from_numpy(np.stack([pair["mask"] for pair in both])).long()
                optimizer.zero_grad(set_to_none=True)
                loss_of(model(inputs), truth).backward()
                optimizer.step()
            score = validated()
            if score > best:
                best = score
                torch.save(model.state_dict(), Path(folder) / "best.pt")
            if kill_safe:
                with written_aside(Path(folder) / "last.pt") as aside:
                    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, aside)
            clock.epoch()
    return figures(clock, len(images))


def _arrays(store: Any, table: Any) -> tuple[Any, Any]:
    return store.images_NHWC, table[store.masks_NHW]


def figures(clock: Clock, patches: int) -> Figures:
    """Per wall second, and per second of CPU time (which other work on the machine disturbs less)."""
    done = patches * clock.timed_epochs
    return {"patches_per_second": done / clock.seconds, "patches_per_cpu_second": done / clock.cpu_seconds}


ONE, TWO = "ours, one process", "ours, two trials on two cores"
PLAIN, PLAIN_2 = "plain loop, one thread", "plain loop, two threads"
SAFE = "plain loop, one thread, that a kill does not undo"
ROW = Row(
    number=3,
    work="training with validation: U-Net/EfficientNet-B0, 64 px, batch 8",
    better="more",
    sides=(
        Side(ONE, ours),
        Side(PLAIN, partial(plain, 1)),
        Side(SAFE, partial(plain, 1, kill_safe=True)),
        Side(TWO, two_of_ours),
        Side(PLAIN_2, partial(plain, 2)),
    ),
    comparisons=(
        Comparison(ONE, PLAIN, "patches_per_second", 1.0, "more"),
        Comparison(ONE, SAFE, "patches_per_second", better="more"),
        Comparison(TWO, PLAIN_2, "patches_per_second", 1.3, "more"),
        Comparison(ONE, PLAIN, "patches_per_cpu_second", 1.0, "more"),
    ),
)
