"""How every command ends: an error's plain lines on stderr, and its exit code."""

from __future__ import annotations

import sys
from typing import Any

import click

from harness.errors import HarnessError, Interrupted


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
