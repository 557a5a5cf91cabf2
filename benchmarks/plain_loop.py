"""Is our training as good as a loop written by hand? The same spec and budget, both ways, over several seeds.

    python benchmarks/plain_loop.py --data phantom --seeds 1 2 3
    python benchmarks/plain_loop.py --data ../shared/data/bcss-tumor --validation TCGA-A2-A3XX \
        --labels '{"tumor": [1], "other": [2, 3, 4, 5, 6, 7]}' --epochs 6

`plain()` is what one would write without this package: PNG files, albumentations, a DataLoader, a torch loop over
an smp model, IoU by numpy. It imports nothing from `harness`. `ours()` runs a trial. Both hold out the same patients
and print the exact IoU and Dice, pooled over the held-out regions at their own pixels, of the best epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

Score = dict[str, float]
Curve = list[Score]  # one score per epoch


@dataclass(frozen=True)
class Task:
    """What both sides are given."""

    root: Path
    labels: dict[str, list[int]]
    validation: tuple[str, ...]  # patients held out
    patch_px: int
    epochs: int
    batch_size: int
    learning_rate: float
    loss: str
    encoder: str


def plain(task: Task, seed: int) -> Curve:
    """The loop by hand: no harness from here to its end."""
    import albumentations as A  # noqa: N812  # so in its own documentation
    import cv2
    import numpy as np
    import segmentation_models_pytorch as smp
    import torch
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    side, classes = task.patch_px, len(task.labels)
    to_class = np.full(256, 255, np.uint8)
    for index, ids in enumerate(task.labels.values()):
        to_class[ids] = index

    regions = []
    for folder in ("tissue-bcss", "tissue-cells"):
        base = task.root / "wsirois" / "roi-level-annotations" / folder
        for path in sorted((base / "images").iterdir()) if base.is_dir() else []:
            image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
            mask = to_class[cv2.imread(str(base / "masks" / path.name), cv2.IMREAD_UNCHANGED)]
            regions.append((patient_by_hand(path.name) in task.validation, image, mask))

    def corners(length: int) -> list[int]:
        regular = list(range(0, length - side + 1, side))
        return regular if regular[-1] + side == length else [*regular, length - side]

    def cut(pixels):  # type: ignore[no-untyped-def]
        height, width = pixels.shape[:2]
        return [(y, x, pixels[y : y + side, x : x + side]) for y in corners(height) for x in corners(width)]

    class Patches(Dataset):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.pairs = [
                (image, mask)
                for held_out, whole, truth in regions
                if not held_out
                for (_, _, image), (_, _, mask) in zip(cut(whole), cut(truth), strict=True)
            ]
            reflect = {"border_mode": cv2.BORDER_REFLECT}
            self.augment = A.Compose(
                [
                    A.Rotate(limit=45, p=0.5, **reflect),
                    A.ShiftScaleRotate(shift_limit=0.5, scale_limit=0.15, rotate_limit=0, p=0.5, **reflect),
                    A.HorizontalFlip(p=0.5),
                    A.VerticalFlip(p=0.5),
                ]
                # No `seed=`: 2.0.8 then gives every transform a generator of its own with the same seed, and the
                # four moves come together or not at all (untouched: 14 % of the patches instead of 6 %).
            )

        def __len__(self) -> int:
            return len(self.pairs)

        def __getitem__(self, i: int):  # type: ignore[no-untyped-def]
            image, mask = self.pairs[i]
            both = self.augment(image=image, mask=mask)
            return to_tensor(both["image"]), torch.from_numpy(both["mask"].astype(np.int64))

    def to_tensor(image):  # type: ignore[no-untyped-def]
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / 255)

    losses = {
        "cross_entropy": torch.nn.CrossEntropyLoss(ignore_index=255),
        "dice": smp.losses.DiceLoss("multiclass", ignore_index=255),
    }
    loss_of = losses[task.loss]
    loader = DataLoader(Patches(), batch_size=task.batch_size, shuffle=True)
    model = smp.Unet(task.encoder, encoder_weights=None, classes=classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=task.learning_rate)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", factor=0.1, patience=5)

    def validate() -> Score:
        confusion = np.zeros((classes, classes), np.int64)
        model.eval()
        for held_out, image, mask in regions:
            if not held_out:
                continue
            chances = np.zeros((classes, *mask.shape), np.float32)
            patches = cut(image)
            for start in range(0, len(patches), task.batch_size):
                some = patches[start : start + task.batch_size]
                with torch.no_grad():
                    softmax = model(torch.stack([to_tensor(p) for _, _, p in some])).softmax(1).numpy()
                for (y, x, _), chance in zip(some, softmax, strict=True):
                    chances[:, y : y + side, x : x + side] += chance
            predicted, known = chances.argmax(0), mask != 255
            np.add.at(confusion, (mask[known], predicted[known]), 1)
        hits, true, said = np.diag(confusion), confusion.sum(1), confusion.sum(0)
        there = true > 0
        return {
            "iou": float((hits / np.maximum(true + said - hits, 1))[there].mean()),
            "dice": float((2 * hits / np.maximum(true + said, 1))[there].mean()),
        }

    curve = []
    for _ in range(task.epochs):
        model.train()
        for images, masks in loader:
            optimizer.zero_grad()
            loss_of(model(images), masks).backward()
            optimizer.step()
        curve.append(validate())
        plateau.step(curve[-1]["iou"])
    return curve


def patient_by_hand(name: str) -> str:
    """TIGER's rule, written again."""
    radboud = re.search(r"_(P\d{6})_", name)
    brussels = re.match(r"(\d+)[BS]_", name)
    return radboud[1] if radboud else brussels[1] if brussels else name[:12]


