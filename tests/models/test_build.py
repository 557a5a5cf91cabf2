"""Networks built from a ModelSpec: shapes, free batch size after export, attention, seeds."""

from itertools import pairwise

import pytest
import torch

from harness.config.imported import ImportedPart, located
from harness.config.spec import ModelSpec
from harness.errors import BadInput
from harness.models.build import build_model, count_parameters
from harness.models.table import architectures

torch.set_num_threads(1)

NARROW = (32, 24, 16, 16, 8)
TINY = "tu-test_resnet.r160_in1k"


def _spec(architecture, encoder=None, decoder_channels=None, **more):
    weights = "random" if encoder else None
    return ModelSpec(
        architecture=architecture, encoder=encoder, encoder_weights=weights, decoder_channels=decoder_channels, **more
    )


def _tiny_spec(row):
    encoder = ("tu-test_vit" if row.only_timm_vit else TINY) if row.needs_encoder else None
    return _spec(row.name, encoder, NARROW if row.takes_decoder_channels else None)


@pytest.mark.parametrize("row", architectures().values(), ids=architectures())
def test_every_architecture_gives_logits_of_the_inputs_size_and_trains(row):
    """Each row of the table holds at its smallest input and its smallest training batch."""
    px = max(row.min_input_px, 64)
    model = build_model(_tiny_spec(row), classes=5, input_px=px).train()
    logits_NKHW = model(torch.rand(max(row.min_train_batch, 2), 3, px, px))
    assert logits_NKHW.shape[1:] == (5, px, px)
    logits_NKHW.square().mean().backward()
    assert next(model.parameters()).grad.abs().sum() > 0  # the input's end of the network


