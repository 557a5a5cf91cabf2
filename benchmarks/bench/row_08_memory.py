"""Row 8: eight concurrent trials on one data set, against eight loops that each hold their patches.

`copies`: memory of patches, summed over the eight processes, in sizes of one set of patches. Ours is the PSS of the
maps of the store's files (a page that eight processes map is an eighth in each) over the size of those files; a loop's
is what its private memory grew by when it had read its patches, over their bytes. `patches_gb` is the same memory in
bytes: a store also has the regions' masks, of which training reads none. `memory_gb` is the PSS of the eight
processes, whatever it holds: a copy that the others do not see would be in this one. All are taken when all eight have
gone over all their patches at least once. The network costs nothing, since this is about patches.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.bench.row import Comparison, Figures, Row, Side

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

TRIALS = 8
REGIONS, REGION_PX, PATCH_PX, BATCH = 30, 1536, 256, 8  # 1080 patches: 283 MB of images and masks
CLASSES = {"tumor": (1, 3), "stroma": (2, 6), "rest": (4, 5, 7)}
SPACE = f"""name: memory
seed: 3
data: {{root: regions, split: {{by: patient, validation: 0.3, seed: 1}}}}
labels: {{three: {{{", ".join(f"{name}: {list(ids)}" for name, ids in CLASSES.items())}}}}}
parameters:
  architecture: {{value: {{import: coarse:build, name: coarse}}}}
  patch_px: {{value: {PATCH_PX}}}
  remainder: {{value: shift}}  # as validation is cut, so that there is one store
  learning_rate: {{values: [1e-5, 2e-5, 4e-5, 8e-5, 1e-4, 2e-4, 4e-4, 8e-4]}}
train: {{epochs: 100000, batch_size: {BATCH}, stop_patience: null, augment: none}}
method: grid
budget: {{trials: {TRIALS}}}
export: none
"""


def ours() -> Figures:
    """Eight workers of one sweep."""
    with _folder() as folder:
        (folder / "memory.yaml").write_text(SPACE, encoding="utf-8")
        shutil.copy(Path(__file__).with_name("coarse.py"), folder)
        command = [sys.executable, "-m", "harness.cli", "sweep", "memory.yaml", "--home", "home", "--device", "cpu"]
        sweep = subprocess.Popen([*command, "--workers", str(TRIALS)], cwd=folder)
        try:
            workers = _training(sweep, folder / "home" / "sweeps" / "memory" / "g1" / "trials")
            maps = [store_pss_bytes(pid, folder / "home" / "stores") for pid in workers]
            memory = [rollup_bytes(pid, "Pss") for pid in workers]
        finally:
            sweep.send_signal(signal.SIGINT)
            sweep.wait()
        size = sum(file.stat().st_size for file in (folder / "home" / "stores").rglob("*.npy"))
    return {"copies": sum(maps) / size, "patches_gb": sum(maps) / 1e9, "memory_gb": sum(memory) / 1e9}


def plain() -> Figures:
    """Eight processes of a loop as one writes it."""
    context = multiprocessing.get_context("spawn")
    with _folder() as folder:
        pipes: list[Connection] = []
        processes = []
        for _ in range(TRIALS):
            mine, theirs = context.Pipe()
            process = context.Process(target=_loop, args=(theirs, folder / "regions"), daemon=True)
            process.start()
            pipes.append(mine)
            processes.append(process)
        said = [pipe.recv() for pipe in pipes]
        memory = [rollup_bytes(process.pid or 0, "Pss") for process in processes]
        for process in processes:
            process.kill()
            process.join()
    held, patches = sum(grown for grown, _ in said), said[0][1]
    return {"copies": held / patches, "patches_gb": held / 1e9, "memory_gb": sum(memory) / 1e9}


def store_pss_bytes(pid: int, stores: Path) -> int:
    """A process's share of the maps of files below `stores`, by /proc/PID/smaps."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split(maxsplit=5)
        if not words[0].endswith(":"):  # address, permissions, offset, device, inode, path
            inside = len(words) == 6 and Path(words[5]).is_relative_to(stores)
        elif inside and words[0] == "Pss:":
            total += int(words[1]) * 1024
    return total


def rollup_bytes(pid: int, *fields: str) -> int:
    """The sum of these fields over all of a process's memory, by /proc/PID/smaps_rollup."""
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return sum(int(words[1]) * 1024 for words in lines if words[0].rstrip(":") in fields)


