"""`harness data`: make, check and count regions."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from harness.cli_base import Group
from harness.errors import BadInput


@click.group(cls=Group)
def data() -> None:
    """Make, check and count regions."""


ROOT = click.argument("root", type=click.Path(path_type=Path, exists=True, file_okay=False))
REGEX = click.option(
    "--patient-regex",
    help="For names that are not TIGER's: a regular expression with one group, the patient.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, for scripts.")


@data.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--patients", type=click.IntRange(4, 2000), default=24, show_default=True)
@click.option(
    "--roi-px",
    type=click.IntRange(128, 4096),
    default=320,
    show_default=True,
    help="Typical side of a region.",
)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True)
def synth(out: Path, patients: int, roi_px: int, seed: int) -> None:
    """Paint a synthetic H&E-like cohort in TIGER's layout into OUT; the same seed gives the same bytes.

    \b
    harness data synth data/phantom --patients 40
    """
    from harness.data.phantom import Phantom, synthesize
    from harness.sweep.progress import Screen

    screen = Screen()
    with screen.step(f"painting {patients} patients") as on_progress:
        root = synthesize(out, Phantom(seed=seed, patients=patients, roi_px=roi_px), on_progress=on_progress)
    click.echo(f"wrote {root}; next: harness data stats {root}")


@data.command()
@ROOT
@REGEX
@JSON
def check(root: Path, patient_regex: str | None, as_json: bool) -> None:
    """Read every image and mask under ROOT (the folder that holds wsirois/), and list every defect; exit 2 if any."""
    from harness.cli_text import check_text

    checked = _checked(root, patient_regex)
    if as_json:
        defects = [
            {"number": d.number, "kind": d.kind, "file": str(d.file), "message": d.message} for d in checked.defects
        ]
        document = {
            "schema": "harness.check/1",
            "root": str(root),
            "hash": checked.data_hash,
            "usable": len(checked.rois),
            "defects": defects,
        }
        click.echo(json.dumps(document, indent=1))
    else:
        click.echo(check_text(checked))
    if checked.defects:
        sys.exit(BadInput.exit_code)


@data.command()
@ROOT
@REGEX
@JSON
def stats(root: Path, patient_regex: str | None, as_json: bool) -> None:
    """Count regions, patients, centres and pixels per source id under ROOT."""
    from harness.cli_text import stats_text
    from harness.data.stats import cohort_stats

    checked = _checked(root, patient_regex)
    document = cohort_stats(checked)
    if as_json:
        click.echo(json.dumps({"schema": "harness.stats/1", "root": str(root), **document}, indent=1))
    else:
        click.echo(stats_text(document, defects=len(checked.defects)))


def _checked(root: Path, patient_regex: str | None):  # type: ignore[no-untyped-def]  # its type lives in a lazy import
    from harness.data.check import check_cohort
    from harness.data.tiger import read_cohort
    from harness.sweep.progress import Screen

    rois = read_cohort(root, patient_regex=patient_regex)
    with Screen().step(f"reading {len(rois)} regions") as on_progress:
        return check_cohort(rois, on_progress=on_progress)
