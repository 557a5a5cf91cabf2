"""Row 9's sides, on the CPU: each trains as many patches as it says. How fast they are is measured on a device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.bench import row_09_gpu
from benchmarks.bench.results import ROOT
from benchmarks.bench.row_09_gpu import ROW, SIDES, Sizes, prepared, unmeasured


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Sizes:
    """Eight patches of 64 px in batches of 4, two epochs; regions of some 130 px."""
    folder = tmp_path_factory.mktemp("row 9")
    return Sizes(px=64, batch=4, patches=8, epochs=2, patients=3, roi_px=128, workers=0, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
def test_a_side_trains_the_patches_that_it_counts(sizes: Sizes, side: str) -> None:
    """The first of two epochs warms up; eight are left, and the rate is of these."""
    torch.set_num_threads(1)
    figures = SIDES[side](torch.device("cpu"), sizes)
    assert figures["images"] == 8
    assert figures["images_per_s"] > 0


def test_all_sides_have_the_same_patches(sizes: Sizes) -> None:
    """The PNG files are the trial's patches, in colour and with their targets."""
    _, data = prepared(sizes)
    for role, (images, targets) in zip(("train", "valid"), row_09_gpu.arrays(data), strict=True):
        files = row_09_gpu.PngFiles(sizes.folder / "png" / role)
        assert len(files) == len(images)
        for number, (image, target) in enumerate(zip(images, targets, strict=True)):
            read, mask = files[number]
            assert (read.transpose(1, 2, 0) == image).all()
            assert (mask == target).all()


def test_without_a_driver_the_row_is_unmeasured_and_torch_not_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its three comparisons are named all the same. With a driver it is torch that decides."""
    code = "import sys, benchmarks.bench.row_09_gpu as nine; print(nine.ROW.unmeasured, 'torch' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said == "needs a CUDA device False\n"
    assert [(one.of, one.against, one.goal) for one in ROW.compared] == [
        ("ours", "smp example as written", 10),
        ("ours", "tuned fp32 loop", 3),
        ("ours", "tuned bf16 loop", 1.4),
    ]
    monkeypatch.setattr(row_09_gpu, "nvidia_devices", lambda: ["GPU 0: NVIDIA H100"])
    for usable, why in ((True, None), (False, "needs a CUDA device")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda usable=usable: usable)
        assert unmeasured() == why
