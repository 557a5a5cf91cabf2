"""What a network is made of, read off one forward pass of the real module: blocks, shapes, cost, who feeds whom.

Nothing about a particular architecture is written here. A blank image is sent through; hooks note when every module
ends, torch's flop counter runs along, and the autograd graph tells whose output and which parameters a block used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

Part = Literal["input", "encoder", "decoder", "head", "block", "unused"]

INPUT = "image"
# Names by which people take a network apart; anything else is judged by where it stands.
ENCODERS = ("encoder", "backbone")
DECODERS = ("decoder",)
HEADS = ("head", "classifier")


@dataclass(frozen=True, slots=True)
class Block:
    """One box of the diagram and one row of the table."""

    name: str  # the module's own, `decoder.blocks.2`; stages of an encoder are numbered, `encoder.3`
    part: Part
    shape: tuple[int, ...]  # of its output, without the batch: (C, H, W)
    parameters: int  # trainable or not; shared ones count where they are used first
    multiply_adds: int  # for one image; a flop count is twice this
    sources: tuple[str, ...] = ()  # blocks whose outputs it uses, in the order of the table
    gates: int = 0  # attention gates inside


@dataclass(slots=True)
class _Call:
    """One call of a module: when it started and ended, flops by then, (autograd node, shape) of each output."""

    name: str
    started: int
    flops_before: int
    ended: int = 0
    flops_after: int = 0
    outputs: list[tuple[Any, tuple[int, ...]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Trace:
    """One forward pass: the image's autograd node and shape, and the calls in the order in which they ended."""

    image: Any
    shape: tuple[int, ...]
    calls: Sequence[_Call]
    flops: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A block before it is known what it used; `node` is the autograd node of its output."""

    name: str
    shape: tuple[int, ...]
    node: Any
    ended: int
    flops_after: int
    gates: int = 0
    is_plain: bool = False  # a single layer without multiplications: normalisation, activation, pooling


def layer_table(model: nn.Module, input_px: int, *, in_channels: int = 3) -> tuple[Block, ...]:
    """The blocks of `model` for one square image, in the order in which they are computed; the first is the image.

    A module at the top that returns several feature maps (an encoder) is one block per map; the children of a decoder
    are blocks of their own, everything else at the top is one. A layer without multiplications belongs to the block
    that it follows, work between two blocks to the second. The sums over all rows are the model's own: parameters that
    no block used are a last row, `unused`. The model is left as it was.
    """
    with torch.enable_grad(), _laid_open(model):
        trace = _traced(model, torch.zeros(1, in_channels, input_px, input_px))
        found = _joined(sorted(_top_blocks(model, trace), key=lambda one: one.ended))
        rows = _with_parts([Block(INPUT, "input", trace.shape, 0, 0), *_with_uses(found, trace)])
    unused = sum(p.numel() for p in model.parameters()) - sum(row.parameters for row in rows)
    return (*rows, Block("unused", "unused", (), unused, 0)) if unused else tuple(rows)


def totals(blocks: Iterable[Block]) -> dict[Part, tuple[int, int]]:
    """(parameters, multiply-adds) of every part that occurs, except the input."""
    sums: dict[Part, tuple[int, int]] = {}
    for block in blocks:
        if block.part != "input":
            parameters, multiply_adds = sums.get(block.part, (0, 0))
            sums[block.part] = (parameters + block.parameters, multiply_adds + block.multiply_adds)
    return sums


@contextmanager
def _laid_open(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and every parameter in the autograd graph, within; all as it was after."""
    modes = [(module, module.training) for module in model.modules()]
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    model.eval()
    for parameter in frozen:
        parameter.requires_grad_(parameter.is_floating_point())
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter in frozen:
            parameter.requires_grad_(False)


def _traced(model: nn.Module, blank: Tensor) -> _Trace:
    from torch.utils.flop_counter import FlopCounterMode

    calls: list[_Call] = []
    running: list[_Call] = []
    clock = iter(range(10**9))
    image = blank.requires_grad_().clone()  # a leaf has no autograd node; its copy has one
    with FlopCounterMode(display=False) as counter, ExitStack() as hooks:

        def start(name: str) -> Callable[..., None]:
            def hook(*_: object) -> None:
                running.append(_Call(name, next(clock), counter.get_total_flops()))

            return hook

        def end(_module: nn.Module, _arguments: object, output: object) -> None:
            call = running.pop()
            call.ended, call.flops_after = next(clock), counter.get_total_flops()
            call.outputs = [(t.grad_fn, tuple(t.shape[1:])) for t in _tensors(output) if t.grad_fn is not None]
            calls.append(call)

        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(start(name)).remove)
            hooks.callback(module.register_forward_hook(end).remove)
        model(image)
    return _Trace(image.grad_fn, tuple(blank.shape[1:]), calls, counter.get_total_flops())


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _top_blocks(model: nn.Module, trace: _Trace) -> list[_Found]:
    """The blocks of the top level; a network that is wrapped once more is unwrapped."""
    prefix, inner = "", model
    while len(children := list(inner.named_children())) == 1 and list(children[0][1].children()):
        prefix, inner = f"{prefix}{children[0][0]}.", children[0][1]
    return [one for name, child in children for one in _expanded(prefix + name, child, trace, is_top=True)]


