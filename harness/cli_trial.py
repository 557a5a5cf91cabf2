"""`harness trial`: one spec on its own, or a trial of a sweep gone back into."""

from __future__ import annotations

from bdb import BdbQuit
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli_base import Command, home_option, slot_options
from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.execute.work import Workplace
    from harness.sweep.layout import Home
    from harness.sweep.progress import Screen


@click.command(cls=Command)
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--at-epoch", "epoch", type=click.IntRange(min=1), help="Step into this epoch of the trial in PATH.")
@click.option("--to-epoch", "until", type=click.IntRange(min=1), help="Train up to this one (default: the same).")
@click.option("--until-nan", is_flag=True, help="Train on, and stop at the first batch that is not finite.")
@click.option("--pdb", "debug", is_flag=True, help="Python's debugger at the first batch, or at the one not finite.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Fork: another setting of training from there on."
)
@slot_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="The new trial folder (default: in the home, under single/).",
)
@home_option
def trial(
    path: Path, epoch: int | None, until: int | None, until_nan: bool, debug: bool, overrides: tuple[str, ...],
    device: str, workers: int | None, out: Path | None, home: Path | None,
) -> None:  # fmt: skip
    """Train one spec without Optuna and MLflow, or go back into a trial.

    PATH is a trial folder (its spec is trained again, elsewhere), or a YAML file with one combination.

    \b
    harness trial runs/sweeps/quickstart/g1/trials/unicorn3.all.0003
    harness trial one.yaml --out /tmp/one
    harness trial FOLDER --at-epoch 7           the same numbers again, from what was kept
    harness trial FOLDER --at-epoch 7 --pdb     into its first batch
    harness trial FOLDER --until-nan            the batch at which it broke
    harness trial FOLDER --at-epoch 7 --set learning_rate=1e-4
    """
    from harness.config.load import parse_override
    from harness.execute.devices import workplaces
    from harness.sweep.layout import open_home
    from harness.sweep.progress import Screen
    from harness.trial.step_in import refuse_without_terminal

    screen = Screen()
    at = open_home(home)
    place = workplaces(device, workers, stores=at.stores)[0]
    back = epoch is not None or until_nan or debug or bool(overrides)
    if back and not path.is_dir():
        raise BadInput(f"{path}: only a trial's folder can be gone back into; a YAML file has no epochs yet")
    if overrides and (until_nan or debug or until):
        raise BadInput("--set makes a trial of its own: train it first, then go back into that one")
    if debug:
        refuse_without_terminal()
    try:
        if overrides:
            _fork(path, epoch or 1, [parse_override(text) for text in overrides], out, at, place, screen)
        elif back:
            _visit(path, epoch, until, until_nan, debug, out, at, place, screen)
        else:
            _train(path, out, at, place, screen)
    except BdbQuit:
        screen.note("left the debugger; nothing was written to the trial")


def _train(path: Path, out: Path | None, at: Home, place: Workplace, screen: Screen) -> None:
    from harness.sweep.single import run_single, spec_of

    spec = spec_of(path, at, screen)
    folder = out or at.singles / spec.fingerprint[:16]
    _told(run_single(spec, folder, place, screen), folder)


def _fork(
    path: Path, epoch: int, changes: Sequence[tuple[str, Any]], out: Path | None, at: Home, place: Workplace,
    screen: Screen,
) -> None:  # fmt: skip
    from harness.sweep.revisit import Revisit
    from harness.sweep.single import run_single

    spec, folder = Revisit(path, place, screen, click.echo).fork(epoch, changes, out, at)
    _told(run_single(spec, folder, place, screen), folder)


def _visit(
    path: Path, epoch: int | None, until: int | None, until_nan: bool, debug: bool, out: Path | None, at: Home,
    place: Workplace, screen: Screen,
) -> None:  # fmt: skip
    from harness.sweep.revisit import Revisit

    visit = Revisit(path, place, screen, click.echo)
    if until_nan:
        visit.until_nan(epoch, folder=out, home=at, debug=debug)
    else:
        visit.step_into(epoch or 1, until=max(until or 0, epoch or 1), debug=debug)


def _told(result: dict[str, Any], folder: Path) -> None:
    objective = result["objective"]
    click.echo(f"{objective['metric']} {objective['value']:.4f} at epoch {result['best_epoch']}; {folder}")
