"""What the sides of row 1 share: the question, and training as one writes it by hand.

The loop by hand has patches as arrays in memory (cut before the clock starts), networks and their running mean by the
same code as ours, and the two threads that torch takes on two cores by itself. It scores the exact IoU of pooled pixels
at its best epoch, as ours does, but at the network's pixels. It writes nothing but what its side asks for.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from benchmarks.bench.results import FOLDER

if TYPE_CHECKING:
    from harness.config.spec import TrialSpec

HERE = Path(__file__).resolve().parents[1]
SPACE = HERE / "answer.yaml"
DATA = FOLDER / "01_answer_27"
FRESH_SEEDS = (101, 102, 103)
EPOCHS = 27

Cell = dict[str, Any]
OnEpoch = Callable[[int, float], None]


def repeat() -> int:
    """Which repeat this is; the sides of a repeat share its training seed."""
    return int(os.environ.get("BENCH_REPEAT", "0"))


def regions() -> Path:
    """The folder of regions, painted once for all sides and repeats."""
    from harness.data.phantom import Phantom, synthesize

    root = DATA / "regions"
    DATA.mkdir(parents=True, exist_ok=True)
    with FileLock(DATA / "lock"):
        if not root.is_dir():
            synthesize(root, Phantom(patients=4, roi_px=256, tiny_share=0.0, seed=7))
    return root


def specs(seed: int) -> list[tuple[Cell, TrialSpec]]:
    """Every cell and what it trains."""
    from harness.config.cells import combinations, resolve, strata_of
    from harness.config.load import load_space
    from harness.sweep.layout import Home
    from harness.sweep.prepare import prepare_data
    from harness.sweep.progress import Screen
    from harness.sweep.vocabulary import CHECKS

    space = load_space(SPACE, overrides=[("data.root", str(regions()))], checks=CHECKS)
    facts = prepare_data(space, Home(DATA / "home"), Screen()).facts
    cells = [cell for stratum in strata_of(space) for cell in combinations(space, stratum)]
    return [(cell, resolve(space, facts, cell, seed=seed)) for cell in cells]


def by_hand(spec: TrialSpec, seed: int, on_epoch: OnEpoch, *, threads: int = 2) -> float:
    """Train; the best IoU. `on_epoch` may end it by an exception."""
    import numpy as np
    import torch

    from harness.losses import build_loss
    from harness.models.build import build_model
    from harness.optimization import averaged_with

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    random.seed(seed)
    classes, images, masks, held_images, held_masks = arrays(spec)
    model = build_model(spec.model, classes=classes, input_px=spec.dataset.cut.input_px)
    loss_of = build_loss(spec.train.loss_terms, classes=classes, class_weights=None, undefined="ignore")
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.train.learning_rate)
    average = averaged_with(model, optimizer, spec.train)
    assert average is not None
    best, size = -1.0, spec.train.batch_size
    batches = -(-len(images) // size)
    for epoch in range(1, spec.train.epochs + 1):
        model.train()
        for some in np.array_split(np.random.default_rng([seed, epoch]).permutation(len(images)), batches):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(torch.from_numpy(images[some])), torch.from_numpy(masks[some]))
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
        average.eval()
        pairs = np.zeros(classes * classes, np.int64)
        with torch.inference_mode():
            for start in range(0, len(held_images), size):
                truth = held_masks[start : start + size]
                guess = average(torch.from_numpy(held_images[start : start + size])).argmax(1).numpy()
                known = truth != 255
                pairs += np.bincount(truth[known] * classes + guess[known], minlength=classes * classes)
        confusion = pairs.reshape(classes, classes)
        hits = np.diag(confusion)
        there = confusion.sum(1) > 0
        best = max(best, float((hits / np.maximum(confusion.sum(0) + confusion.sum(1) - hits, 1))[there].mean()))
        on_epoch(epoch, best)
    return best


def arrays(spec: TrialSpec) -> tuple[int, Any, Any, Any, Any]:
    """Classes; images (N, 3, H, W) float32 and masks (N, H, W) int64 to train on, and the same held out."""
    from harness.data.batches import normalized
    from harness.data.cohort import read_cohort
    from harness.data.targets import target_table
    from harness.trial.run import open_data

    data = open_data(spec, read_cohort(Path(spec.dataset.root)), DATA / "stores")
    table = target_table(spec.dataset.labels, "ignore")
    found: list[Any] = [spec.classes]
    for store, indices in ((data.training, data.training_indices), (data.validation, data.validation_indices)):
        found += [normalized(store.images_NHWC[indices], "unit"), table[store.masks_NHW[indices]].astype("int64")]
    return tuple(found)


def replicated(winner: Cell, train: Callable[[Cell, int], float]) -> list[float]:
    """The winner again with fresh seeds."""
    return [train(winner, seed) for seed in FRESH_SEEDS]


def write_answer(side: str, winner: Cell, scores: Sequence[float], grid: Sequence[tuple[Cell, float]] = ()) -> None:
    """Keep what a side answered, for `regrets`."""
    answer = {"winner": winner, "scores": list(scores), "grid": list(grid)}
    (DATA / f"{side}-{repeat()}.json").write_text(json.dumps(answer) + "\n", encoding="utf-8")
