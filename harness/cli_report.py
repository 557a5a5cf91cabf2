"""`harness report`, `status` and `ui`: what a sweep found, how it stands, and its runs in MLflow."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli_base import Command, home_option, json_option
from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.sweep.layout import GenerationFolder, Home

UI_PORT = 5000


@click.command(cls=Command)
@click.argument("name", required=False)
@json_option
@home_option
def status(name: str | None, as_json: bool, home: Path | None) -> None:
    """How a sweep stands, per stratum (default: the one that ran last)."""
    from harness.cli_text import status_text
    from harness.sweep.layout import open_home
    from harness.sweep.status import status_of

    at = open_home(home)
    document = status_of(named_sweep(at, name).last_generation(), at)
    click.echo(json.dumps(document, indent=1) if as_json else status_text(document))


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("reports"),
    show_default=True,
    help="Where the report goes.",
)
@json_option
@home_option
def report(name: str | None, out: Path, as_json: bool, home: Path | None) -> None:
    """Write a sweep's report and leaderboard tables again (default: the sweep that ran last). Loads no torch."""
    from harness.sweep.layout import open_home

    at = open_home(home)
    generation = named_sweep(at, name).last_generation()
    page = write_report(generation, out)
    if as_json:
        click.echo((page.parent / "leaderboard.json").read_text(encoding="utf-8"))
    else:
        print_end(generation, page, at, click.echo)


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65535), default=UI_PORT, show_default=True)
@home_option
def ui(port: int, home: Path | None) -> None:
    """Open the MLflow UI on the runs of a home, on this machine only (Ctrl-C ends it)."""
    from harness.sweep.layout import open_home
    from harness.tracking.store import ui_command

    argv, environment = ui_command(open_home(home).path, port, os.environ)
    click.echo(f"MLflow at http://127.0.0.1:{port} (Ctrl-C ends it)", err=True)
    sys.exit(subprocess.run(argv, env=environment, check=False).returncode)


def named_sweep(home: Home, name: str | None) -> Any:
    """The sweep of that name, or the one that ran last."""
    if name is not None:
        if Path(name).name != name and not name.endswith((".yaml", ".yml")):
            raise BadInput(f"{name}: not the name of a sweep; `harness status` without a name shows the last one")
        folder = home.sweep(Path(name).stem if name.endswith((".yaml", ".yml")) else name)
        folder.last_generation()
        return folder
    ran = sorted(home.sweeps.glob("*/last.json"), key=lambda file: file.stat().st_mtime)
    if not ran:
        raise BadInput(f"no sweep in {home.path} yet; start one by `harness sweep quickstart`")
    return home.sweep(ran[-1].parent.name)


def write_report(generation: GenerationFolder, out: Path) -> Path:
    """Write `<out>/<sweep>/` and return its index.html; its rows link to the runs in MLflow's UI."""
    from harness.report.page import write_report as write
    from harness.report.tables import Links

    return write(generation.path, out, links=Links(ui=ui_server()))


def ui_server() -> str:
    """Where the runs are to be seen: the tracking server, else where `harness ui` puts them."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    return uri if uri.startswith(("http://", "https://")) else f"http://127.0.0.1:{UI_PORT}"


def print_end(generation: GenerationFolder, page: Path | None, home: Home, say: Callable[[str], None]) -> None:
    """The best trials as a table, the report's path, and how to see the runs."""
    from harness.cli_text import end_text
    from harness.tracking.project import read_cursor
    from harness.tracking.store import runs_link

    width = shutil.get_terminal_size((100, 24)).columns
    say(end_text(generation.path, width))
    if page is not None:
        say(f"report: {page.resolve()}")
    default = home.path == Path("runs").resolve() and "HARNESS_HOME" not in os.environ
    copied = read_cursor(generation.path)
    charts = "" if copied is None else f", then {runs_link(ui_server(), copied.experiment_id, generation.number)}"
    say("runs:   harness ui" + ("" if default else f" --home {shlex.quote(str(home.path))}") + charts)
