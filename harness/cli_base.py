"""What commands share: their options, and how they end: an error's plain lines on stderr, and its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harness.errors import HarnessError, Interrupted

HOME_HELP = "Folder for everything that is written, except reports (default: HARNESS_HOME, else ./runs)."


class Command(click.Command):
    """A command whose errors end it with their exit code and plain lines; a bug keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            for line in str(error).splitlines():
                click.echo(line if isinstance(error, Interrupted) else f"harness: {line}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(Interrupted.exit_code)


class Group(click.Group):
    """A group of such commands, its groups included."""

    command_class = Command
    group_class = type  # click: subgroups are of this class, too


def home_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--home`, the same everywhere."""
    return click.option("--home", type=click.Path(path_type=Path, file_okay=False), help=HOME_HELP)(command)


def storage_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--storage`, the same everywhere."""
    told = "Optuna's storage as an SQLAlchemy URL (default: HARNESS_STORAGE, else SQLite in the home)."
    return click.option("--storage", metavar="URL", envvar="HARNESS_STORAGE", help=told)(command)


def json_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--json`, the same everywhere."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, for scripts.")(command)


def space_options(command: Callable[..., None]) -> Callable[..., None]:
    """What changes a search space on the command line."""
    for option in reversed((
        click.argument("space"),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override, e.g. train.epochs=2."),
        click.option("--data", metavar="PATH|phantom", help="Other data: with wsirois/ or manifest.csv, or synthetic."),
        click.option("--trials", type=click.IntRange(min=1), help="A new total of trials per stratum."),
        click.option("--smoke", is_flag=True, help="Shrink the space so that it ends in minutes on two cores."),
    )):  # fmt: skip
        command = option(command)
    return command


def slot_options(command: Callable[..., None]) -> Callable[..., None]:
    """Where trials run."""
    command = click.option(
        "--workers", type=click.IntRange(1, 10_000), help="Slots (default: one a core, or one a GPU)."
    )(command)
    devices = click.Choice(["auto", "cpu", "cuda", "mps"])
    return click.option("--device", type=devices, default="auto", show_default=True, help="Where to train.")(command)