def ours(task: Task, seed: int, home: Path) -> Curve:
    """The same as a trial."""
    from harness.config.labels import TIGER_IDS, LabelMap
    from harness.config.spec import Cut, DatasetVariant, ModelSpec, Split, TrainSpec, TrialSpec
    from harness.data.check import check_cohort
    from harness.data.cohort import read_cohort
    from harness.trial.folder import TrialFolder
    from harness.trial.run import run_trial

    rois = read_cohort(task.root)
    patients = {roi.patient for roi in rois}
    spec = TrialSpec(
        dataset=DatasetVariant(
            root=str(task.root),
            data_hash=check_cohort(rois, cache=home / "checked.json").data_hash,
            source_ids=TIGER_IDS,
            labels=LabelMap.model_validate({"name": "benchmark", "classes": task.labels}),
            cut=Cut(patch_px=task.patch_px, input_px=task.patch_px, stride=task.patch_px),
            split=Split(train=tuple(sorted(patients - set(task.validation))), validation=task.validation),
        ),
        model=ModelSpec(architecture="unet", encoder=task.encoder, encoder_weights="random"),
        train=TrainSpec(
            epochs=task.epochs,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            loss=task.loss,  # type: ignore[arg-type]
            stop_patience=None,
        ),
        seed=seed,
    )
    folder = TrialFolder(home / f"seed-{seed}")
    folder.write_spec(spec)
    events: list[dict[str, Any]] = []
    run_trial(folder, 1, stores=home / "stores", device="cpu", emit=events.append, should_stop=lambda: False)
    if events[-1]["state"] != "complete":
        raise SystemExit(f"our trial failed: {events[-1]['message']}")
    return [
        {"iou": event["values"]["val/iou"], "dice": event["values"]["val/dice"]}
        for event in events
        if event["event"] == "epoch"
    ]


def held_out(root: Path, share: float) -> tuple[str, ...]:
    """Every n-th patient, so that all centres are there."""
    from harness.data.cohort import read_cohort

    patients = sorted({roi.patient for roi in read_cohort(root)})
    return tuple(patients[:: round(1 / share)])


def compare(task: Task, seeds: list[int], home: Path) -> dict[str, object]:
    """Both sides over all seeds, in turns, so that a busy machine is busy for both."""
    rows = []
    for seed in seeds:
        for side in ("plain", "ours"):
            began = time.process_time()  # not wall time: the machine may be shared
            curve = plain(task, seed) if side == "plain" else ours(task, seed, home)
            cpu_seconds = time.process_time() - began
            best = max(curve, key=lambda score: score["iou"])
            by_epoch = [round(score["iou"], 4) for score in curve]
            rows.append({"side": side, "seed": seed, **best, "iou_by_epoch": by_epoch, "cpu_seconds": cpu_seconds})
            print(json.dumps(rows[-1]), flush=True)
    by_side = {side: [row["iou"] for row in rows if row["side"] == side] for side in ("plain", "ours")}
    means = {side: statistics.mean(values) for side, values in by_side.items()}
    spread = {side: statistics.stdev(values) if len(values) > 1 else 0.0 for side, values in by_side.items()}
    difference = means["ours"] - means["plain"]
    standard_error = (sum(sd**2 for sd in spread.values()) / len(seeds)) ** 0.5
    return {
        "rows": rows,
        "mean_iou": means,
        "seed_sd": spread,
        "difference": difference,
        "standard_error": standard_error,  # of the difference of the two means (Welch)
        "within_seed_spread": abs(difference) <= max(spread.values()),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="phantom", help="a TIGER root, or `phantom`")
    parser.add_argument("--labels", type=json.loads, default={"tumor": [1, 3], "stroma": [2, 6], "rest": [4, 5, 7]})
    parser.add_argument("--validation", nargs="*", help="patients held out (default: every fifth)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--patients", type=int, default=15, help="of the phantom")
    parser.add_argument("--patch-px", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--loss", choices=["cross_entropy", "dice"], default="cross_entropy")
    parser.add_argument("--encoder", default="tu-test_efficientnet")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    options = parser.parse_args()
    # albumentations prefers Affine to ShiftScaleRotate, which is the paper's transform.
    warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case of Affine", category=UserWarning)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.data)
        if options.data == "phantom":
            from harness.data.phantom import Phantom, synthesize

            root = synthesize(Path(temporary) / "phantom", Phantom(patients=options.patients, tiny_share=0.0))
        task = Task(
            root=root,
            labels=options.labels,
            validation=tuple(options.validation or held_out(root, 0.2)),
            patch_px=options.patch_px,
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            loss=options.loss,
            encoder=options.encoder,
        )
        result = compare(task, options.seeds, Path(temporary))
    print(json.dumps({key: value for key, value in result.items() if key != "rows"}, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
