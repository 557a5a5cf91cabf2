"""`harness report`, `status` and `ui`: what a sweep found, how it stands, and its runs in MLflow."""

from __future__ import annotations

import gc
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli_base import Command, home_option, json_option, storage_option
from harness.errors import BadInput, Refused

if TYPE_CHECKING:
    from harness.report.queries import Sweep
    from harness.sweep.layout import GenerationFolder, Home, SweepFolder

UI_PORT = 5000
DASHBOARD_PORT = 8080


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--watch", "again", is_flag=True, help="Look again every 2 s until the sweep ends; Ctrl-C leaves.")
@json_option
@home_option
def status(name: str | None, again: bool, as_json: bool, home: Path | None) -> None:
    """How a sweep stands, per stratum (default: the one that ran last), and when it will end."""
    from rich.console import Console

    from harness.cli_text import status_line, status_text
    from harness.sweep.layout import open_home
    from harness.sweep.status import status_of
    from harness.sweep.watch import watch

    at = open_home(home)
    if again:
        console = Console(force_terminal=False) if as_json else Console()
        line = json.dumps if as_json else status_line
        watch(watched_sweep(at, name), at, console=console, shown=status_text, line=line)
        return
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
@click.option("--check", is_flag=True, help="Exit with 4 when a claim of the space is refuted.")
@json_option
@home_option
def report(name: str | None, out: Path, check: bool, as_json: bool, home: Path | None) -> None:
    """Write a sweep's report and leaderboard tables again (default: the sweep that ran last). Loads no torch."""
    # Before numpy is loaded. The report's products of matrices are small: threads wait more than they compute.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from harness.report.claims import check_claims
    from harness.report.index import read_indexed
    from harness.sweep.layout import open_home

    at = open_home(home)
    generation = named_sweep(at, name).last_generation()
    with _uncollected():
        sweep = read_indexed(generation.path)
        page = _written(sweep, generation, out)
    if as_json:
        click.echo((page.parent / "leaderboard.json").read_text(encoding="utf-8"))
    else:
        print_end(sweep, generation, page, at, click.echo)
    if check:
        check_claims(sweep)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for cycles, of which tables have none: 6 % of a report of 1,000 trials, 12 % of 10,000."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(1, 65535), help=f"Default: {UI_PORT}, with --optuna {DASHBOARD_PORT}.")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--login", is_flag=True, help="Ask for a name and a password; needed for any --host but this machine.")
@click.option("--allowed-host", "names", metavar="NAME", multiple=True, help="Another name to open it by; repeatable.")
@click.option("--optuna", is_flag=True, help="optuna-dashboard on the same home's studies instead.")
@storage_option
@home_option
def ui(
    port: int | None,
    host: str,
    login: bool,
    names: tuple[str, ...],
    optuna: bool,
    storage: str | None,
    home: Path | None,
) -> None:
    """Open the MLflow UI on the runs of a home, on this machine only (Ctrl-C ends it)."""
    from harness.sweep.layout import open_home
    from harness.tracking.serve import Address, is_loopback, ui_command

    if optuna and (login or not is_loopback(host)):
        raise Refused("optuna-dashboard has no login, so it stays on this machine: reach it by `ssh -L`")
    at = open_home(home)
    if optuna:
        _serve_studies(at, storage, port or DASHBOARD_PORT)
        return
    address = Address(port or UI_PORT, host, login, names)
    argv, environment = ui_command(at.path, address, os.environ)
    click.echo(f"MLflow at {address.url} (Ctrl-C ends it)", err=True)
    if not is_loopback(host):
        click.echo("Passwords travel unencrypted unless a proxy with TLS stands in front: docs/security.md", err=True)
    # In place of this process: whatever ends the command ends the server.
    os.execve(argv[0], argv, environment)


def _serve_studies(home: Home, storage: str | None, port: int) -> None:
    """optuna-dashboard until Ctrl-C. BadInput without studies; Refused when it is not installed."""
    from harness.study import serve_dashboard

    if storage is None and not home.optuna_file.exists():
        raise BadInput(f"no studies in {home.path} yet; start a sweep, or name its database by --storage URL")
    with suppress(KeyboardInterrupt):
        serve_dashboard(storage or home.optuna_url, port)


def watched_sweep(home: Home, name: str | None) -> SweepFolder:
    """The sweep of that name, or the one that ran last; it may be one that still prepares its first generation."""
    from harness.sweep.lock import holder_of

    if name is None:
        held = [home.sweep(file.parent.name) for file in home.sweeps.glob("*/holder.json")]
        first = [sweep for sweep in held if not sweep.generations() and (holder := holder_of(sweep)) and holder.alive]
        return first[0] if first else named_sweep(home, None)
    folder = home.sweep(name)
    return folder if Path(name).name == name and folder.holder.exists() else named_sweep(home, name)


def named_sweep(home: Home, name: str | None) -> SweepFolder:
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
    """Write `<out>/<sweep>/` and return its index.html; its rows link to the runs in MLflow's UI.

    The generation notes where, so that `harness status` finds it.
    """
    from harness.report.index import read_indexed

    return _written(read_indexed(generation.path), generation, out)


def _written(sweep: Sweep, generation: GenerationFolder, out: Path) -> Path:
    from harness.files import write_json
    from harness.report.page import write_report as write
    from harness.report.tables import Links

    page = write(sweep, out, links=Links(ui=ui_server()))
    write_json(generation.report_note, {"page": str(page.resolve())})
    return page


def ui_server() -> str:
    """Where the runs are to be seen: the tracking server, else where `harness ui` puts them."""
    return _tracking_server() or f"http://127.0.0.1:{UI_PORT}"


def _tracking_server() -> str | None:
    """The address of the MLflow server that runs go to; None where there is none."""
    from harness.tracking.store import without_login

    uri = without_login(os.environ.get("MLFLOW_TRACKING_URI", ""))
    return uri if uri.startswith(("http://", "https://")) else None


def print_end(
    sweep: Sweep, generation: GenerationFolder, page: Path | None, home: Home, say: Callable[[str], None]
) -> None:
    """The best trials as a table, the report's path, and how to see the runs."""
    from harness.cli_text import end_text
    from harness.tracking.project import read_cursor
    from harness.tracking.store import runs_link

    width = shutil.get_terminal_size((100, 24)).columns
    say(end_text(sweep, width))
    if page is not None:
        say(f"report: {page.resolve()}")
    copied = read_cursor(generation.path)
    link = copied and runs_link(ui_server(), copied.experiment_id, generation.number, view=copied.view)
    if link and _tracking_server():
        say(f"runs:   {link}")
        return
    default = home.path == Path("runs").resolve() and "HARNESS_HOME" not in os.environ
    charts = f", then {link}" if link else ""
    say("runs:   harness ui" + ("" if default else f" --home {shlex.quote(str(home.path))}") + charts)
