"""What the traps' pictures share beyond `harness.drawing`: two colours for the two sides, and quiet axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.drawing import FAINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's vermilion and blue: apart for every common kind of colour vision.
USUAL, HARNESS = "#d55e00", "#0072b2"


def score_axes(axes: Axes) -> None:
    """Axes of a chart: no box, faint horizontal lines."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color=FAINT, alpha=0.35, linewidth=0.6)
    axes.set_axisbelow(True)
