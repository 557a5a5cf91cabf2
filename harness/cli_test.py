"""`harness test`: the leaders of a finished sweep on the patients that were kept apart."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli_base import Command, home_option, json_option, slot_options
from harness.cli_report import named_sweep, write_report


@click.command("test", cls=Command)
@click.argument("sweep")
@slot_options
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True,
              help="Where the report goes.")  # fmt: skip
@json_option
@home_option
def held_out(sweep: str, device: str, workers: int | None, out: Path, as_json: bool, home: Path | None) -> None:
    """Score the leader of each board of SWEEP on its test patients, and write the report with it.

    For a finished sweep with `data.split.test`: patients that no run was trained on or picked by. Every opening is
    counted, and the report says how many there were; the ranks stay those of validation.
    """
    from dataclasses import asdict

    from harness.execute.devices import workplaces
    from harness.report.boards import group_boards
    from harness.report.held_out import held_out as rows_of
    from harness.report.queries import read_sweep
    from harness.scoring.held_out import open_test
    from harness.sweep.layout import open_home
    from harness.sweep.progress import Screen

    at, screen = open_home(home), Screen()
    generation = named_sweep(at, sweep).last_generation()
    opening = open_test(generation, at, workplaces(device, workers, stores=at.stores)[0], screen)
    if not opening.scored:
        screen.note("scored before: nothing was opened")
    page = write_report(generation, out)
    read = read_sweep(generation.path)
    found = rows_of(read, group_boards(read))
    if as_json:
        rows = [asdict(one) for one in found]
        click.echo(json.dumps({"schema": "harness.test/1", "opened": opening.times, "rows": rows}, indent=1))
        return
    for one in found:
        click.echo(one.sentence)
    click.echo(f"report: {page.resolve()}")
