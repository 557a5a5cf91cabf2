"""`harness score`: masks that another tool made, on the boards of a sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli_base import Command, home_option, json_option
from harness.cli_report import named_sweep, write_report
from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.scoring.masks import Matched
    from harness.scoring.score import Values
    from harness.sweep.layout import GenerationFolder, Home
    from harness.sweep.progress import Screen

SHOWN_OTHERS = 6


@click.command(cls=Command)
@click.argument("sweep")
@click.option("--pred", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Folder with one mask per validation region.")  # fmt: skip
@click.option("--name", required=True, help="What the row is called, such as nnunet; the same name replaces it.")
@click.option("--labels", "values", type=click.Choice(["classes", "source"]), default="classes", show_default=True,
              help="What values are: 1..K of a label map, or the data's own ids (a row on each board).")  # fmt: skip
@click.option("--map", "label_map", metavar="NAME", help="Whose classes, where the sweep has several label maps.")
@click.option("--remove", is_flag=True, help="Take the rows of this name away again.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("reports"), show_default=True,
              help="Where the report goes.")  # fmt: skip
@json_option
@home_option
def score(
    sweep: str, pred: Path | None, name: str, values: str, label_map: str | None, remove: bool, out: Path,
    as_json: bool, home: Path | None,
) -> None:  # fmt: skip
    """Put masks made by any other tool on the boards of SWEEP: same pixels, same scores, then write its report.

    PNG or TIFF, one per validation region, named after it (harness data export-split lists the names). A pixel is
    1..K in the label map's order, or a source id; 0 is no class, which counts as wrong.

    \b
    harness score quickstart --pred masks/ --name nnunet --map unicorn3
    harness score quickstart --pred masks/ --name nnunet --labels source
    harness score quickstart --name nnunet --remove
    """
    from harness.scoring.positions import position_lines, positions, positions_document
    from harness.scoring.rows import Rows, checked_name
    from harness.sweep.layout import open_home
    from harness.sweep.progress import Screen

    at, screen = open_home(home), Screen()
    generation = named_sweep(at, sweep).last_generation()
    given = checked_name(name)
    if remove == (pred is not None):
        raise BadInput("--pred: give a folder of masks, or --remove, not both" if remove else
                       "--pred: give the folder with the masks, one for each validation region")  # fmt: skip
    if remove:
        for uid in Rows(generation).remove(given):
            screen.note(f"removed {uid}")
        uids: tuple[str, ...] = ()
    else:
        assert pred is not None
        uids = _scored(pred, given, values, label_map, generation, at, screen)
    page = write_report(generation, out)
    found = positions(generation.path, uids)
    if as_json:
        document = positions_document(generation.path.parent.name, given, found, page.resolve())
        click.echo(json.dumps(document, indent=1))
        return
    for line in position_lines(found):
        click.echo(line)
    click.echo(f"report: {page.resolve()}")


def _scored(
    pred: Path, name: str, values: str, label_map: str | None, generation: GenerationFolder, home: Home,
    screen: Screen,
) -> tuple[str, ...]:  # fmt: skip
    from harness.scoring.regions import regions_of_sweep
    from harness.scoring.score import Submission, allowed_values, chosen_maps, score, values_text

    regions = regions_of_sweep(generation, home, screen)
    kind: Values = "source" if values == "source" else "classes"
    maps = chosen_maps(regions, kind, label_map)
    screen.note(f"values: {values_text(allowed_values(maps, kind))}")
    uids, matched = score(Submission(pred, name, kind, maps), regions, generation, screen)
    for line in _matching_lines(matched):
        screen.note(line)
    return uids


def _matching_lines(matched: Matched) -> list[str]:
    """How masks found their regions, and which files are no masks of this sweep."""
    by_name = len(matched.files) - len(matched.by_stem)
    lines = [f"masks matched: {by_name} by their region's name, {len(matched.by_stem)} by its file name"]
    lines += _examples(matched.files, matched.by_stem)
    if matched.others:
        names = ", ".join(path.name for path in matched.others[:SHOWN_OTHERS])
        more = f", ... ({len(matched.others)} in all)" if len(matched.others) > SHOWN_OTHERS else ""
        lines.append(f"left alone, not masks of a validation region: {names}{more}")
    return lines


def _examples(files: Mapping[str, Path], names: tuple[str, ...]) -> list[str]:
    shown = [f"  {files[name].name} is {name}" for name in names[:SHOWN_OTHERS]]
    return [*shown, f"  ... ({len(names)} in all)"] if len(names) > SHOWN_OTHERS else shown
