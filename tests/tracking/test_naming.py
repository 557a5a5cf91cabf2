"""Names of runs: short, and telling."""

from __future__ import annotations

import pytest

from harness.tracking.naming import run_name, short_encoder, short_number
from harness.tracking.tracker import model_name, storable_key

PARAMETERS = {
    "architecture": "attention_unet",
    "encoder": "efficientnet-b0",
    "labels": "unicorn3",
    "patches": "all",
    "patch_px": 256,
    "learning_rate": 1e-3,
}


def test_a_name_tells_network_stratum_patch_and_rate() -> None:
    """The example of the design."""
    assert run_name(PARAMETERS) == "attention_unet·b0·unicorn3/all·256·1e-3"


def test_what_else_varies_follows() -> None:
    """Speaking values stand alone, numbers with their name; inactive parameters are left out."""
    varied = {"architecture": "attention_unet", "encoder_weights": "random", "batch_size": 8, "mpp": None}
    varied["decoder_channels"] = (64, 32, 16, 8, 8)
    assert run_name(PARAMETERS, varied=varied) == "attention_unet·b0·unicorn3/all·256·1e-3·random·batch_size=8"


def test_an_inactive_encoder_leaves_no_hole() -> None:
    """`unet_plain` has none."""
    name = run_name({**PARAMETERS, "architecture": "unet_plain", "encoder": None})
    assert name == "unet_plain·unicorn3/all·256·1e-3"


def test_a_replicate_names_its_seed() -> None:
    """Replicates differ in nothing else."""
    assert run_name(PARAMETERS, seed=101).endswith("·1e-3·seed 101")


def test_a_weighted_loss_reads_as_a_sum() -> None:
    """As the leaderboard writes it."""
    varied = {"loss": {"cross_entropy": 1.0, "dice": 0.5}}
    assert run_name(PARAMETERS, varied=varied).endswith("·cross_entropy+0.5*dice")


def test_a_long_name_is_cut() -> None:
    """At most 100 characters, and one sees that something is missing."""
    name = run_name({**PARAMETERS, "architecture": "x" * 200})
    assert len(name) == 100
    assert name.endswith("…")


@pytest.mark.parametrize(
    ("encoder", "short"),
    [
        ("efficientnet-b0", "b0"),
        ("tu-test_resnet", "test_resnet"),
        ("timm-tf_efficientnet_lite0", "lite0"),
        ("tu-tf_efficientnet_lite0", "lite0"),
        ("tu-test_efficientnet", "test_efficientnet"),
        ("resnet34", "resnet34"),
        ("timm-efficientnet-b3", "b3"),
    ],
)
def test_encoders_are_called_what_people_call_them(encoder: str, short: str) -> None:
    """Prefixes of the libraries say nothing."""
    assert short_encoder(encoder) == short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-3, "1e-3"),
        (3.24e-4, "3.2e-4"),
        (0.05, "0.05"),
        (0.5, "0.5"),
        (3.0, "3"),
        (0.0, "0"),
        (2.5e5, "2.5e5"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Two or three figures are enough to tell runs apart."""
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("val/iou_tumor", "val/iou_tumor"),
        ("val/iou_t-cell (cd3+)", "val/iou_t-cell _cd3__"),
        ("/a//b/", "a/b"),
        ("a/../../b", "b"),
        ("val/iou_<b>", "val/iou__b_"),
    ],
)
def test_class_names_become_keys_that_mlflow_takes(name: str, key: str) -> None:
    """Anything but letters, digits and `_-. :/` is an underscore, and paths stay inside."""
    assert storable_key(name) == key


def test_model_names_hold_no_separators() -> None:
    """MLflow forbids / : . % and quotes in them."""
    assert model_name("unet·b0·unicorn3/all·256·3.2e-4") == "unet-b0-unicorn3-all-256-3-2e-4"
