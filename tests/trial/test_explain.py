"""Which layer is explained, what the heat is worth on networks small enough to reckon by hand, which patch is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.config.spec import ModelSpec
from harness.data.patches import patches_of
from harness.models.build import build_model
from harness.models.table import architectures
from harness.train import TrialData
from harness.trial.explain import (
    class_heats,
    example_of,
    explained,
    explained_layer,
    fixed_patch,
    gate_coefficients,
    write_explanations,
)
from harness.trial.run import cohort, open_data
from tests.toy import ColourReader, scheme_of, toy_spec, write_cohort

torch.set_num_threads(1)

CPU = torch.device("cpu")
TINY = "tu-test_resnet.r160_in1k"
# The decoder's output where a head follows it; the Attention U-Net's decoder is a list of blocks, the plain U-Net's
# too; DPT's own head has several convolutions, and the features before its last one are explained.
LAYERS = dict.fromkeys(architectures(), "decoder") | {
    "unet_plain": "up.3",
    "attention_unet": "decoder.4.conv",
    "dpt": "segmentation_head.head.3",
}


def name_of(layer: nn.Module, model: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is layer)


@pytest.mark.parametrize("row", architectures().values(), ids=architectures())
def test_every_architecture_is_explained_at_its_decoders_end(row) -> None:
    """The layer stands in a table; a map has the patch's size, its largest value is 1, or 0 without evidence."""
    encoder = ("tu-test_vit" if row.only_timm_vit else TINY) if row.needs_encoder else None
    spec = ModelSpec(architecture=row.name, encoder=encoder, encoder_weights="random" if encoder else None)
    px = max(row.min_input_px, 64)
    torch.manual_seed(1)
    model, images = build_model(spec, classes=3).eval(), torch.rand(1, 3, px, px)
    layer = explained_layer(model, images)
    assert name_of(layer, model) == LAYERS[row.name]
    classes_HW = model(images)[0].argmax(dim=0)
    heats = class_heats(model, layer, images, classes_HW, outputs=3)
    for output, heat_HW in enumerate(heats):
        assert (heat_HW is None) == (output not in classes_HW)
        if heat_HW is not None:
            assert heat_HW.shape == (px, px) and heat_HW.min() >= 0
            assert float(heat_HW.max()) == pytest.approx(1) or not heat_HW.any()


class Coloured(nn.Module):
    """The body gives red, green and blue as features; class k's logit is colour k; class 3 is never likeliest."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(inplace=True))
        self.head = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Upsample(scale_factor=1.0))
        with torch.no_grad():
            self.body[0].weight.copy_(torch.eye(3)[:, :, None, None])
            self.head[0].weight.copy_(torch.cat([torch.eye(3), -torch.ones(1, 3)])[:, :, None, None])

    def forward(self, images_NCHW: Tensor) -> Tensor:
        logits_NKHW: Tensor = self.head(self.body(images_NCHW))
        return logits_NKHW


def test_the_heat_of_a_class_is_the_feature_that_speaks_for_it() -> None:
    """Where class k is colour k, its map is that colour as a share of its largest value; none where not predicted."""
    model, images = Coloured().eval(), torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    layer = explained_layer(model, images)
    assert layer is model.body
    heats = class_heats(model, layer, images, model(images)[0].argmax(dim=0), outputs=4)
    for channel in range(3):
        colour = images[0, channel].numpy()
        np.testing.assert_allclose(heats[channel], colour / colour.max(), rtol=1e-5)
    assert heats[3] is None


def test_a_network_with_frozen_layers_is_explained_too() -> None:
    """No weight asks for a gradient; the map is the same."""
    model, images = Coloured().eval().requires_grad_(False), torch.rand(1, 3, 4, 4)
    heats = class_heats(model, explained_layer(model, images), images, torch.zeros(4, 4, dtype=torch.long), outputs=1)
    colour = images[0, 0].numpy()
    np.testing.assert_allclose(heats[0], colour / colour.max(), rtol=1e-5)


class Branched(nn.Module):
    """Maps that do not lead to the logits, single positions and lists are passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3, padding=1)
        self.auxiliary = nn.Conv2d(3, 2, 1)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features = self.features(images_NCHW)
        weighted = features * self.squeeze(features).sigmoid()
        self.unused = self.auxiliary(images_NCHW)
        logits_NKHW: Tensor = self.head(weighted)
        return logits_NKHW


