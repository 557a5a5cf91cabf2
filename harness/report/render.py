"""What every page is made with: templates, one style, one script, and the files beside it. Loads no torch."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.files import write_bytes, write_text, written_aside
from harness.report import figures
from harness.report.cells import cells_html, parts_html
from harness.report.pictures import Picture
from harness.report.raster import pngs, standalone
from harness.report.wording import plural

# Control characters, and those that turn the direction of the text after them.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(slots=True)
class Beside:
    """Files to be written next to a page, into `figures/`: our own SVGs, pictures to copy, and PNGs drawn for it."""

    drawn: dict[str, str] = field(default_factory=dict)  # name -> SVG file
    copied: list[Picture] = field(default_factory=list)
    tiles: dict[str, bytes] = field(default_factory=dict)  # name -> small picture: PNG, JPEG or WebP

    @property
    def files(self) -> dict[str, Path | None]:
        """Every file's name in `figures/`, and where it is copied from (None: drawn here); an SVG has a PNG twin."""
        copied = {picture.path.removeprefix("figures/"): picture.source for picture in self.copied}
        twins = (name.removesuffix(".svg") + ".png" for name in self.drawn)
        return {**dict.fromkeys((*self.drawn, *twins, *self.tiles)), **copied}

    def draw(self, name: str, svg: str) -> Markup:
        """Keep our own SVG (its texts were escaped when it was drawn) as a file, and return it for the page."""
        if svg:
            self.drawn[name] = standalone(svg)
        return Markup(svg)

    def write(self, folder: Path) -> None:
        """Write all of them into `folder`, the page's; each is replaced in one step."""
        figures_folder = folder / "figures"
        # A PNG is written before its SVG: where the SVG is as it was, so is the PNG, .1 s each that are not spent.
        changed = {name: svg for name, svg in self.drawn.items() if not _is_there(figures_folder / name, svg)}
        for name, content in {**self.tiles, **pngs(changed)}.items():
            write_bytes(figures_folder / name, content, settle=False)
        for name, svg in changed.items():
            write_text(figures_folder / name, svg, settle=False)
        for picture in self.copied:
            with written_aside(folder / picture.path, settle=False) as aside:
                shutil.copyfile(picture.source, aside)


def _is_there(file: Path, svg: str) -> bool:
    """Whether a figure was written just so, with its twin."""
    try:
        return file.with_suffix(".png").exists() and file.read_bytes() == svg.encode()
    except OSError:
        return False


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """The HTML of `harness/report/templates/<template>`; every value is escaped unless it is Markup."""
    script = _asset("page.js")
    return _seen(
        _environment()
        .get_template(template)
        .render(
            **values,
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            number_table=itertools.count(1).__next__,
            number_figure=itertools.count(1).__next__,
            plural=plural,
            style=_style(),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _seen(html: str) -> str:
    """With the code point, as in `[U+202E]`, of every character that a browser would drop or obey."""
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", html)


def _style() -> Markup:
    """Our own files: nothing in them comes from a sweep."""
    dark = f"@media screen and (prefers-color-scheme:dark){{{figures.DARK}}}"
    return Markup(_asset("page.css") + figures.STYLE + dark)


@cache
def _asset(name: str) -> str:
    return (files("harness.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("harness.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals |= {"cells": cells_html, "parts": parts_html}
    return made
