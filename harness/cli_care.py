"""`harness doctor`: whether a home keeps its promises, and repairs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli_base import Command, home_option, json_option
from harness.cli_report import named_sweep
from harness.errors import TrialsFailed

if TYPE_CHECKING:
    from harness.sweep.layout import Home, SweepFolder


@click.command(cls=Command)
@click.argument("sweep", required=False)
@click.option("--fix", is_flag=True, help="Repair what can be repaired; refused while a sweep runs.")
@click.option("--storage", metavar="URL", help="Optuna's storage, if the sweep was run with one.")
@json_option
@home_option
def doctor(sweep: str | None, fix: bool, storage: str | None, as_json: bool, home: Path | None) -> None:
    """Check every promise about SWEEP (default: all of the home): folders, byte by byte, Optuna, MLflow.

    Exit code 0: everything is as it should be, or was repaired; 4: something is left.
    """
    from harness.sweep.doctor import document_of, examine, line_of, summary_of
    from harness.sweep.layout import open_home

    at = open_home(home)
    reports = [examine(one, at, storage=storage, fix=fix) for one in _sweeps(at, sweep)]
    if as_json:
        click.echo(json.dumps(document_of(reports, at), indent=1))
    else:
        for report in reports:
            for finding in report.repaired:
                click.echo(f"repaired  {line_of(finding, at.path)}")
            for finding in report.left:
                click.echo(f"{'left' if fix else 'found'}  {line_of(finding, at.path)}")
            for note in report.notes:
                click.echo(f"note  {note}")
        click.echo(summary_of(reports, fix=fix))
    if any(report.left for report in reports):
        sys.exit(TrialsFailed.exit_code)


def _sweeps(home: Home, name: str | None) -> list[SweepFolder]:
    if name is not None:
        return [named_sweep(home, name)]
    return [home.sweep(path.name) for path in sorted(home.sweeps.glob("*")) if path.is_dir()]
