"""One colour per class name, the same in every figure of every trial and report.

Colours are from Okabe and Ito, "Color Universal Design" (2008), which stay apart under the common
deficiencies of colour vision; tumors are warm, stroma is blue, as pathology figures tend to be.
"""

from __future__ import annotations

from collections.abc import Iterable

Rgb = tuple[int, int, int]

UNDEFINED_RGB: Rgb = (255, 255, 255)
CORRECT_RGB: Rgb = (232, 232, 232)
WRONG_RGB: Rgb = (140, 16, 60)

KNOWN: dict[str, Rgb] = {
    "undefined": UNDEFINED_RGB,
    "invasive_tumor": (213, 94, 0),
    "in_situ_tumor": (230, 159, 0),
    "tumor": (213, 94, 0),
    "tumor_stroma": (86, 180, 233),
    "inflamed_stroma": (0, 114, 178),
    "stroma": (86, 180, 233),
    "healthy_glands": (0, 158, 115),
    "necrosis": (70, 70, 70),
    "rest": (204, 196, 178),
    "other": (204, 196, 178),
}

# For names we do not know, in this order; a colour that a known class of the same map has is passed over.
FALLBACK: tuple[Rgb, ...] = (
    (204, 121, 167),
    (240, 228, 66),
    (0, 158, 115),
    (0, 114, 178),
    (213, 94, 0),
    (86, 180, 233),
    (230, 159, 0),
    (110, 90, 60),
    (70, 70, 70),
    (153, 119, 221),
)


def class_colours(names: Iterable[str]) -> dict[str, Rgb]:
    """An RGB colour (0..255) for every name: known ones by name, others from the fallback list in order."""
    wanted = tuple(names)
    taken = {KNOWN[name] for name in wanted if name in KNOWN}
    free = [colour for colour in FALLBACK if colour not in taken] or list(FALLBACK)
    unknown = [name for name in wanted if name not in KNOWN]
    # More unknown classes than colours: the list starts again, which beats an error in a picture.
    invented = {name: free[i % len(free)] for i, name in enumerate(unknown)}
    return {name: KNOWN.get(name) or invented[name] for name in wanted}


def hex_colour(colour: Rgb) -> str:
    """`(213, 94, 0)` as `#d55e00`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
