"""The source's three claims, on sweeps whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.report.boards import group_boards, yardstick_boards
from harness.report.queries import read_sweep
from harness.report.takeaways import Takeaway, takeaways
from tests.report.factory import SweepFolder


def asked(folder: SweepFolder) -> dict[str, Takeaway]:
    sweep = read_sweep(folder.path)
    found = takeaways(sweep, group_boards(sweep), yardstick_boards(sweep))
    return {one.claim: one for one in found}


def crossed(folder: SweepFolder, factor: str, errors: dict[Any, float], **fixed: Any) -> None:
    """Each value of a factor over four learning rates; the larger the error, the lower the score."""
    for value, error in errors.items():
        for rate in (1e-4, 3e-4, 1e-3, 3e-3):
            folder.trial({"architecture": "unet", "learning_rate": rate, factor: value, **fixed}, error=error, draw=1)


def test_image_size_is_supported_by_a_visible_difference(tmp_path: Path) -> None:
    """256 px with a tenth of the errors, in four pairs: said with its difference, SD and pairs."""
    folder = SweepFolder(tmp_path)
    crossed(folder, "patch_px", {128: 0.5, 256: 0.05})
    found = asked(folder)["Image size matters"]
    assert found.supported and "Patch px: 256 is 0." in found.text and "4 paired cells" in found.text


def test_a_difference_that_is_not_visible_supports_nothing(tmp_path: Path) -> None:
    """Two pairs: the difference is told, and that it is too few."""
    folder = SweepFolder(tmp_path)
    for px, rate, error in [(128, 1e-3, 0.5), (256, 1e-3, 0.1), (128, 1e-4, 0.5), (256, 1e-4, 0.1)]:
        folder.trial({"architecture": "unet", "patch_px": px, "learning_rate": rate}, error=error, draw=1)
    found = asked(folder)["Image size matters"]
    assert not found.supported
    assert "Not supported by this sweep: no difference is visible" in found.text
    assert "2 pairs, fewer than the 4 a verdict needs" in found.text


def test_sizes_that_never_varied_are_the_reason(tmp_path: Path) -> None:
    """One size in all runs."""
    folder = SweepFolder(tmp_path)
    crossed(folder, "loss", {"dice": 0.4, "jaccard": 0.3})
    found = asked(folder)["Image size matters"]
    assert not found.supported and "patch px, input px and mpp did not vary" in found.text


def test_any_pretrained_weights_count_against_random_ones(tmp_path: Path) -> None:
    """imagenet and a file of one's own are one level: pretrained."""
    folder = SweepFolder(tmp_path)
    crossed(folder, "encoder_weights", {"random": 0.5, "imagenet": 0.1, "own.safetensors": 0.1}, encoder="resnet18")
    found = asked(folder)["A pretrained backbone helps"]
    assert found.supported and "Encoder weights: pretrained is 0." in found.text and "over 4 paired" in found.text


def test_weights_that_hurt_do_not_support_that_they_help(tmp_path: Path) -> None:
    """A visible difference the other way is told as that."""
    folder = SweepFolder(tmp_path)
    crossed(folder, "encoder_weights", {"random": 0.1, "imagenet": 0.5}, encoder="resnet18")
    found = asked(folder)["A pretrained backbone helps"]
    assert not found.supported and "goes the other way" in found.text and "random is 0." in found.text


def test_weights_that_came_with_another_network_cannot_be_told_apart(tmp_path: Path) -> None:
    """The paper's own cells: a plain U-Net without weights, a U-Net with imagenet's."""
    folder = SweepFolder(tmp_path)
    for rate in (1e-4, 1e-3):
        folder.trial({"architecture": "unet_plain", "learning_rate": rate})
        settings = {"architecture": "unet", "encoder": "resnet18", "encoder_weights": "imagenet"}
        folder.trial({**settings, "learning_rate": rate}, error=0.1)
    found = asked(folder)["A pretrained backbone helps"]
    assert not found.supported and "cannot be told apart" in found.text


def test_imbalance_is_the_ratio_of_true_pixels(tmp_path: Path) -> None:
    """900 pixels of tumor, 80 of stroma, 20 of the rest: 45 times fewer; tumor is found better than the rest."""
    folder = SweepFolder(tmp_path)
    rows = [[0] * 3 for _ in range(8)]
    rows[1], rows[2], rows[4] = [890, 5, 5], [10, 60, 10], [10, 5, 5]
    folder.trial(matrix=rows)
    found = asked(folder)["The data are imbalanced"]
    assert found.supported
    assert "tumor has 90.0 % of the true validation pixels and rest 2.0 %, 45 times fewer" in found.text
    # IoU: 890 / (900 + 20), 5 / (20 + 15)
    assert "IoU of the leader 0.967 and 0.143." in found.text


def test_equal_classes_are_not_imbalanced(tmp_path: Path) -> None:
    """100 pixels each."""
    folder = SweepFolder(tmp_path)
    rows = [[0] * 3 for _ in range(8)]
    rows[1], rows[2], rows[4] = [100, 0, 0], [0, 100, 0], [0, 0, 100]
    folder.trial(matrix=rows)
    assert not asked(folder)["The data are imbalanced"].supported


def test_replicates_and_unfinished_runs_support_nothing(tmp_path: Path) -> None:
    """The better size only in replicates and a pruned run: it did not vary among what counts. No run, no takeaway."""
    folder = SweepFolder(tmp_path)
    assert asked(folder) == {}
    first = folder.trial({"architecture": "unet", "patch_px": 128})
    for seed in range(4):
        folder.trial({"architecture": "unet", "patch_px": 256}, error=0.05, replicate_of=first, seed=100 + seed)
    folder.trial({"architecture": "unet", "patch_px": 256}, state="pruned")
    assert "did not vary" in asked(folder)["Image size matters"].text
