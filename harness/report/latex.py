"""Boards and the pivot as LaTeX that compiles as it is and fits a page of 12 cm and more."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.report.boards import Board
from harness.report.exports import board_title, plain_board
from harness.report.pivot import Pivot, cell_words
from harness.report.queries import Sweep
from harness.report.wording import ABSENT, MINUS

PREAMBLE = r"% Needs \usepackage[T1]{fontenc}, \usepackage{array} and \usepackage{booktabs}."
# A float cannot break over pages, and names may take four lines: 60 of them fill a page.
MOST_ROWS = 15
# Widths of the columns of words, in shares of the text's width; numbers take what they need.
_MODEL, _RUN, _SETTING = 0.13, 0.11, 0.09

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    # Long names may break after one of these.
    "_": r"\_\allowbreak{}", "/": r"/\allowbreak{}",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "'": r"\textquotesingle{}", "`": r"\textasciigrave{}",
    # Two in a row would become one dash.
    "-": r"-{}",
    # After a line's \\ a bracket would be read as its optional argument, and a star as its variant.
    "[": "{[}", "]": "{]}", "*": "{*}",
    MINUS: "$-$", "Δ": r"$\Delta$", "µ": r"$\mu$", "·": r"$\cdot$", "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$", "°": r"$^\circ$",
    "\N{NO-BREAK SPACE}": "~", ABSENT: "--",
}  # fmt: skip


# What T1 has a glyph for, beyond ASCII.
_KNOWN = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿ"
    "ĂăĄąĆćČčĎďĐđĘęĚěĞğİıĹĺĽľŁłŃńŇňŐőŒœŔŕŘřŚśŞşŠšŢţŤťŮůŰűŸŹźŻżŽž“”„…"
)


def leaderboard_tex(sweep: Sweep, boards: Sequence[Board]) -> str:
    """One `table` per board, each with its first MOST_ROWS rows; the files beside it have them all."""
    return "\n\n".join([PREAMBLE, *(_board(board, sweep) for board in boards)]) + "\n"


def pivot_tex(pivots: Sequence[Pivot]) -> str:
    """One `table` per pivot: models by label maps and patch filters, the number of runs in each cell."""
    return "\n\n".join([PREAMBLE, *(_pivot(found) for found in pivots)]) + "\n"


def tex(text: str) -> str:
    """Text that LaTeX prints as it is, in any encoding; what T1 has no glyph for becomes its code point in brackets.

    Control characters become spaces, and invisible ones (which LaTeX takes for errors) nothing.
    """
    flat = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
    return "".join(_character(char) for char in flat)


def _character(char: str) -> str:
    if char in _SPECIAL:
        return _SPECIAL[char]
    if char.isascii() or char in _KNOWN:
        return char
    return f"{{[}}U+{ord(char):04X}{{]}}" if char.isprintable() else ""


def _board(board: Board, sweep: Sweep) -> str:
    heads, rows = plain_board(board, sweep, most=MOST_ROWS)
    count = len(board.rows)
    caption = board_title(board) + (f" (the first {MOST_ROWS} of {count} rows)" if count > MOST_ROWS else "")
    words = (_MODEL, _RUN, _SETTING)
    columns = "r" + "".join(_words(share) for share in words) + "r" * (len(heads) - 1 - len(words))
    lines = [_line([tex(cell) for cell in row]) for row in rows]
    return _table(caption, columns, [_line([tex(head) for head in heads])], lines)


def _pivot(found: Pivot) -> str:
    label_maps = list(dict.fromkeys(labels for labels, _ in found.columns))
    spans = [(labels, sum(of == labels for of, _ in found.columns)) for labels in label_maps]
    top = ["", *(rf"\multicolumn{{{width}}}{{c}}{{{tex(labels)}}}" for labels, width in spans)]
    rules, start = [], 2
    for _, width in spans:
        rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    below = ["Model", *(tex(patches.replace("_", "-")) for _, patches in found.columns)]
    lines = []
    for model in found.models:
        cells = [_pivot_cell(found, model, column) for column in found.columns]
        lines.append(_line([tex(model), *cells]))
    share = 0.25 if len(found.columns) <= 4 else 0.15
    heads = [_line(top) + "\n" + " ".join(rules), _line(below)]
    return _table(f"{found.title}. {found.note}", _words(share) + "r" * len(found.columns), heads, lines)


def _pivot_cell(found: Pivot, model: str, column: tuple[str, str]) -> str:
    cell = found.cells.get((model, column))
    if cell is None:
        return "--"
    score, note = cell_words(cell)
    shown = rf"\textbf{{{tex(score)}}}" if cell.best else tex(score)
    parts = [shown, *(rf"\scriptsize {tex(part)}" for part in note.split("; "))]
    return r"\shortstack[r]{" + r"\\".join(parts) + "}"


def _words(share: float) -> str:
    return rf">{{\raggedright\arraybackslash}}p{{{share}\textwidth}}"


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _table(caption: str, columns: str, heads: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join([
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{2pt}",
        rf"\caption{{{tex(caption)}}}",
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        *heads,
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ])  # fmt: skip
