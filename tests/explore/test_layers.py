"""Blocks of networks small enough to count by hand, and the sums over those of the table."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.explore.describe import described, model_spec
from harness.explore.diagram import BOX_HEIGHT, BOX_WIDTH, diagram_figure, placed, scaled, short_name
from harness.explore.layers import INPUT, layer_table, totals
from harness.models.build import build_model
from harness.models.table import architectures

torch.set_num_threads(1)  # as every worker; two threads on busy cores are 15 times slower


class SmallUnet(nn.Module):
    """One step down, one up, a skip over both; a layer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.top = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.bottom = nn.Conv2d(4, 8, 1)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, bias=False)
        self.head = nn.Conv2d(8, 2, 1, bias=False)
        self.forgotten = nn.Linear(5, 5)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        top = self.top(images_NCHW)
        return self.head(torch.cat([top, self.up(self.bottom(self.pool(top)))], dim=1))


def test_a_small_network_is_counted_by_hand() -> None:
    """At 16 px: multiply-adds are output pixels x inputs x outputs x kernel; pooling is part of what follows."""
    rows = {block.name: block for block in layer_table(SmallUnet(), 16)}
    assert list(rows) == [INPUT, "top", "bottom", "up", "head", "unused"]
    assert rows["top"].multiply_adds == 16 * 16 * 3 * 4 * 9
    assert rows["bottom"].multiply_adds == 8 * 8 * 4 * 8
    assert rows["up"].multiply_adds == 8 * 8 * 8 * 4 * 4
    assert rows["head"].multiply_adds == 16 * 16 * 8 * 2
    assert [block.parameters for block in rows.values()] == [0, 108 + 8, 32 + 8, 128, 16, 30]
    assert [block.shape for block in rows.values()] == [
        (3, 16, 16),
        (4, 16, 16),
        (8, 8, 8),
        (4, 16, 16),
        (2, 16, 16),
        (),
    ]


def test_blocks_know_whose_output_they_use() -> None:
    """The skip is there although only `torch.cat` joins it; parts are told by position where names say nothing."""
    rows = {block.name: block for block in layer_table(SmallUnet(), 16)}
    assert rows["top"].sources == (INPUT,)
    assert rows["bottom"].sources == ("top",)
    assert rows["up"].sources == ("bottom",)
    assert rows["head"].sources == ("top", "up")
    assert [block.part for block in rows.values()] == ["input", "encoder", "encoder", "decoder", "head", "unused"]


def test_any_module_becomes_a_chain_of_its_blocks() -> None:
    """A wrapped Sequential: convolutions are blocks, what normalises and activates belongs to them; reuse is named."""
    shared = nn.Conv2d(4, 4, 3, padding=1)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), shared, nn.ReLU(), shared
    )
    rows = layer_table(nn.Sequential(net), 8)
    assert [(row.name, row.part, row.parameters, row.sources) for row in rows] == [
        (INPUT, "input", 0, ()),
        ("0.0", "block", 112 + 8, (INPUT,)),
        ("0.3", "block", 148, ("0.0",)),
        ("0.3 (2)", "block", 0, ("0.3",)),
    ]


def test_the_model_is_left_as_it_was() -> None:
    """Training modes, frozen parameters, hooks and batch statistics."""
    model = SmallUnet().train()
    model.bottom.eval()
    model.bottom.weight.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert sum(block.parameters for block in layer_table(model, 16)) == sum(p.numel() for p in model.parameters())
    assert (model.training, model.top.training, model.bottom.training) == (True, True, False)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["bottom.weight"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", architectures())
def test_every_architecture_is_taken_apart_without_a_rest(name: str) -> None:
    """Parameters and multiply-adds add up to the module's own, every block feeds another, no two boxes overlap."""
    from torch.utils.flop_counter import FlopCounterMode

    spec = model_spec(name)
    model = build_model(spec, classes=3)
    blocks = layer_table(model, 128)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, 128, 128))
    assert sum(block.parameters for block in blocks) == sum(p.numel() for p in model.parameters())
    assert 2 * sum(block.multiply_adds for block in blocks) == counter.get_total_flops()
    computed = [block for block in blocks if block.part != "unused"]
    used = {source for block in computed for source in block.sources}
    assert computed[-1].part == "head"
    assert computed[-1].shape == (3, 128, 128)
    assert {block.name for block in computed} - used <= {computed[-1].name, "encoder.1"}  # half resolution is optional
    boxes = placed(blocks)
    for i, one in enumerate(boxes):
        assert all(abs(one.x - other.x) > BOX_WIDTH or abs(one.y - other.y) > BOX_HEIGHT for other in boxes[:i])
    assert all(len(short_name(box.block.name)) <= 16 for box in boxes)
    texts = {text.get_text() for text in diagram_figure(blocks, name).axes[0].texts}
    assert {" x ".join(map(str, block.shape)) for block in computed} <= texts


def test_attention_gates_are_marked_where_they_are() -> None:
    """Four levels of the decoder have a gate on their skip; the fifth, at full resolution, has no skip."""
    blocks = described(model_spec("attention_unet", "resnet18"), classes=7, input_px=64)
    assert [block.gates for block in blocks if block.part == "decoder"] == [1, 1, 1, 1, 0]
    axes = diagram_figure(blocks, "").axes[0]
    assert [text.get_text() for text in axes.texts].count("g") == 4
    parts = totals(blocks)
    assert sum(parameters for parameters, _ in parts.values()) == sum(block.parameters for block in blocks)
    assert list(parts) == ["encoder", "decoder", "head"]


def test_counts_have_three_digits_and_a_unit() -> None:
    """Rounded where the unit changes, too."""
    given = (0, 999, 1000, 41_185, 412_160, 999_700, 6_330_000, 3_058_737_152)
    assert [scaled(count) for count in given] == ["0", "999", "1.00k", "41.2k", "412k", "1.00M", "6.33M", "3.06G"]