def test_side_branches_are_not_taken_for_the_way_to_the_logits() -> None:
    """Called last before the head are an unused convolution and a global pooling."""
    model = Branched().eval()
    assert explained_layer(model, torch.rand(1, 3, 8, 8)) is model.features


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> TrialData:
    root = write_cohort(tmp_path_factory.mktemp("cohort"))
    spec = toy_spec(root)
    return open_data(spec, cohort(spec), root / "stores")


def test_the_fixed_patch_has_most_labels_in_its_truth(toy: TrialData) -> None:
    """Counted again from the masks: no patch has more source ids with at least 5 % of its defined pixels."""
    store = toy.validation

    def large(patch: int) -> int:
        counts = np.bincount(store.masks_NHW[patch].ravel(), minlength=8)[1:]
        return int(((counts > 0) & (counts >= 0.05 * counts.sum())).sum())

    patch = fixed_patch(store, toy.validation_indices)
    assert patch in toy.validation_indices
    assert large(patch) == max(large(int(other)) for other in toy.validation_indices)
    assert len({large(int(other)) for other in toy.validation_indices}) > 1


def test_an_examples_scale_counts_every_resizing(tmp_path: Path) -> None:
    """A region of 16 x 16 px at .5 um is enlarged to a patch of 32 px: one of its pixels is .25 um."""
    sizes = dict(zip(("TCGA-A2-A0A1", "TCGA-A2-A0B1", "TCGA-A2-A0C1"), [(16, 16), (64, 64), (64, 64)], strict=True))
    spec = toy_spec(write_cohort(tmp_path, sizes))
    data = open_data(spec, cohort(spec), tmp_path / "stores")
    (small,) = patches_of(data.validation, ["TCGA-A2-A0A1"])
    assert example_of(data.validation, int(small), data.scheme).um_per_px == 0.25


def test_a_network_without_layers_leaves_a_note_and_no_picture(toy: TrialData, tmp_path: Path) -> None:
    """Nothing to explain is no failure."""
    notes = write_explanations(tmp_path, toy, ColourReader(toy.scheme), normalize="unit", device=CPU)
    assert len(notes) == 1 and notes[0].startswith("gradcam.png: LookupError: no layer before")
    assert not list(tmp_path.iterdir())


def test_attention_is_drawn_where_there_are_gates(toy: TrialData, tmp_path: Path) -> None:
    """Four gates at 1/16 .. 1/2 of the patch, every coefficient in 0..1; other networks get no such picture."""
    spec = ModelSpec(architecture="attention_unet", encoder=TINY, encoder_weights="random")
    model = build_model(spec, classes=2).eval()
    gates = gate_coefficients(model, torch.rand(1, 3, 32, 32))
    assert [gate.shape for gate in gates] == [(2, 2), (4, 4), (8, 8), (16, 16)]
    assert all(0 <= gate.min() <= gate.max() <= 1 for gate in gates)
    assert write_explanations(tmp_path, toy, model, normalize="unit", device=CPU) == []
    assert {file.name for file in tmp_path.iterdir()} == {"gradcam.png", "attention.png"}


def test_under_as_paper_undefined_has_a_map_of_its_own(tmp_path: Path) -> None:
    """Output 0 is undefined: predictions count from 0, and there are K + 1 maps."""
    spec = toy_spec(write_cohort(tmp_path), undefined="as_paper")
    scheme = scheme_of(spec)
    torch.manual_seed(2)
    found = explained(build_model(spec.model, classes=3).eval(), torch.rand(1, 3, 32, 32), scheme)
    assert len(found.heats) == 3
    assert {number for number, heat in enumerate(found.heats) if heat is not None} == set(np.unique(found.predicted_HW))
