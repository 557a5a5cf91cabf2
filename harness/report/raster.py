"""A figure as a file: an SVG that any program opens, and a PNG of it in one font everywhere.

The page's colours are CSS variables, which follow light and dark. Drawing programs and word processors know none of
them, so that a file has its colours written out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from harness.report.figures import STYLE

# 2 pixels a unit: 1,440 px wide, 300 dpi at 122 mm, more than a column of a journal.
ZOOM = 2.0
FONT = "DejaVu Sans"  # comes with matplotlib: a PNG looks the same on a server without fonts
_FONT_FILES = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")
_VARIABLE = re.compile(r"var\((--[\w-]+)\)")


def standalone(svg: str) -> str:
    """An SVG file that brings its style along, on white ground for print."""
    head, body = svg.split(">", 1)
    size = f'{head} xmlns="http://www.w3.org/2000/svg" style="background:#fff">'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{size}<style>{plain_style()}</style>{body}\n'


def pngs(drawn: Mapping[str, str]) -> dict[str, bytes]:
    """`<name>.png` for every `<name>.svg` of `standalone` files, in threads: the renderer needs no interpreter."""
    with ThreadPoolExecutor() as pool:
        rendered = pool.map(_png, drawn.values())
        return {name.removesuffix(".svg") + ".png": png for name, png in zip(drawn, rendered, strict=True)}


@cache
def plain_style() -> str:
    """The figures' style with every variable replaced by its colour on white ground.

    `--c` is set by the classes s0, s1, ... and used by others: a rule with it becomes one rule for each of them.
    """
    colours = dict(re.findall(r"(--[\w-]+):(#[0-9a-fA-F]{3,8})", STYLE))
    series = re.findall(r"\.figure \.(s\d+)\{--c:var\((--[\w-]+)\)\}", STYLE)
    rules = []
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", STYLE):
        settings = [one for one in body.split(";") if one.strip() and not one.strip().startswith("--")]
        plain = ";".join(settings)
        if not plain:
            continue
        if "var(--c)" not in plain:
            rules.append((selectors.strip(), plain))
            continue
        for name, variable in series:
            chosen = ",".join(f"{one.strip()}.{name}" for one in selectors.split(","))
            rules.append((chosen, plain.replace("var(--c)", f"var({variable})")))
    return "\n".join(f"{chosen}{{{_VARIABLE.sub(lambda m: colours[m[1]], body)}}}" for chosen, body in rules)


def _png(svg: str) -> bytes:
    import resvg_py

    rendered: bytes = bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg, zoom=ZOOM, background="white", skip_system_fonts=True, font_files=_fonts(),
            font_family=FONT, sans_serif_family=FONT,
        )
    )  # fmt: skip
    return rendered


@cache
def _fonts() -> list[str]:
    found = find_spec("matplotlib")  # where it is; importing it would take half a second
    assert found is not None and found.origin is not None
    return [str(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / name) for name in _FONT_FILES]
