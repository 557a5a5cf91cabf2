"""`harness data export-split`: the lists another tool needs to train on the regions of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli_base import Command, home_option
from harness.cli_report import named_sweep

if TYPE_CHECKING:
    from harness.scoring.regions import Regions
    from harness.sweep.layout import Home
    from harness.sweep.progress import Screen


@click.command("export-split", cls=Command)
@click.argument("sweep")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Where the lists go.")
@home_option
def export_split(sweep: str, out: Path, home: Path | None) -> None:
    """Write which regions of SWEEP train, validate and test, for tools that shall train on the same ones.

    SWEEP is the name of a sweep, or a search space's YAML file: then the split that it would make. Lists of names,
    split.csv, split.json for data.split.file, splits_final.json for nnU-Net v2, labels.json; see docs/other-tools.md.

    \b
    harness data export-split quickstart --out split/
    harness data export-split mine.yaml --out split/
    """
    from harness.data.splits import patients_without_role
    from harness.report.wording import plural
    from harness.scoring.split_files import write_split_files
    from harness.sweep.layout import open_home
    from harness.sweep.progress import Screen

    screen = Screen()
    regions = _regions(sweep, open_home(home), screen)
    roleless = patients_without_role(regions.split, {roi.patient for roi in regions.every})
    if roleless:
        screen.note(f"left out: {plural(len(roleless), 'patient')} that the split names in no role")
    files = write_split_files(regions, out)
    click.echo(f"wrote {', '.join(file.name for file in files)} to {out}")


def _regions(sweep: str, home: Home, screen: Screen) -> Regions:
    from harness.config.load import load_space
    from harness.scoring.regions import regions_of_space, regions_of_sweep
    from harness.sweep.vocabulary import CHECKS

    file = Path(sweep)
    if file.suffix in (".yaml", ".yml") and file.is_file():
        return regions_of_space(load_space(file, checks=CHECKS), home, screen)
    return regions_of_sweep(named_sweep(home, sweep).last_generation(), home, screen)
