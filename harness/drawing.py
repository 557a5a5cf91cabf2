"""What all pictures share: a canvas, class colours, legends, the scale bar, PNG bytes.

matplotlib is imported when something is drawn, and without pyplot: no global state, no window.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.config.palette import UNDEFINED_RGB, class_colours, hex_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

Rgb = NDArray[np.uint8]  # (H, W, 3)
Classes = NDArray[np.uint8]  # (H, W): 0 undefined, 1..K classes

DPI = 110
INK = "#222222"
FAINT = "#9a9a9a"
EDGE = "#999999"

# A scale bar is one of these, the longest that is at most a third of the picture's width.
SCALE_BARS_UM = (5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000)


def canvas(width_in: float, height_in: float) -> Figure:
    """An empty white figure that lays itself out."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")


def drawn(figure: Figure, form: str = "png") -> bytes:
    """The figure as the bytes of a PNG, or of another form that matplotlib writes (`svg`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    if form == "png":
        # `savefig` draws twice, the first time for the layout alone, which a single drawing settles as well: the same
        # pixels in half the time.
        figure.set_dpi(DPI)
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]  # matplotlib leaves it untyped
    else:
        figure.savefig(buffer, format=form, dpi=DPI)
    return buffer.getvalue()


def coloured(classes_HW: Classes, names: Sequence[str]) -> Rgb:
    """Classes 1..K, called `names`, in their colours; 0 is undefined."""
    table = np.zeros((256, 3), np.uint8)
    table[0] = UNDEFINED_RGB
    table[1 : len(names) + 1] = list(class_colours(names).values())
    return np.asarray(table[classes_HW], np.uint8)


def class_marks(names: Iterable[str]) -> list[Patch]:
    """Legend entries: every class in its colour, then undefined."""
    from matplotlib.patches import Patch

    marks = [Patch(facecolor=hex_colour(colour), label=spoken(name)) for name, colour in class_colours(names).items()]
    return [*marks, Patch(facecolor=hex_colour(UNDEFINED_RGB), edgecolor=EDGE, label="undefined")]


def as_picture(axes: Axes) -> None:
    """Axes that hold a picture: no ticks, a grey frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(EDGE)


def scale_bar(axes: Axes, *, width_px: float, um_per_px: float) -> int:
    """Draw a scale bar into a picture `width_px` wide (in its own pixels); returns its length in um."""
    from matplotlib.patheffects import withStroke

    fitting = [um for um in SCALE_BARS_UM if um <= width_px * um_per_px / 3]
    length_um = fitting[-1] if fitting else SCALE_BARS_UM[0]
    share = length_um / um_per_px / width_px
    outline = [withStroke(linewidth=4, foreground="white")]
    right, bottom = 0.96, 0.06
    axes.plot(
        [right - share, right], [bottom, bottom], transform=axes.transAxes,
        color="black", linewidth=2, solid_capstyle="butt", path_effects=outline,
    )  # fmt: skip
    axes.text(
        right - share / 2, bottom + 0.02, f"{length_um} µm", transform=axes.transAxes, fontsize=7, color="black",
        ha="center", va="bottom", path_effects=[withStroke(linewidth=2, foreground="white")],
    )  # fmt: skip
    return length_um


def short_count(pixels: int) -> str:
    """`950`, `12k`, `3.4M`: a count that fits a cell."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if pixels >= size:
            return f"{pixels / size:.1f}{unit}" if pixels < 10 * size else f"{pixels / size:.0f}{unit}"
    return str(pixels)


def spoken(name: str) -> str:
    """A class name as people write it."""
    return name.replace("_", " ")


def wrapped(name: str) -> str:
    """The same over several lines of ten letters."""
    return textwrap.fill(spoken(name), 10, break_long_words=False)


def shortened(name: str) -> str:
    """A file's or region's name by its two ends."""
    return name if len(name) <= 40 else f"{name[:19]}…{name[-19:]}"
