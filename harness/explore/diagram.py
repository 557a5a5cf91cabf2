"""The block diagram of a network: boxes from left to right as they are computed, from top to bottom as maps shrink.

A U-Net draws itself as a U that way; a network of one resolution is a chain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.drawing import INK, canvas
from harness.explore.layers import Block, Part, totals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches.
BOX_WIDTH, BOX_HEIGHT = 1.14, 0.62
GAP, ROW = 0.22, 1.02
STEP = 0.68 * BOX_WIDTH  # to the next box when it is on another row
MARGIN, HEADER = 0.3, 0.92  # the head line stays clear of arcs over the first row

COLOURS: Mapping[Part, str] = {
    "input": "#ffffff",
    "encoder": "#cfe3f3",
    "decoder": "#f7dcc4",
    "head": "#d9ead3",
    "block": "#e8e8e8",
}
GATE = "#b3467a"
SKIP = "#0072b2"


@dataclass(frozen=True, slots=True)
class Box:
    """Where a block is drawn: its centre in inches from the top left, and its row."""

    block: Block
    x: float
    row: int

    @property
    def y(self) -> float:
        """Of the centre, downwards."""
        return self.row * ROW + BOX_HEIGHT / 2


def placed(blocks: Sequence[Block]) -> list[Box]:
    """Every computed block; rows are the resolutions that occur, finest on top; no two boxes overlap."""
    drawn = [block for block in blocks if block.part != "unused"]
    sides, side = [], drawn[0].shape[-1]
    for block in drawn:
        side = block.shape[-1] if len(block.shape) == 3 else side  # a map without height stays on its row
        sides.append(side)
    rows = {side: row for row, side in enumerate(sorted(set(sides), reverse=True))}
    boxes: list[Box] = []
    last_x: dict[int, float] = {}
    x = 0.0
    for block, side in zip(drawn, sides, strict=True):
        row = rows[side]
        if boxes:
            x = max(x + STEP, last_x.get(row, -math.inf) + BOX_WIDTH + GAP)
        boxes.append(Box(block, x + BOX_WIDTH / 2, row))
        last_x[row] = x
    return boxes


def diagram_figure(blocks: Sequence[Block], title: str) -> Figure:
    """The diagram, with the totals of the network in its head line."""
    boxes = placed(blocks)
    by_name = {box.block.name: box for box in boxes}
    width = max(max(box.x for box in boxes) + BOX_WIDTH / 2 + 2 * MARGIN, 8.4)
    height = (max(box.row for box in boxes) + 1) * ROW + HEADER + MARGIN
    figure = canvas(width, height)
    figure.set_layout_engine("none")  # everything has its place in inches
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-MARGIN, width - MARGIN)
    axes.set_ylim(height - HEADER, -HEADER)
    axes.axis("off")
    for place, box in enumerate(boxes):
        before = boxes[place - 1] if place else None
        for source in box.block.sources:
            _arrow(axes, by_name[source], box, boxes, is_skip=by_name[source] is not before)
    for box in boxes:
        _draw_box(axes, box)
    axes.text(0, -HEADER + 0.12, title, fontsize=11.5, color=INK, va="top")
    axes.text(0, -HEADER + 0.36, summary(blocks), fontsize=8.5, color="#555555", va="top")
    _legend(figure, boxes)
    return figure


def summary(blocks: Sequence[Block]) -> str:
    """`6.25M parameters (encoder 4.01M, ...), 2.93G multiply-adds for one image`."""
    parts = totals(blocks)
    parameters = sum(count for count, _ in parts.values())
    named = ", ".join(f"{part} {scaled(count)}" for part, (count, _) in parts.items())
    shape = blocks[0].shape
    cost = scaled(sum(cost for _, cost in parts.values()))
    return (
        f"{scaled(parameters)} parameters ({named}); {cost} multiply-adds for one image of {shape[1]} x {shape[2]} px"
    )


def scaled(count: int) -> str:
    """Three digits and a unit: `950`, `36.0k`, `4.01M`, `2.93G`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.{2 - math.floor(math.log10(max(value, 1)) + 1e-9)}f}{unit}"
    return str(count)


def shape_text(shape: Sequence[int]) -> str:
    """`24 x 64 x 64`: channels, height, width."""
    return " x ".join(str(length) for length in shape)