def _expanded(name: str, module: nn.Module, trace: _Trace, *, is_top: bool = False) -> list[_Found]:
    """A module as blocks: its children's if it is a container or a decoder, one per map if it returns several."""
    calls = [call for call in trace.calls if call.name == name and call.outputs]
    below = [one for child, inner in module.named_children() for one in _expanded(f"{name}.{child}", inner, trace)]
    if not calls or (is_top and name.rpartition(".")[2] in DECODERS and len(below) > 1):
        return below
    maps = [output for output in calls[0].outputs if len(output[1]) == 3 and output[1][0] > 0]
    if is_top and len(calls) == 1 and len(maps) > 1:
        return _stages(calls[0], maps, trace)
    gates = sum(type(part).__name__.lower().endswith("gate") for part in module.modules())
    found = []
    for number, call in enumerate(calls, start=1):
        node, shape = call.outputs[0]
        is_plain = not list(module.children()) and call.flops_after == call.flops_before
        label = name if number == 1 else f"{name} ({number})"
        found.append(_Found(label, shape, node, call.ended, call.flops_after, gates, is_plain))
    return found


def _stages(call: _Call, maps: Sequence[tuple[Any, tuple[int, ...]]], trace: _Trace) -> list[_Found]:
    """An encoder cut where its feature maps were made: a stage has what ran since the one before."""
    inside = [other for other in trace.calls if call.started < other.started and other.ended < call.ended]
    made = {node: other for other in inside for node, _ in other.outputs}
    stages: list[_Found] = []
    for node, shape in maps:
        makers = [made[node]] if node in made else _nearest(node, made)
        if node is not trace.image and makers and node not in [stage.node for stage in stages]:
            last = max(makers, key=lambda maker: maker.ended)
            stages.append(_Found(f"{call.name}.{len(stages) + 1}", shape, node, last.ended, last.flops_after))
    # What an encoder computes beyond its last map, used or not, is its own work.
    return [*stages[:-1], *(replace(one, ended=call.ended, flops_after=call.flops_after) for one in stages[-1:])]


def _nearest(node: Any, made: Mapping[Any, _Call]) -> list[_Call]:
    """The calls whose outputs `node` was computed from, without another call in between."""
    seen, waiting, found = {node}, [node], []
    while waiting:
        for before, _ in waiting.pop().next_functions:
            if before in made:
                found.append(made[before])
            elif before is not None and before not in seen:
                seen.add(before)
                waiting.append(before)
    return found


def _joined(found: Sequence[_Found]) -> list[_Found]:
    """Without plain layers: one that follows a block directly is its end, another becomes part of what comes next."""
    blocks: list[_Found] = []
    for one in found:
        before = blocks[-1] if blocks else None
        if one.node in [other.node for other in blocks]:
            continue  # it hands on what it was given
        if not one.is_plain:
            blocks.append(one)
        elif before and before.shape == one.shape and before.node in [node for node, _ in one.node.next_functions]:
            blocks[-1] = replace(before, node=one.node, ended=one.ended)
    return blocks


def _with_uses(found: Sequence[_Found], trace: _Trace) -> list[Block]:
    """Back from each block's output through what no earlier block did: parameters there are its own."""
    owner: dict[Any, str] = {trace.image: INPUT}
    order = {INPUT: 0, **{one.name: place for place, one in enumerate(found, start=1)}}
    counted: set[int] = set()
    rows, flops = [], 0
    for place, one in enumerate(found):
        sources, parameters = set(), 0
        waiting = [one.node]
        while waiting:
            node = waiting.pop()
            if node in owner:
                if owner[node] != one.name:
                    sources.add(owner[node])
            elif hasattr(node, "variable"):  # where a parameter enters the graph
                if id(node.variable) not in counted:
                    counted.add(id(node.variable))
                    parameters += node.variable.numel()
            elif node is not None:
                owner[node] = one.name
                waiting += [before for before, _ in node.next_functions]
        until = trace.flops if place == len(found) - 1 else one.flops_after
        used = tuple(sorted(sources, key=order.__getitem__))
        rows.append(Block(one.name, "block", one.shape, parameters, (until - flops) // 2, used, one.gates))
        flops = until
    return rows


def _with_parts(rows: Sequence[Block]) -> list[Block]:
    """Every block's part by its name, else by whether it stands before or after the smallest feature map."""
    sides = [row.shape[-1] if len(row.shape) == 3 else rows[0].shape[-1] for row in rows]
    deepest = sides.index(min(sides))

    def part(place: int, words: Sequence[str]) -> Part:
        if place == 0:
            return "input"
        for name, known in (("encoder", ENCODERS), ("decoder", DECODERS)):
            if any(word in known for word in words):
                return name  # type: ignore[return-value]  # one of the two above
        if any(known in word for word in words for known in HEADS):
            return "head"
        return "block" if deepest == 0 else "encoder" if place <= deepest else "decoder"

    return [replace(row, part=part(place, row.name.lower().split("."))) for place, row in enumerate(rows)]
