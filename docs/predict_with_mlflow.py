"""Reload an exported model with plain mlflow and compare its masks with the stored ones: TRIAL_FOLDER...

Knows nothing of harness. For trials whose patches the network sees at their own size (patch_px = input_px).
"""

import json
import sys
from pathlib import Path

import mlflow.pytorch
import numpy as np
import torch
from PIL import Image


def starts(length: int, patch: int) -> list[int]:
    """Side by side, the last one moved back to the edge."""
    return sorted({*range(0, length - patch + 1, patch), length - patch})


for trial in map(Path, sys.argv[1:]):
    model = mlflow.pytorch.load_model(str(trial / "mlflow_model"))
    dataset = json.loads((trial / "spec.json").read_text())["dataset"]
    patch, pixels, differing = dataset["cut"]["patch_px"], 0, 0
    images = {file.name: file for file in Path(dataset["root"]).rglob("images/*") if file.suffix == ".png"}
    for stored in sorted((trial / "predictions").iterdir()):
        _, slide, box = stored.stem.split("__")
        image = np.asarray(Image.open(images[f"{slide}_[{box.replace('-', ', ')}].png"]).convert("RGB"))
        height, width = image.shape[:2]
        corners = [(y, x) for y in starts(height, patch) for x in starts(width, patch)]
        batch = np.stack([image[y : y + patch, x : x + patch] for y, x in corners]).transpose(0, 3, 1, 2)
        with torch.inference_mode():  # takes RGB 0..255 as float32, gives softmax probabilities
            probabilities = model(torch.from_numpy(batch).float()).numpy()
        total, count = np.zeros((probabilities.shape[1], height, width)), np.zeros((height, width))
        for (y, x), probability in zip(corners, probabilities, strict=True):
            total[:, y : y + patch, x : x + patch] += probability
            count[y : y + patch, x : x + patch] += 1
        differing += int(((total / count).argmax(0) + 1 != np.asarray(Image.open(stored))).sum())
        pixels += height * width
    print(f"{trial.name}: {differing} of {pixels} pixels differ")
