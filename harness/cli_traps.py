"""`harness traps`: show what misleads, with numbers and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli_base import Command, json_option


@click.command(cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports") / "traps",
    show_default=True,
    help="Where the page, its pictures and traps.json go.",
)
@click.option("--list", "listing", is_flag=True, help="Only list the traps.")
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Of phantom and trainings.")
@json_option
def traps(names: tuple[str, ...], out: Path, listing: bool, seed: int, as_json: bool) -> None:
    """Demonstrate ways of measuring that mislead, on synthetic tissue (default: all of them, in minutes).

    \b
    harness traps
    harness traps plateau_and_stop mirrored_labels
    """
    from harness.sweep.progress import Screen
    from harness.traps.catalogue import TRAPS, demonstrate
    from harness.traps.page import document, write_page

    if listing:
        click.echo(json.dumps({"schema": "harness.traps/1", "names": list(TRAPS)}) if as_json else "\n".join(TRAPS))
        return
    findings = demonstrate(names, seed=seed, say=Screen().note)
    page = write_page(findings, out, seed=seed)
    if as_json:
        click.echo(json.dumps(document(findings, seed=seed), indent=1))
        return
    for finding in findings:
        click.echo(f"{finding.title}\n  {finding.happens}\n")
    click.echo(f"wrote {page}")
