"""A table's cells as HTML. In Python and not in a template: a report of 1,000 trials has 40,000 cells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from numbers import Number

from markupsafe import Markup, escape

from harness.report.tables import Cell

BREAKS = (" ", "-", "/")
LONG = 30  # characters: a longer part of a list may break inside


def cells_html(row: Sequence[Cell], head: int) -> Markup:
    """`<td>` after `<td>`; the cell at index `head` is the row's `<th>`. Every text is escaped."""
    cells = [
        _cell(cell, "th", ' scope="row"') if index == head else _cell(cell, "td", "") for index, cell in enumerate(row)
    ]
    return Markup("".join(cells))


@lru_cache(maxsize=4096)  # many cells say the same
def _escaped(text: str) -> str:
    return str(escape(text))


def parts_html(text: str) -> Markup:
    """A list such as `unet · efficientnet-b0 · imagenet`, which breaks between its parts and not inside them."""
    return Markup(_parts(text))


def _cell(cell: Cell, tag: str, scope: str) -> str:
    style = ""
    if cell.shade is not None:  # light enough for the text on it
        style = (
            f' style="background:rgba(var(--{"against" if cell.shade < 0 else "tint"}),{abs(cell.shade) * 0.5:.3f})"'
        )
    title = f' title="{_escaped(cell.title)}"' if cell.title else ""
    swatch = f'<span class="swatch" style="background:{_escaped(cell.swatch)}"></span>' if cell.swatch else ""
    tags = "".join([f'<span class="tag">{_escaped(one)}</span>' for one in cell.tags])
    bar = "" if cell.bar is None else f'<span class="bar"><i style="width:{cell.bar * 100:.1f}%"></i></span>'
    note = _escaped(cell.note) if cell.note else ""
    if note:
        linked = f'<a href="{_escaped(cell.note_href)}">{note}</a>' if cell.note_href else note
        note = f" <small>{linked}</small>"
    return f"<{tag}{scope}{_sort(cell)}{title}{style}>{swatch}{_text(cell)}{tags}{bar}{note}</{tag}>"


def _sort(cell: Cell) -> str:
    """Numbers sort by nine digits; where the text says as much, it is enough."""
    if cell.numeric:
        if not cell.note and str(cell.sort) == cell.text:
            return ' class="n"'
        return f' class="n" data-sort="{"" if cell.sort is None else format(float(cell.sort), ".9g")}"'
    if cell.sort is None:
        return ""
    return f' data-sort="{_escaped(str(cell.sort))}"{" data-number" if isinstance(cell.sort, Number) else ""}'


def _text(cell: Cell) -> str:
    if cell.href:
        return f'<a href="{_escaped(cell.href)}">{_parts(cell.text)}</a>'
    if cell.strong:
        return f"<b>{_escaped(cell.text)}</b>"
    return _escaped(cell.text) if cell.numeric else _parts(cell.text)


@lru_cache(maxsize=4096)
def _parts(text: str) -> str:
    parts = text.split(" · ")
    shown = []
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        one = _escaped(part) if last else f"{_escaped(part)} ·"
        kept = len(part) < LONG and (not last or any(mark in part for mark in BREAKS))
        shown.append(f'<span class="part">{one}</span>' if kept else one)
    return " ".join(shown)