@pytest.mark.parametrize("row", architectures().values(), ids=architectures())
def test_every_architecture_takes_the_smallest_multiple_of_its_divisor(row):
    """`check_input_px` and the module agree: what the first allows, the second computes."""
    px = -(-max(row.min_input_px, row.divisor) // row.divisor) * row.divisor
    for size in (px, px + row.divisor):
        build_model(_tiny_spec(row), classes=2, input_px=size)


@pytest.mark.parametrize(
    "spec",
    [
        _spec("unet_plain", None, (64, 32, 16, 8, 4)),
        _spec("unet", TINY, NARROW),
        _spec("attention_unet", TINY, NARROW),
        _spec("unetplusplus", TINY, (32, 24, 16, 16, 16), decoder_attention="scse"),
        pytest.param(_spec("unet", "efficientnet-b0"), marks=pytest.mark.slow),
        pytest.param(_spec("attention_unet", "efficientnet-b0"), marks=pytest.mark.slow),
        pytest.param(_spec("attention_unet", "mit_b0"), marks=pytest.mark.slow),
    ],
    ids=lambda spec: f"{spec.architecture}-{spec.encoder}",
)
def test_an_exported_network_takes_any_batch_and_equals_the_module(spec):
    """torch.export with an example of 2 patches: 1 and 3 patches give the module's logits to the last bit."""
    torch.manual_seed(0)
    model = build_model(spec, classes=3).eval()
    example = (torch.rand(2, 3, 64, 64),)
    free_batch = ({0: torch.export.Dim("batch", min=1)},)
    exported = torch.export.export(model, example, dynamic_shapes=free_batch).module()
    images_NCHW = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        for batch in (1, 3):
            assert torch.equal(exported(images_NCHW[:batch]), model(images_NCHW[:batch]))


def test_the_plain_unet_has_the_parameters_counted_by_hand():
    """3x3 convolutions without bias, batch norm (2 a channel), 2x2 up-convolutions, 1x1 head."""
    widths = (32, 64, 128, 256, 512)

    def double(a, b):
        return 9 * a * b + 9 * b * b + 4 * b

    contracting = sum(double(a, b) for a, b in zip((3, *widths), widths, strict=False))
    expanding = sum(4 * b * a + a + double(2 * a, a) for a, b in pairwise(widths))
    model = build_model(_spec("unet_plain"), classes=7)
    assert count_parameters(model) == contracting + expanding + 32 * 7 + 7


def test_decoder_channels_run_from_the_deepest_level_to_full_resolution():
    """The same five numbers serve every U-Net: the last one is the width at full resolution."""
    plain = build_model(_spec("unet_plain", None, NARROW), classes=2)
    gated = build_model(_spec("attention_unet", TINY, NARROW), classes=2)
    assert plain.get_submodule("head").in_channels == gated.get_submodule("head").in_channels == 8
    assert plain.get_submodule("stem")[0].out_channels == 8


def test_attention_coefficients_are_shares_at_the_skips_resolutions():
    """Four gates over five levels: maps of one channel in 0..1, at 1/16, 1/8, 1/4 and 1/2 of the input."""
    model = build_model(_spec("attention_unet", TINY, NARROW), classes=2).eval()
    images_NCHW = torch.rand(2, 3, 64, 64)
    logits_NKHW, coefficients = model.forward_with_attention(images_NCHW)
    assert [tuple(gate.shape) for gate in coefficients] == [(2, 1, px, px) for px in (4, 8, 16, 32)]
    assert all(gate.min() >= 0 and gate.max() <= 1 for gate in coefficients)
    assert torch.equal(logits_NKHW, model(images_NCHW))


def test_a_closed_attention_gate_hides_its_skip():
    """With a coefficient of 0 everywhere, what the skip holds no longer reaches the gate's output."""
    from harness.models.attention_unet import AttentionGate

    gate = AttentionGate(skip_channels=4, gating_channels=6).eval()
    torch.nn.init.constant_(gate.to_coefficient.bias, -1000.0)
    gating = torch.rand(1, 6, 4, 4)
    first, second = (gate(torch.rand(1, 4, 8, 8), gating)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_scse_adds_the_parameters_counted_by_hand():
    """Roy et al. 2018: c channels -> c / 16 -> c and c -> 1, with biases, at the way into and out of every block.

    The five blocks take the deeper features beside the skip of the next resolution; the last one has no skip.
    """
    widths = (64, 48, 32, 32, 16)
    plain, weighing = (
        build_model(_spec("unet", TINY, widths, decoder_attention=kind), classes=2) for kind in ("none", "scse")
    )
    skips = plain.get_submodule("encoder").out_channels[::-1]
    inputs = [deeper + skip for deeper, skip in zip((skips[0], *widths[:4]), (*skips[1:5], 0), strict=True)]
    expected = sum(2 * c * (c // 16) + c // 16 + c + c + 1 for c in (*inputs, *widths))
    assert count_parameters(weighing) - count_parameters(plain) == expected


def test_gates_are_left_out_where_an_encoder_has_no_features():
    """A ConvNeXt starts at a quarter of the resolution: three gates, and the logits still have full size."""
    model = build_model(_spec("attention_unet", "tu-test_convnext", NARROW), classes=2, input_px=64).eval()
    assert len(model.forward_with_attention(torch.rand(1, 3, 64, 64))[1]) == 3


@pytest.mark.parametrize("architecture", ["unet_plain", "unet", "attention_unet"])
def test_the_same_seed_gives_the_same_initial_weights(architecture):
    """All randomness comes from torch's global generator."""
    spec = _spec(architecture, None if architecture == "unet_plain" else TINY, NARROW)
    states = []
    for seed in (4, 4, 5):
        torch.manual_seed(seed)
        states.append(build_model(spec, classes=2, input_px=64).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


@pytest.mark.parametrize(
    ("spec", "input_px", "message"),
    [
        (_spec("unet", "tu-test_resnt"), None, "did you mean 'tu-test_resnet'"),
        (_spec("unet", "tu-test_resnet.r200"), None, "no tag 'r200' for test_resnet; it has r160_in1k"),
        (_spec("unet", "tu-test_maxvit"), 64, "at 64 px does not work: height"),
        (_spec("dpt", "tu-test_resnet"), None, "dpt over tu-test_resnet does not work"),
        (_spec("unet", TINY), 100, "input_px 100 does not fit unet"),
    ],
)
def test_what_only_the_libraries_know_is_bad_input_too(spec, input_px, message):
    """An encoder unknown to timm, or of fixed input size, is found before training, in one line."""
    with pytest.raises(BadInput, match=message) as caught:
        build_model(spec, classes=2, input_px=input_px)
    assert len(caught.value.problems) == 1


def test_what_an_own_module_draws_while_imported_does_not_change_its_weights(tmp_path):
    """The first trial of a worker imports it, the second does not; both start from the same weights."""
    (tmp_path / "drawing_net.py").write_text(
        "import torch\nfrom torch import nn\nNOISE = torch.rand(5)\n"
        "def build(classes):\n    return nn.Conv2d(3, classes, 1)\n"
    )
    part = located(ImportedPart(target="drawing_net:build", name="own"), [tmp_path])
    weights = []
    for _ in range(2):
        torch.manual_seed(1)
        weights.append(build_model(ModelSpec(architecture=part), classes=2).weight)
    assert torch.equal(*weights)