def short_name(name: str) -> str:
    """The end of a block's name that fits a box."""
    name = name.removeprefix("decoder.").removeprefix("blocks.").replace("segmentation_head", "head")
    name = name.replace("_blocks.", " ").replace("_stage.", " ").replace(".", " ")
    name = f"decoder {name}" if name[:1].isdigit() or name.startswith("x_") else name.replace("_", " ")
    return name if len(name) <= 16 else f"{name[:8]}…{name[-7:]}"


def _draw_box(axes: Axes, box: Box) -> None:
    from matplotlib.patches import FancyBboxPatch

    block, corner = box.block, (box.x - BOX_WIDTH / 2, box.y - BOX_HEIGHT / 2)
    shape = FancyBboxPatch(
        corner, BOX_WIDTH, BOX_HEIGHT, boxstyle="round,pad=0,rounding_size=0.07",
        facecolor=COLOURS[block.part], edgecolor="#777777", linewidth=0.9, zorder=3,
    )  # fmt: skip
    axes.add_patch(shape)
    lines = [(short_name(block.name), 7.6, INK), (shape_text(block.shape), 8.6, INK)]
    if block.part != "input":
        lines.append((f"{scaled(block.parameters)} · {scaled(block.multiply_adds)}", 6.6, "#666666"))
    for (text, size, colour), offset in zip(lines, (-0.19, 0.01, 0.2), strict=False):
        axes.text(box.x, box.y + offset, text, fontsize=size, color=colour, ha="center", va="center", zorder=4)


def _arrow(axes: Axes, source: Box, target: Box, boxes: Sequence[Box], *, is_skip: bool) -> None:
    """From box to box; what is not the step before goes in blue, past the boxes that would be in the way."""
    half_w, half_h = BOX_WIDTH / 2, BOX_HEIGHT / 2
    bend = 0.0
    if source.row == target.row:
        between = [box for box in boxes if box.row == source.row and source.x < box.x < target.x]
        start, end = (source.x + half_w, source.y), (target.x - half_w, target.y)
        if between:  # over their heads
            start, end = (source.x + 0.25, source.y - half_h), (target.x - 0.25, target.y - half_h)
            bend = -0.55 / max(end[0] - start[0], 1.0)
    else:
        down = 1 if target.row > source.row else -1
        overlap = (source.x + target.x) / 2 if abs(target.x - source.x) < BOX_WIDTH else None
        start = (overlap or source.x + 0.3 * BOX_WIDTH, source.y + down * half_h)
        end = (overlap or target.x - 0.3 * BOX_WIDTH, target.y - down * half_h)
    axes.annotate(
        "", xy=end, xytext=start, zorder=2,
        arrowprops={
            "arrowstyle": "-|>", "color": SKIP if is_skip else "#555555", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0,
            "mutation_scale": 9, "connectionstyle": f"arc3,rad={bend:.3f}",
        },
    )  # fmt: skip
    if target.block.gates and is_skip and source.row == target.row:
        axes.plot([end[0] - 0.2], [end[1]], marker="o", markersize=10, color="white", mec=GATE, mew=1.5, zorder=5)
        axes.text(end[0] - 0.2, end[1], "g", fontsize=8, color=GATE, ha="center", va="center", zorder=6)


def _legend(figure: Figure, boxes: Sequence[Box]) -> None:
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    parts = dict.fromkeys(box.block.part for box in boxes if box.block.part != "input")
    marks: list[Artist] = [Patch(facecolor=COLOURS[part], edgecolor="#777777", label=part) for part in parts]
    steps = {(before.block.name, box.block.name) for before, box in pairwise(boxes)}
    if any((source, box.block.name) not in steps for box in boxes for source in box.block.sources):
        marks.append(Line2D([], [], color=SKIP, label="skip"))
    if any(box.block.gates for box in boxes):
        gate = Line2D(
            [], [], marker="o", markersize=8, color="white", mec=GATE, mew=1.5, linestyle="", label="attention gate"
        )
        marks.append(gate)
    marks.append(Line2D([], [], linestyle="", label="small: parameters · multiply-adds"))
    figure.legend(
        handles=marks,
        loc="lower left",
        ncols=len(marks),
        fontsize=8,
        frameon=False,
        handlelength=1.4,
        columnspacing=1.3,
    )
