"""What every page is made with: templates, one style, one script, and the files beside it. Loads no torch."""

from __future__ import annotations

import base64
import hashlib
import itertools
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
from harness.report.pictures import Picture
from harness.report.wording import plural


@dataclass(slots=True)
class Beside:
    """Files to be written next to a page, into `figures/`: our own SVGs, pictures to copy, and PNGs drawn for it."""

    drawn: dict[str, str] = field(default_factory=dict)  # name -> SVG file
    copied: list[Picture] = field(default_factory=list)
    tiles: dict[str, bytes] = field(default_factory=dict)  # name -> PNG

    @property
    def files(self) -> dict[str, Path | None]:
        """Every file's name in `figures/`, and where it is copied from (None: drawn here)."""
        copied = {picture.path.removeprefix("figures/"): picture.source for picture in self.copied}
        return {**dict.fromkeys((*self.drawn, *self.tiles)), **copied}

    def draw(self, name: str, svg: str) -> Markup:
        """Keep our own SVG (its texts were escaped when it was drawn) as a file, and return it for the page."""
        if svg:
            self.drawn[name] = figures.standalone(svg)
        return Markup(svg)

    def write(self, folder: Path) -> None:
        """Write all of them into `folder`, the page's; each is replaced in one step."""
        for name, svg in self.drawn.items():
            write_text(folder / "figures" / name, svg)
        for name, png in self.tiles.items():
            write_bytes(folder / "figures" / name, png)
        for picture in self.copied:
            with written_aside(folder / picture.path) as aside:
                shutil.copyfile(picture.source, aside)


def render_page(template: str, values: Mapping[str, Any]) -> str:
    """The HTML of `harness/report/templates/<template>`; every value is escaped unless it is Markup."""
    script = _asset("page.js")
    return (
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


def _style() -> Markup:
    """Our own files: nothing in them comes from a sweep."""
    dark = f"@media screen and (prefers-color-scheme:dark){{{figures.DARK}}}"
    return Markup(_asset("page.css") + figures.STYLE + dark)


@cache
def _asset(name: str) -> str:
    return (files("harness.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("harness.report", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
