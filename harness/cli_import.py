"""`harness import`: a sweep moves from one home into another, and its studies and runs with it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from harness.cli_base import Command, home_option, json_option, storage_option
from harness.errors import TrialsFailed


@click.command("import", cls=Command)
@click.argument("sweep")
@click.option(
    "--from",
    "old",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The home that has it; only read.",
)
@storage_option
@json_option
@home_option
def import_sweep(sweep: str, old: Path, storage: str | None, as_json: bool, home: Path | None) -> None:
    """Bring SWEEP from another home into this one, then tell Optuna and MLflow. Again, it does nothing new.

    Exit code 0: all is here; 4: something is left, one line each.

    \b
    harness import unicorn --from old/runs --home /shared/runs
    MLFLOW_TRACKING_URI=http://127.0.0.1:5000 \\
        harness import unicorn --from runs --home /shared/runs --storage postgresql+psycopg://...
    """
    from harness.sweep.bring import bring, open_old_home
    from harness.sweep.layout import open_home
    from harness.sweep.progress import Screen
    from harness.tracking.store import tracking_store

    source, at = open_old_home(old), open_home(home)
    done = bring(sweep, source, at, Screen(), storage=storage)
    if as_json:
        store = tracking_store(at.path, os.environ)
        click.echo(json.dumps(done.document(source, at, storage or at.optuna_url, store), indent=1))
    else:
        for line in done.lines(at):
            click.echo(line)
    if done.left:
        sys.exit(TrialsFailed.exit_code)
