"""evaluate(): stitched predictions and the matrices counted from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.config.spec import Cut
from harness.data.cohort import read_cohort
from harness.data.patches import PatchStore, open_store, patches_of, validation_cut
from harness.evaluate import Evaluation, evaluate
from harness.scores import Scheme
from tests.toy import LABELS, PATIENTS, ColourReader, blocks, scheme_of, toy_spec, write_cohort, write_roi

CPU = torch.device("cpu")
SCHEME = Scheme(tuple(range(8)), LABELS)


def zero_loss(logits_NKHW: Tensor, targets_NHW: Tensor) -> Tensor:
    return logits_NKHW.sum() * 0


def store_of(root: Path, *, patch_px: int = 32, input_px: int = 32, mpp: float | None = None) -> PatchStore:
    cut = Cut(mpp=mpp, patch_px=patch_px, input_px=input_px, stride=patch_px)
    return open_store(root / "stores", read_cohort(root), validation_cut(cut), data_hash=root.name)


def evaluated(root: Path, model: nn.Module, store: PatchStore, scheme: Scheme = SCHEME, **train: object) -> Evaluation:
    spec = toy_spec(root, **train)
    indices = patches_of(store, PATIENTS)
    return evaluate(model, store, indices, scheme, train=spec.train, loss=zero_loss, device=CPU, keep_predictions=True)


class Halves(nn.Module):
    """The second class has probability `left` in the left half of every patch, `right` in the right half."""

    def __init__(self, left: float, right: float) -> None:
        super().__init__()
        self.chances = (left, right)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        patches, _, height, width = images_NCHW.shape
        chance = torch.full((patches, height, width), self.chances[0])
        chance[..., width // 2 :] = self.chances[1]
        return torch.stack([(1 - chance).log(), chance.log()], dim=1)


class Smooth(nn.Module):
    """Undecided logits that vary from pixel to pixel, so that every step of stitching shows in the argmax."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 2, 5, padding=2)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.conv(images_NCHW) * 10  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", [(64, 96), (80, 100), (33, 32)])
def test_a_perfect_reader_puts_every_pixel_in_its_class(tmp_path: Path, size: tuple[int, int]) -> None:
    """Rows are the mask's pixel counts, all in the column of the id's class, whatever the ROI's size."""
    write_roi(tmp_path, PATIENTS[0], blocks(*size, seed=1, ids=(1, 2, 3, 6)))
    evaluation = evaluated(tmp_path, ColourReader(SCHEME), store_of(tmp_path))
    counts = np.bincount(blocks(*size, seed=1, ids=(1, 2, 3, 6)).ravel(), minlength=8)
    expected = np.zeros((8, 2), np.int64)
    expected[[1, 3], 0] = counts[[1, 3]]
    expected[[2, 6], 1] = counts[[2, 6]]
    assert evaluation.rois[0].matrix.tolist() == expected.tolist()


@pytest.mark.parametrize(("right", "overlap_class"), [(0.2, 2), (0.05, 1)])
def test_overlapping_patches_are_averaged(tmp_path: Path, right: float, overlap_class: int) -> None:
    """Patches at 0 and 16 of 48 px; in between (.9 + .2) / 2 is the second class, (.9 + .05) / 2 the first."""
    write_roi(tmp_path, PATIENTS[0], np.ones((32, 48), np.uint8))
    evaluation = evaluated(tmp_path, Halves(0.9, right), store_of(tmp_path))
    (predicted_HW,) = evaluation.predictions.values()
    assert predicted_HW.tolist() == [[2] * 16 + [overlap_class] * 16 + [1] * 16] * 32


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(20, 90), width=st.integers(20, 90), mpp=st.sampled_from([None, 0.35, 0.8]),
    input_px=st.sampled_from([32, 48]),
)  # fmt: skip
def test_stitching_equals_the_definition(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, mpp: float | None, input_px: int
) -> None:
    """Any ROI size, resolution and network size: softmax, resized to the patch's own extent, mean, argmax."""
    root = tmp_path_factory.mktemp("roi")
    write_roi(root, PATIENTS[0], blocks(height, width, seed=height), noise=60)
    store, model = store_of(root, input_px=input_px, mpp=mpp), Smooth()
    evaluation = evaluated(root, model, store)
    roi = store.rois[0]
    total, times = np.zeros((2, height, width)), np.zeros((height, width))
    scale_y, scale_x = height / roi.grid_height_px, width / roi.grid_width_px
    for image, patch in zip(store.images_NHWC, store.index, strict=True):
        rows = slice(round(patch["y"] * scale_y), round((patch["y"] + patch["size_y"]) * scale_y))
        columns = slice(round(patch["x"] * scale_x), round((patch["x"] + patch["size_x"]) * scale_x))
        with torch.no_grad():
            chances = model(torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)).softmax(1)
            extent = (rows.stop - rows.start, columns.stop - columns.start)
            own = nn.functional.interpolate(chances, size=extent, mode="bilinear", align_corners=False)
        total[:, rows, columns] += own[0].numpy()
        times[rows, columns] += 1
    assert times.min() >= 1
    mean = total / times
    decided = np.abs(mean[0] - mean[1]) > 1e-5  # ties may fall either way in another order of sums
    (predicted_HW,) = evaluation.predictions.values()
    assert predicted_HW[decided].tolist() == (mean.argmax(axis=0) + 1)[decided].tolist()


