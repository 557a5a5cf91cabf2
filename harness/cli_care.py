"""`harness doctor`, `retry` and `gc`: whether a home keeps its promises, second tries, and what can go."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli_base import Command, home_option, json_option, storage_option
from harness.cli_report import named_sweep
from harness.errors import BadInput, TrialsFailed

if TYPE_CHECKING:
    from harness.sweep.layout import Home, SweepFolder


@click.command(cls=Command)
@click.argument("sweep", required=False)
@click.option("--fix", is_flag=True, help="Repair what can be repaired; refused while a sweep runs.")
@storage_option
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


@click.command(cls=Command)
@click.argument("sweep")
@click.option(
    "--cause",
    "causes",
    multiple=True,
    metavar="CAUSE",
    help="oom, nan, error, lost, timeout, data, refused or all; may be given more than once.",
)
@click.option("--trial", "uids", multiple=True, metavar="NAME", help="One failed trial, by the name of its folder.")
@home_option
def retry(sweep: str, causes: tuple[str, ...], uids: tuple[str, ...], home: Path | None) -> None:
    """Let failed trials of SWEEP be tried again, by the cause of their failure; `harness sweep` then trains them.

    \b
    harness retry unicorn                       which trials failed, and why
    harness retry unicorn --cause oom           with their whole batch again
    harness retry unicorn --trial unicorn3.all.0007
    """
    from harness.sweep.layout import open_home
    from harness.sweep.retry import CAUSES, counted_causes, failed_trials, summary_of
    from harness.sweep.retry import retry as try_again

    folder = named_sweep(open_home(home), sweep)
    generation = folder.last_generation()
    failed = failed_trials(generation)
    if not causes and not uids:
        for record in failed:
            click.echo(f"{record.uid}  {record.cause}  {record.message}")
        click.echo(f"failed: {counted_causes(failed) or 'none'}; --cause or --trial tries them again")
        return
    if unknown := [cause for cause in causes if cause not in {*CAUSES, "all"}]:
        raise BadInput(f"--cause {unknown[0]}: choose from all, {', '.join(CAUSES)}")
    if missing := set(uids) - {record.uid for record in failed}:
        raise BadInput(f"--trial {min(missing)}: not a failed trial of {sweep}; there are: {counted_causes(failed)}")
    wanted = set(CAUSES.values()) if "all" in causes else {CAUSES[cause] for cause in causes}
    for line in summary_of(try_again(folder, causes=wanted, uids=uids), generation):
        click.echo(line)


@click.command(cls=Command)
@click.argument("sweep", required=False)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--epochs", is_flag=True, help="Remove kept epochs (`keep_epochs:`), too.")
@json_option
@home_option
def gc(sweep: str | None, dry_run: bool, epochs: bool, as_json: bool, home: Path | None) -> None:
    """Remove what nothing will read again: old checkpoints, results that were not accepted, unused patch stores.

    Of SWEEP alone, or of the whole home. What a trial may continue from stays, and every result.
    """
    from harness.sweep.garbage import clean, summary_of
    from harness.sweep.layout import open_home

    at = open_home(home)
    cleaned = clean(at, _sweeps(at, sweep), epochs=epochs, dry_run=dry_run)
    if as_json:
        pieces = [
            {
                "path": str(piece.path.relative_to(at.path)),
                "kind": piece.kind,
                "why": piece.why,
                "bytes": piece.size_bytes,
            }
            for piece in cleaned.pieces
        ]
        document = {"schema": "harness.gc/1", "home": str(at.path), "removed": not dry_run, "pieces": pieces,
                    "bytes": cleaned.size_bytes, "notes": list(cleaned.notes)}  # fmt: skip
        click.echo(json.dumps(document, indent=1))
        return
    for line in summary_of(cleaned, dry_run=dry_run):
        click.echo(line)


def _sweeps(home: Home, name: str | None) -> list[SweepFolder]:
    if name is not None:
        return [named_sweep(home, name)]
    return [home.sweep(path.name) for path in sorted(home.sweeps.glob("*")) if path.is_dir()]
