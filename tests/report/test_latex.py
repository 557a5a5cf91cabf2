"""LaTeX: an independent reader gets every word back, and LaTeX itself, where it is installed, takes every table."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from pylatexenc.latex2text import LatexNodes2Text, MacroTextSpec, get_default_latex_context_db
from pylatexenc.latexwalker import LatexWalker

from harness.report.boards import group_boards, yardstick_boards
from harness.report.latex import MOST_ROWS, leaderboard_tex, pivot_tex, tex
from harness.report.pivot import pivots_of
from harness.report.queries import Sweep, read_sweep
from tests.report.factory import SweepFolder
from tests.report.hostile import HOSTILE

DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{array}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


# Commands of LaTeX's kernel (fntguide.pdf) that the reader's own table lacks.
KERNEL = {"textless": "<", "textgreater": ">", "textbar": "|", "textquotedbl": '"', "textasciicircum": "^"}
CONTEXT = get_default_latex_context_db()
CONTEXT.add_context_category(
    "kernel", prepend=True, macros=[MacroTextSpec(name, said) for name, said in KERNEL.items()]
)
READER = LatexNodes2Text(latex_context=CONTEXT)


def strata(tmp_path: Path) -> Sweep:
    """Two label maps by two patch filters, two models; one cell without a run; a name that LaTeX would run."""
    folder = SweepFolder(tmp_path, strata={"labels": ["tiger7", "unicorn3"], "patches": ["all", "non_homogeneous"]})
    for labels in ("tiger7", "unicorn3"):
        for patches in ("all", "non_homogeneous"):
            for model, error in (("unet", 0.2), (r"\input{/etc/passwd}", 0.4)):
                if (labels, patches, model) != ("tiger7", "all", "unet"):
                    chosen = {"architecture": model, "patches": patches, "learning_rate": 1e-3}
                    folder.trial(chosen, labels=labels, error=error)
    folder.trial({"architecture": "unet", "patches": "all", "learning_rate": 1e-5}, labels="unicorn3", error=0.9)
    return read_sweep(folder.path)


def boards(sweep: Sweep) -> str:
    return leaderboard_tex(sweep, (*yardstick_boards(sweep), *group_boards(sweep)))


def test_a_pivot_cell_is_the_best_run_and_says_of_how_many(tmp_path: Path) -> None:
    """unicorn3, all patches, unet: the better of two; the model without a run has a dash; bold where it is best."""
    sweep = strata(tmp_path)
    scores = {
        trial.uid: trial.scored.scores["val/iou"]
        for trial in sweep.complete
        if trial.scored and trial.parameters["labels"] == "unicorn3" and trial.parameters["patches"] == "all"
        and trial.parameters["architecture"] == "unet"
    }  # fmt: skip
    best = max(value for value in scores.values() if value is not None)
    (line,) = [line for line in pivot_tex(pivots_of(sweep)[:1]).splitlines() if line.startswith("unet")]
    cells = [cell.strip() for cell in line.removesuffix(r" \\").split(" & ")]
    assert len(scores) == 2
    assert cells[0] == "unet" and cells[1] == "--"
    uid = next(uid for uid, value in scores.items() if value == best)
    row = next(row for board in group_boards(sweep) for row in board.rows if row.trial.uid == uid)
    assert row.trust.interval is not None
    interval = f"{row.trust.interval.low:.2f} to {row.trust.interval.high:.2f}"
    assert cells[3] == rf"\shortstack[r]{{\textbf{{{best:.3f}}}\\\scriptsize {interval}\\\scriptsize n = 2}}"


def test_the_heads_of_a_pivot_span_the_columns_of_their_label_map(tmp_path: Path) -> None:
    """Two patch filters below each label map."""
    text = pivot_tex(pivots_of(strata(tmp_path))[:1])
    assert r" & \multicolumn{2}{c}{tiger7} & \multicolumn{2}{c}{unicorn3} \\" in text
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-5}" in text
    assert r"Model & all & non-{}homogeneous & all & non-{}homogeneous \\" in text


@pytest.mark.parametrize("name", HOSTILE)
def test_an_independent_reader_gets_a_name_back(name: str) -> None:
    """But for white space, which LaTeX folds, and characters without a glyph, which are named by their code point."""
    printable = "".join(char for char in re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", name) if char.isprintable())
    expected = "".join(char if ord(char) < 0x100 else f"[U+{ord(char):04X}]" for char in printable)
    read = READER.latex_to_text(tex(name))
    assert unicodedata.normalize("NFKC", "".join(read.split())) == unicodedata.normalize(
        "NFKC", "".join(expected.split())
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_text_has_no_command_left(name: str) -> None:
    """After taking out our own escapes nothing is left that TeX would obey."""
    own = r"\\(?:text\w+|allowbreak)\{\}|-\{\}|\\[{}$&#%_]|\$-\$|\$\\(?:Delta|mu|cdot|pm|times)\$|\{[][*]\}"
    rest = re.sub(own, "", tex(name))
    assert not re.search(r"[\\{}$&#^_%\[\]\x00-\x1f]", rest)


def test_latex_rows_have_as_many_cells_as_the_head(tmp_path: Path) -> None:
    """An ampersand in a name makes no column."""
    folder = SweepFolder(tmp_path)
    folder.trial({"architecture": "unet", "encoder_weights": "a & b"})
    folder.trial({"architecture": "unet", "encoder_weights": "c"})
    lines = [line for line in boards(read_sweep(folder.path)).splitlines() if line.endswith(r"\\")]
    assert len(lines) == 6
    counts = (
        {len(re.findall(r"(?<!\\)&", line)) for line in lines[:3]},
        {len(re.findall(r"(?<!\\)&", line)) for line in lines[3:]},
    )
    assert all(len(count) == 1 for count in counts)


def test_a_long_board_is_cut_and_says_so(tmp_path: Path) -> None:
    """A float does not break over pages."""
    folder = SweepFolder(tmp_path)
    for number in range(MOST_ROWS + 1):
        folder.trial({"architecture": "unet", "learning_rate": 1e-3 + number / 1e4}, draw=number)
    sweep = read_sweep(folder.path)
    text = leaderboard_tex(sweep, group_boards(sweep))
    assert f"(the first {MOST_ROWS} of {MOST_ROWS + 1} rows)" in text
    assert text.count(r" \\") == MOST_ROWS + 1  # and the head


def test_environments_and_groups_close_with_every_hostile_name(tmp_path: Path) -> None:
    """A strict parser takes the tables whole."""
    LatexWalker(boards(hostile(tmp_path)) + pivot_tex(pivots_of(hostile(tmp_path / "2"))), tolerant_parsing=False)\
        .get_latex_nodes()  # fmt: skip


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (Debian: texlive-latex-recommended)")
@pytest.mark.slow
def test_latex_compiles_every_table_and_none_is_wider_than_the_text(tmp_path: Path) -> None:
    """Hostile names, every character that is passed on as it is, and the pivot; `Overfull` would be a cut table."""
    sweep, names = strata(tmp_path / "plain"), hostile(tmp_path / "hostile")
    letters = " ".join(tex(chr(code)) for code in (*range(0x20, 0x7F), *range(0xA0, 0x250), 0x4E00, 0x1F600))
    assert "Overfull" not in compiled(tmp_path / "a", boards(sweep) + pivot_tex(pivots_of(sweep)))
    compiled(tmp_path / "b", letters + boards(names) + pivot_tex(pivots_of(names)))


def hostile(tmp_path: Path) -> Sweep:
    folder = SweepFolder(tmp_path, strata={"labels": ["unicorn3"]})
    for number, name in enumerate(HOSTILE):
        folder.trial({"architecture": name, "loss": name, "learning_rate": 1e-3 + number / 1e4}, draw=number)
    return read_sweep(folder.path)


def compiled(folder: Path, body: str) -> str:
    """The log of pdflatex, which must end without an error."""
    folder.mkdir()
    (folder / "t.tex").write_text(DOCUMENT % body, encoding="utf-8")
    arguments = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-1500:]
    return done.stdout