def test_matrices_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    """One patch at a time or all at once: the same counts."""
    write_cohort(tmp_path, dict.fromkeys(PATIENTS[:3], (70, 90)))
    store = store_of(tmp_path)
    one, many = (evaluated(tmp_path, Smooth(), store, batch_size=size) for size in (1, 64))
    assert [roi.matrix.tolist() for roi in one.rois] == [roi.matrix.tolist() for roi in many.rois]


def test_predictions_are_what_the_matrices_count(tmp_path: Path) -> None:
    """Kept predictions have the ROI's own size and give the matrix back, pixel by pixel."""
    write_cohort(tmp_path, dict(zip(PATIENTS, [(64, 96), (40, 50), (20, 24), (97, 33), (32, 32)], strict=True)))
    store = store_of(tmp_path)
    evaluation = evaluated(tmp_path, Smooth(), store)
    for number, roi in enumerate(evaluation.rois):
        truth_HW, predicted_HW = store.roi_mask(number), evaluation.predictions[roi.name]
        recounted = [[int(((truth_HW == i) & (predicted_HW == k)).sum()) for k in (1, 2)] for i in range(8)]
        assert recounted == roi.matrix.tolist()


def test_a_roi_smaller_than_a_patch_is_flagged_and_counted_at_its_own_size(tmp_path: Path) -> None:
    """20 x 24 px are enlarged for the network; the matrix holds 480 pixels."""
    write_roi(tmp_path, PATIENTS[0], blocks(20, 24, seed=2))
    (roi,) = evaluated(tmp_path, Smooth(), store_of(tmp_path)).rois
    assert roi.resized
    assert roi.matrix.sum() == 480


def test_non_homogeneous_matrix_counts_mixed_cells_only(tmp_path: Path) -> None:
    """Two cells of 256 px side by side: the left one has two ids, the right one has one and is left out."""
    mask_HW = np.ones((256, 512), np.uint8)
    mask_HW[:, :64] = 2
    write_roi(tmp_path, PATIENTS[0], mask_HW)
    (roi,) = evaluated(tmp_path, ColourReader(SCHEME), store_of(tmp_path, patch_px=64, input_px=64)).rois
    assert roi.matrix_non_homogeneous.sum() == 256 * 256
    assert roi.matrix_non_homogeneous[2].tolist() == [0, 64 * 256]


def test_as_paper_counts_predicted_undefined_in_the_first_column(tmp_path: Path) -> None:
    """Under `as_paper` the network may say `undefined`; predictions are 0..K and column 0 counts them."""
    mask_HW = blocks(64, 64, seed=4)
    write_roi(tmp_path, PATIENTS[0], mask_HW)
    spec = toy_spec(tmp_path, undefined="as_paper")
    scheme = scheme_of(spec)
    evaluation = evaluated(tmp_path, ColourReader(scheme), store_of(tmp_path), scheme, undefined="as_paper")
    assert evaluation.rois[0].matrix.shape == (8, 3)
    assert evaluation.rois[0].matrix[0].tolist() == [int((mask_HW == 0).sum()), 0, 0]
    (predicted_HW,) = evaluation.predictions.values()
    assert np.unique(predicted_HW).tolist() == [0, 1, 2]


def test_loss_is_the_mean_over_patches(tmp_path: Path) -> None:
    """Batches of 4 and 2 patches with losses 4 and 2: (4 * 4 + 2 * 2) / 6."""
    write_roi(tmp_path, PATIENTS[0], blocks(64, 96, seed=5))
    spec, store = toy_spec(tmp_path, batch_size=4), store_of(tmp_path)

    def batch_size(logits_NKHW: Tensor, targets_NHW: Tensor) -> Tensor:
        return torch.tensor(float(len(targets_NHW)))

    indices = patches_of(store, PATIENTS)
    evaluation = evaluate(Smooth(), store, indices, SCHEME, train=spec.train, loss=batch_size, device=CPU)
    assert evaluation.loss == pytest.approx(20 / 6)
    assert evaluation.predictions == {}


def test_losses_see_the_label_maps_classes(tmp_path: Path) -> None:
    """The perfect reader's cross-entropy is all but 0: targets and logits agree on the order."""
    from harness.losses import build_loss

    write_roi(tmp_path, PATIENTS[0], blocks(64, 96, seed=6))
    spec, store = toy_spec(tmp_path), store_of(tmp_path)
    loss = build_loss({"cross_entropy": 1.0}, classes=2, class_weights=None, undefined="ignore")
    indices = patches_of(store, PATIENTS)
    evaluation = evaluate(ColourReader(SCHEME), store, indices, SCHEME, train=spec.train, loss=loss, device=CPU)
    assert evaluation.loss < 1e-6
    assert evaluation.paper == {"iou": 1.0, "dice": 1.0}


def test_poll_is_asked_once_per_batch_and_may_raise(tmp_path: Path) -> None:
    """A stop during a long validation takes effect at the next batch."""
    write_roi(tmp_path, PATIENTS[0], blocks(64, 96, seed=7))
    spec, store = toy_spec(tmp_path, batch_size=2), store_of(tmp_path)
    asked = []

    def poll() -> None:
        asked.append(1)
        if len(asked) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        evaluate(
            Smooth(), store, patches_of(store, PATIENTS), SCHEME,
            train=spec.train, loss=zero_loss, device=CPU, poll=poll,
        )  # fmt: skip
    assert len(asked) == 2
