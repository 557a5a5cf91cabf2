"""Milliseconds per megapixel: of a network whose time is known, on the region's own pixels."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.config.spec import TrialSpec
from harness.data.patches import StoredRoi
from harness.train import TrialData
from harness.trial.run import cohort, open_data
from harness.trial.speed import ms_per_megapixel, own_pixels
from tests.toy import toy_spec, write_cohort


class Sleeper(nn.Module):
    """Takes 30 ms a pass, and 300 ms the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple[int, ...]] = []

    def forward(self, images_NCHW: Tensor) -> Tensor:
        time.sleep(0.03 if self.passes else 0.3)
        self.passes.append(tuple(images_NCHW.shape))
        return images_NCHW


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialSpec, TrialData]:
    root: Path = write_cohort(tmp_path_factory.mktemp("cohort"))
    spec = toy_spec(root)
    return spec, open_data(spec, cohort(spec), root / "stores")


def test_it_is_the_time_of_a_pass_by_its_megapixels(data: tuple[TrialSpec, TrialData]) -> None:
    """30 ms over a batch's own pixels; the slow first pass does not count; torch's random state stays."""
    spec, trial = data
    network, state = Sleeper(), torch.get_rng_state()
    found = ms_per_megapixel(network, spec, trial, device=torch.device("cpu"))
    batch, channels, height, width = network.passes[0]
    cut = trial.validation.cut
    assert (channels, height, width) == (3, cut.input_px, cut.input_px) and len(network.passes) == 4
    expected = 30 / (batch * cut.patch_px**2 / 1e6)
    assert expected <= found < 1.6 * expected
    assert torch.equal(torch.get_rng_state(), state)


def test_resampled_patches_count_the_pixels_they_cover_of_the_region(data: tuple[TrialSpec, TrialData]) -> None:
    """A region of 200 x 100 px cut from a grid of 100 x 50: a patch covers 4 times its own pixels."""
    store = data[1].validation
    halved: StoredRoi = replace(store.rois[0], height_px=200, width_px=100, grid_height_px=100, grid_width_px=50)
    assert own_pixels(replace(store, rois=(halved,))) == pytest.approx(4 * store.cut.patch_px**2)
