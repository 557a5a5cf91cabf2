"""How fast a trained network predicts, in milliseconds per megapixel of tissue."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from harness.config.spec import TrialSpec
from harness.data.patches import PatchStore
from harness.evaluate import autocast, placed_images
from harness.train import TrialData

REPEATS = 3  # after one to warm up; the median of them counts
# Input pixels of one timed pass: four patches of 256 px. More fills a large GPU better and costs a CPU core seconds.
PASS_PX = 4 * 256 * 256


def ms_per_megapixel(model: nn.Module, spec: TrialSpec, data: TrialData, *, device: torch.device) -> float:
    """Forward pass alone: no reading, resampling, stitching or copying; neither weights nor random states change.

    One batch of random images of the trial's input size, in the precision of its training; at most its batch size.
    A patch counts as the pixels it covers of the region as it was given, not of the network's input: the median
    region's, where patches were resampled to another resolution. Overlap of patches is not counted.
    """
    side = spec.dataset.cut.input_px
    batch = max(1, min(spec.train.batch_size, PASS_PX // side**2))
    images_NCHW = placed_images(np.random.default_rng(0).random((batch, 3, side, side), dtype=np.float32), device)
    model.eval()
    times_s = []
    with torch.inference_mode(), autocast(spec.train.precision, device):
        for _ in range(1 + REPEATS):
            started = time.perf_counter()
            model(images_NCHW)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            elif device.type == "mps":
                torch.mps.synchronize()
            times_s.append(time.perf_counter() - started)
    megapixels = batch * own_pixels(data.validation) / 1e6
    return float(np.median(times_s[1:])) * 1e3 / megapixels


def own_pixels(store: PatchStore) -> float:
    """Pixels of a region, as given, that one patch of the store covers: the median over regions."""
    shares = [roi.height_px * roi.width_px / (roi.grid_height_px * roi.grid_width_px) for roi in store.rois]
    return float(np.median(shares)) * store.cut.patch_px**2