def _training(sweep: subprocess.Popen[bytes], trials: Path) -> list[int]:
    """The workers, once each has ended an epoch."""
    while True:
        files = list(trials.glob("*/attempts/1/events.jsonl"))
        events = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
        pids = {event["pid"] for of in events if any(one["event"] == "epoch" for one in of)
                for event in of if event["event"] == "started"}  # fmt: skip
        if len(pids) == TRIALS:
            return sorted(pids)
        if sweep.poll() is not None:
            raise RuntimeError(f"the sweep ended with {sweep.returncode} before {TRIALS} trials ran at a time")
        time.sleep(0.5)


def _loop(pipe: Connection, regions: Path) -> None:
    """Read all patches, go over them once (.7 train), say (private memory grown by, bytes of patches); then wait."""
    import numpy as np
    import torch
    from PIL import Image

    from benchmarks.bench.coarse import build

    torch.set_num_threads(1)
    model = build(len(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    criterion = torch.nn.CrossEntropyLoss(ignore_index=255)
    to_class = np.full(256, 255, np.uint8)
    for index, ids in enumerate(CLASSES.values()):
        to_class[list(ids)] = index

    def step(images: list[Pixels], masks: list[Pixels], *, train: bool = True) -> None:
        images_NCHW = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        with torch.set_grad_enabled(train):
            loss = criterion(model(images_NCHW), torch.from_numpy(np.stack(masks).astype(np.int64)))
        if train:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    some = np.zeros((PATCH_PX, PATCH_PX, 3), np.uint8)
    step([some] * BATCH, [some[..., 0]] * BATCH)  # what the first step allocates is not the patches'
    before = rollup_bytes(os.getpid(), "Private_Clean", "Private_Dirty")
    images: list[Pixels] = []
    masks: list[Pixels] = []
    corners = [(y, x) for y in range(0, REGION_PX, PATCH_PX) for x in range(0, REGION_PX, PATCH_PX)]
    for file in sorted(regions.rglob("images/*.png")):
        image = np.asarray(Image.open(file))
        mask = to_class[np.asarray(Image.open(file.parents[1] / "masks" / file.name))]
        images += [image[y : y + PATCH_PX, x : x + PATCH_PX] for y, x in corners]
        masks += [mask[y : y + PATCH_PX, x : x + PATCH_PX] for y, x in corners]
    grown = rollup_bytes(os.getpid(), "Private_Clean", "Private_Dirty") - before
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        step([images[i] for i in batch], [masks[i] for i in batch], train=start < 0.7 * len(order))
    pipe.send((grown, sum(image.nbytes + mask.nbytes for image, mask in zip(images, masks, strict=True))))
    pipe.recv()


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder with the regions."""
    if not psutil.LINUX:
        raise OSError("only Linux says how memory is shared (/proc/PID/smaps)")
    with tempfile.TemporaryDirectory(prefix="memory-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        _write_regions(folder / "regions")
        yield folder


def _write_regions(root: Path) -> None:
    """One region a patient, of random blocks of 32 px."""
    import cv2
    import numpy as np

    base = root / "wsirois" / "roi-level-annotations" / "tissue-bcss"
    for kind in ("images", "masks"):
        (base / kind).mkdir(parents=True)
    for number in range(REGIONS):
        rng = np.random.default_rng(number)
        mask = np.kron(rng.integers(1, 8, (REGION_PX // 32,) * 2, np.uint8), np.ones((32, 32), np.uint8))
        image = rng.integers(0, 40, (*mask.shape, 3), np.uint8) + 25 * mask[..., None]
        name = f"TCGA-ZB-{number:04d}-01Z-00-DX1_[0, 0, {REGION_PX}, {REGION_PX}].png"
        fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
        (base / "images" / name).write_bytes(cv2.imencode(".png", image, fast)[1].tobytes())
        (base / "masks" / name).write_bytes(cv2.imencode(".png", mask, fast)[1].tobytes())


ROW = Row(
    number=8,
    work=f"memory of {TRIALS} concurrent trials, one data set (283 MB of patches)",
    sides=(Side("ours", ours), Side("8 plain loops", plain)),
    comparisons=(
        Comparison("ours", None, "copies", goal=1.05),
        Comparison("ours", "8 plain loops", "patches_gb"),
        Comparison("ours", "8 plain loops", "memory_gb"),
    ),
    timeout_s=1200,
)
