"""The `harness` command. Each command is a few lines: parse, call a room, print. Heavy imports stay inside."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from harness.cli_base import Group, home_option, json_option, slot_options, space_options, storage_option
from harness.cli_care import doctor, gc, retry
from harness.cli_compare import compare
from harness.cli_data import data as data_group
from harness.cli_import import import_sweep
from harness.cli_models import models
from harness.cli_report import named_sweep, print_end, report, status, ui, write_report
from harness.cli_score import score
from harness.cli_split import export_split
from harness.cli_test import held_out
from harness.cli_traps import traps
from harness.cli_trial import trial
from harness.errors import BadInput, Refused

if TYPE_CHECKING:
    from harness.config.space import SearchSpace
    from harness.execute.choose import Kind


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tissue-sweep-harness", prog_name="harness")
def main() -> None:
    """Sweeps for tissue segmentation in histology, with scores that can be compared.

    \b
    harness sweep quickstart         a first sweep on synthetic tissue, in minutes
    harness ui                       its runs in MLflow
    harness report                   its report, written again
    harness init                     a commented search space for your own data
    """


@main.command()
@space_options
@slot_options
@click.option(
    "--executor",
    type=click.Choice(["local", "inline", "ray", "slurm"]),
    default="local",
    envvar="HARNESS_EXECUTOR",
    show_default=True,
    help="Processes here, one at a time here, a Ray cluster, or Slurm jobs.",
)
@storage_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Where the report goes.",
)
@home_option
def sweep(
    space: str, overrides: tuple[str, ...], data: str | None, trials: int | None, smoke: bool, device: str,
    workers: int | None, executor: str, storage: str | None, out: Path, home: Path | None,
) -> None:  # fmt: skip
    """Run a search space to its end, or go on with it, and write the report.

    SPACE is a YAML file, or the name of one that comes along: quickstart, unicorn, paper, recipes.

    \b
    harness sweep quickstart
    harness sweep search_spaces/unicorn.yaml --data phantom --smoke
    harness sweep my.yaml --set train.epochs=100 --trials 40
    """
    # Before numpy is loaded: the controller's products of matrices are small, and workers compute beside it.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if executor == "local":
        # Before this process imports its own libraries, for 1 to 2 s.
        from harness.execute.process import begin_imports

        begin_imports()
    from harness.report.queries import read_sweep
    from harness.sweep.layout import open_home
    from harness.sweep.progress import Screen
    from harness.sweep.run import Request, run_sweep

    screen = Screen()
    loaded, text = load(space, overrides, data, trials, smoke, note=screen.note)
    at = open_home(home)
    request = Request(
        yaml=text, command=["harness", *sys.argv[1:]], executor=cast("Kind", executor),
        device=device, workers=workers, storage=storage,
    )  # fmt: skip
    outcome = run_sweep(loaded, at, request, screen, lambda generation: write_report(generation, out))
    print_end(read_sweep(outcome.generation.path), outcome.generation, outcome.report, at, screen.note)
    if outcome.out_of_time:
        screen.note("the time budget is used up; a larger budget.wall (or --set budget.wall=...) continues")
    outcome.raise_for_exit_code()


@main.command()
@space_options
@slot_options
@json_option
@home_option
def plan(
    space: str, overrides: tuple[str, ...], data: str | None, trials: int | None, smoke: bool, device: str,
    workers: int | None, as_json: bool, home: Path | None,
) -> None:  # fmt: skip
    """Count what a sweep would train, and estimate hours, disk and memory from a few timed steps.

    Of a sweep that ran before, it says what an edit changes, and which finished trials are kept.

    \b
    harness plan search_spaces/unicorn.yaml
    harness plan quickstart --json
    """
    from harness.execute.devices import workplaces
    from harness.sweep.changes import change_of
    from harness.sweep.layout import open_home
    from harness.sweep.plan import plan as make_plan
    from harness.sweep.prepare import prepare_data
    from harness.sweep.progress import Screen

    screen = Screen()
    loaded, _ = load(space, overrides, data, trials, smoke, note=screen.note)
    at = open_home(home)
    places = workplaces(device, workers, stores=at.stores)
    prepared = prepare_data(loaded, at, screen)
    change = change_of(at.sweep(loaded.name), loaded, prepared)
    made = make_plan(loaded, prepared, screen, change, device=places[0].device, slots=len(places))
    if as_json:
        click.echo(json.dumps(made.document, indent=1))
        return
    from harness.cli_text import plan_text

    click.echo(plan_text(made.document, made.timed, slots=len(places), device=places[0].device))


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("sweep.yaml"))
@click.option("--root", default="data/tiger", show_default=True, help="Where your regions are (holds wsirois/).")
def init(file: Path, root: str) -> None:
    """Write a commented search space for your own data to FILE (default: sweep.yaml)."""
    from harness.files import write_text
    from harness.sweep.template import template

    if file.exists():
        raise Refused(f"{file} is there already; name another file")
    try:
        write_text(file, template(name=file.stem, root=root))
    except OSError as error:
        raise Refused(f"{file}: cannot be written: {error.strerror}") from None
    click.echo(f"wrote {file}; next: harness plan {file}")


@main.command()
@click.argument("name")
@home_option
def stop(name: str, home: Path | None) -> None:
    """Ask a running sweep to stop cleanly; running it again continues."""
    from harness.sweep.layout import open_home
    from harness.sweep.lock import stop_holder

    click.echo(stop_holder(named_sweep(open_home(home), name)))


@main.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@storage_option
@home_option
def rm(name: str, yes: bool, storage: str | None, home: Path | None) -> None:
    """Delete a sweep: trial folders, Optuna studies, MLflow runs. Patch stores and reports stay."""
    from harness.sweep.layout import open_home
    from harness.sweep.remove import remove_sweep, size_bytes

    at = open_home(home)
    folder = named_sweep(at, name)
    generations = len(folder.generations())
    if not yes:
        size = size_bytes(folder.path) / 1e6
        click.confirm(f"delete {folder.path} ({generations} generations, {size:.0f} MB) and its runs?", abort=True)
    click.echo(remove_sweep(folder, at, storage))


def load(
    space: str,
    overrides: tuple[str, ...],
    data: str | None,
    trials: int | None,
    smoke: bool,
    *,
    note: Callable[[str], None],
) -> tuple[SearchSpace, str]:
    """The search space as the command line wants it, and the file's text."""
    from harness.config.load import load_space, parse_override
    from harness.sweep.prepare import refuse_missing_root
    from harness.sweep.smoke import shrink
    from harness.sweep.vocabulary import CHECKS

    path = space_file(space)
    changes = [parse_override(text) for text in overrides]
    changes += [("data.root", data)] if data else []
    changes += [("budget.trials", trials)] if trials and not smoke else []
    loaded = load_space(path, overrides=changes, checks=CHECKS)
    if smoke:
        loaded, notes = shrink(loaded)
        for line in notes:
            note(line)
    refuse_missing_root(loaded.data)  # before anything is made or started
    return loaded, path.read_text(encoding="utf-8")


def space_file(name: str) -> Path:
    """The file of that path, or the search space of that name that comes along."""
    path = Path(name)
    if path.is_file():
        return path
    here = Path(__file__).resolve().parent
    for folder in (here / "search_spaces", here.parent / "search_spaces"):
        if folder.is_dir():
            packaged = folder / f"{name.removesuffix('.yaml')}.yaml"
            if packaged.is_file() and path.name == name:
                return packaged
            names = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
            raise BadInput(f"{name}: no such file; these come along by name: {names}")
    raise BadInput(f"{name}: no such file")


main.add_command(compare)
main.add_command(data_group)
main.add_command(doctor)
main.add_command(gc)
data_group.add_command(export_split)
main.add_command(import_sweep)
main.add_command(models)
main.add_command(report)
main.add_command(retry)
main.add_command(score)
main.add_command(status)
main.add_command(ui)
main.add_command(held_out)
main.add_command(traps)
main.add_command(trial)

if __name__ == "__main__":
    main()
