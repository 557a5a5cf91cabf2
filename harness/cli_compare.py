"""`harness compare`: trials side by side, in the terminal and as a page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli_base import Command, home_option, json_option
from harness.cli_report import named_sweep, ui_server
from harness.errors import Refused

if TYPE_CHECKING:
    from harness.report.compare import Comparison
    from harness.report.tables import Table


@click.command(cls=Command)
@click.argument("names", nargs=-1, required=True, metavar="A B [C...]")
@click.option(
    "--sweep", "sweep_name", metavar="NAME", help="Where the names are from (default: the sweep that ran last)."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Where the page goes.",
)
@json_option
@home_option
def compare(names: tuple[str, ...], sweep_name: str | None, out: Path, as_json: bool, home: Path | None) -> None:
    """Compare trials: settings, scores, which confusions moved, and where they disagree. Loads no torch.

    A trial is named by its uid or the start of it, by stratum and number, by its MLflow run, by the name that masks of
    another tool were given, or by its folder. Across comparability groups only settings and the yardstick are
    compared; the rest is refused with the reason (exit 3).

    \b
    harness compare unicorn3.all.0003 unicorn3.all.0005
    harness compare 'unicorn3/all #3' nnunet --sweep quickstart
    harness compare runs/sweeps/a/g1/trials/x.0001 runs/sweeps/b/g1/trials/x.0001
    """
    from harness.report.compare import compare as compare_sides
    from harness.report.compare import document
    from harness.report.compare_page import write_comparison
    from harness.report.queries import Sweep, read_sweep
    from harness.report.sides import is_trial_folder, sides_of
    from harness.report.tables import Links
    from harness.sweep.layout import open_home

    sweep: Sweep | None = None
    if sweep_name is not None or not all(is_trial_folder(name) for name in names):
        sweep = read_sweep(named_sweep(open_home(home), sweep_name).last_generation().path)
    found = compare_sides(sides_of(names, sweep))
    page, windows = write_comparison(found, out, links=Links(ui=ui_server()))
    if as_json:
        click.echo(json.dumps({**document(found), "windows": windows, "page": str(page.resolve())}, indent=1))
    else:
        click.echo(compare_text(found, shutil.get_terminal_size((100, 24)).columns))
        click.echo(f"page: {page.resolve()}")
    if found.refusal is not None:
        raise Refused(found.refusal)


def compare_text(found: Comparison, width: int) -> str:
    """The comparison's sentences and tables; curves and windows are on the page."""
    from harness.report.compare_tables import cost_table, patients_table, scores_table, settings_table, trials_table
    from harness.report.compare_words import answer, shown_moves

    here = Path()
    tables = [trials_table(found, None, here), settings_table("Settings", found.parameters, found.sides)]
    tables += [scores_table(found), patients_table(found), cost_table(found)]
    tables += [settings_table("Versions", found.environment, found.sides)]
    blocks = [_drawn_table(table, width) for table in tables if table.rows]
    blocks += [
        "\n".join([f"largest moves from A to {letter}:", *(f"  {sentence}" for sentence in sentences)])
        for letter, sentences in shown_moves(found)
        if sentences
    ]
    return "\n\n".join([*blocks, "\n".join(answer(found))])


def _drawn_table(table: Table, width: int) -> str:
    from harness.cli_text import escaped, table_text, text_table

    numeric = [cell.numeric for cell in table.rows[0]]
    drawn = text_table(*map(escaped, table.columns))
    for column, right in zip(drawn.columns, numeric, strict=True):
        column.justify = "right" if right else "left"
    for row in table.rows:
        drawn.add_row(*(escaped(cell.text) for cell in row))
    return table_text(drawn, width)
