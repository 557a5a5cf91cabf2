"""Row 4: from the store, or from PNG files, to augmented batches of 256 px as float32."""

from __future__ import annotations

import multiprocessing
import time
from functools import cache, partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from filelock import FileLock

from benchmarks.bench.results import FOLDER
from benchmarks.bench.row import Comparison, Figures, Row, Side
from harness.config.labels import BUILTIN
from harness.config.spec import Cut, TrainSpec
from harness.data.batches import training_batches
from harness.data.cohort import read_cohort
from harness.data.patches import PatchStore, open_store
from harness.data.phantom import Phantom, synthesize
from harness.data.targets import target_table

PX, BATCH, CORES = 256, 32, 2
DATA = FOLDER / "04_fetch"
LABELS = BUILTIN["unicorn3"]
TABLE = target_table(LABELS, "ignore")


@cache
def prepared() -> PatchStore:
    """The store, and in DATA/png its patches as pairs of PNG files; made once for all sides and repeats."""
    DATA.mkdir(parents=True, exist_ok=True)
    with FileLock(DATA / "lock"):
        if not (DATA / "phantom").is_dir():
            synthesize(DATA / "phantom", Phantom(patients=8, roi_px=1100, tiny_share=0.0))
        cut = Cut(patch_px=PX, input_px=PX, stride=PX)
        store = open_store(DATA / "stores", read_cohort(DATA / "phantom"), cut, data_hash="row 4")
        if not (DATA / "png" / "whole").exists():
            _write_png(store, DATA / "png")
    return store


def _write_png(store: PatchStore, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for number, (image_HWC, mask_HW) in enumerate(zip(store.images_NHWC, store.masks_NHW, strict=True)):
        cv2.imwrite(str(folder / f"{number:05}_image.png"), np.ascontiguousarray(image_HWC[..., ::-1]))
        cv2.imwrite(str(folder / f"{number:05}_mask.png"), TABLE[mask_HW])
    (folder / "whole").touch()


def ours(augment: str, seconds: float = 4.0, barrier: Barrier | None = None) -> Figures:
    """Whole epochs on one core, for at least so long; the first one warms up."""
    store = prepared()
    cv2.setNumThreads(1)
    spec = TrainSpec.model_validate({"augment": augment, "batch_size": BATCH})

    def an_epoch(epoch: int) -> int:
        drawn = training_batches(
            store, np.arange(len(store)), spec=spec, table=TABLE, labels=LABELS, seed=1, epoch=epoch
        )  # fmt: skip
        return sum(len(images_NCHW) for images_NCHW, _ in drawn)

    an_epoch(1)
    if barrier is not None:
        barrier.wait()
    began, cpu, patches, epoch = time.perf_counter(), _cpu_seconds(), 0, 1
    while time.perf_counter() - began < seconds:
        epoch += 1
        patches += an_epoch(epoch)
    return _rates(patches, time.perf_counter() - began, _cpu_seconds() - cpu)


def ours_on_two_cores() -> Figures:
    """Two trials, each in its own process on a core of its own: the sum of what both are given in the same seconds."""
    prepared()
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(CORES), context.Queue()
    workers = [context.Process(target=_one_of_two, args=(barrier, answers)) for _ in range(CORES)]
    for worker in workers:
        worker.start()
    both = [answers.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
    cpu_ms = sum(one["cpu_ms_per_patch"] for one in both) / CORES
    return {"patches_per_second": sum(one["patches_per_second"] for one in both), "cpu_ms_per_patch": cpu_ms}


def _one_of_two(barrier: Barrier, answers: Any) -> None:
    answers.put(ours("paper_one_warp", barrier=barrier))


class PngPatches:
    """A torch data set as PyTorch's and albumentations' pages write it: read, augment, to a tensor."""

    def __init__(self, folder: Path) -> None:
        import albumentations as A  # noqa: N812  # so in its own documentation
        from albumentations.pytorch import ToTensorV2

        self.images, self.masks = sorted(folder.glob("*_image.png")), sorted(folder.glob("*_mask.png"))
        reflect: dict[str, Any] = {"border_mode": cv2.BORDER_REFLECT, "p": 0.5}
        self.augment = A.Compose(
            [
                A.Rotate(limit=45, **reflect),
                A.ShiftScaleRotate(shift_limit=0.5, scale_limit=0.15, rotate_limit=0, **reflect),
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.5),
                ToTensorV2(),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        image_HWC: Any = cv2.imread(str(self.images[number]))
        image_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB)
        target_HW = cv2.imread(str(self.masks[number]), cv2.IMREAD_UNCHANGED)
        both = self.augment(image=image_HWC, mask=target_HW)
        return both["image"].float().div(255), both["mask"].long()


def data_loader(epochs: int = 3) -> Figures:
    """A DataLoader with a worker per core, kept between epochs; the first epoch starts and warms them, uncounted."""
    from torch.utils.data import DataLoader

    prepared()
    patches: Any = PngPatches(DATA / "png")
    # One OpenCV thread in each worker: with its own two, four threads would share two cores.
    loader: Any = DataLoader(
        patches, batch_size=BATCH, shuffle=True, num_workers=CORES, persistent_workers=True,
        worker_init_fn=_one_thread,
    )  # fmt: skip
    for _ in loader:
        pass
    began, cpu = time.perf_counter(), _cpu_seconds()
    drawn = sum(len(images) for _ in range(epochs) for images, _ in loader)
    return _rates(drawn, time.perf_counter() - began, _cpu_seconds() - cpu)


def _rates(patches: int, seconds: float, cpu_seconds: float) -> dict[str, float]:
    """The second figure is what other work on the machine changes least."""
    return {"patches_per_second": patches / seconds, "cpu_ms_per_patch": 1e3 * cpu_seconds / patches}


def _cpu_seconds() -> float:
    """Of this process and its workers."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children())]
    return sum(one.user + one.system for one in times)


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(1)


ROW = Row(
    number=4,
    work="fetch and the paper's augmentation, 256 px: patches a second",
    sides=(
        Side("ours", partial(ours, "paper_one_warp")),
        Side("DataLoader", data_loader),
        Side("ours, two workers", ours_on_two_cores),
        Side("ours, albumentations policy", partial(ours, "paper")),
        Side("fetch alone", partial(ours, "none")),
    ),
    comparisons=(
        # One core of ours against both of the DataLoader's; both against both, two trials; and what is left out.
        Comparison("ours", "DataLoader", goal=5, better="more"),
        Comparison("ours", "DataLoader", "cpu_ms_per_patch"),
        Comparison("ours, two workers", "DataLoader", goal=5, better="more"),
        Comparison("ours, albumentations policy", "DataLoader", better="more"),
        Comparison("fetch alone", "DataLoader", better="more"),
    ),
)
