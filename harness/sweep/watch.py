"""`harness status --watch`: the status again and again, until the sweep ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.errors import BadInput
from harness.sweep.layout import GenerationFolder, Home, SweepFolder
from harness.sweep.lock import holder_of
from harness.sweep.status import STATES, Status

EVERY_S = 2.0


class Watch:
    """The status of whichever generation of a sweep runs: a restart may begin another."""

    def __init__(self, sweep: SweepFolder, home: Home) -> None:
        self._sweep, self._home = sweep, home
        self._status: Status | None = None

    def look(self) -> dict[str, Any] | None:
        """The status now; None while a first generation is being prepared. BadInput when nothing is there."""
        try:
            generation = self._sweep.last_generation()
        except BadInput:
            if not self.alive:
                raise
            return None
        return self._of(generation).document()

    @property
    def alive(self) -> bool:
        """Whether somebody runs the sweep."""
        holder = holder_of(self._sweep)
        return holder is not None and holder.alive

    def _of(self, generation: GenerationFolder) -> Status:
        if self._status is None or self._status.generation != generation:
            self._status = Status(generation, self._home)
        return self._status


def watch(
    sweep: SweepFolder,
    home: Home,
    *,
    console: Console,
    shown: Callable[[Mapping[str, Any]], str],
    line: Callable[[Mapping[str, Any]], str],
    every_s: float = EVERY_S,
) -> None:
    """Redraw `shown` on a terminal, else print `line` at every change, until nobody runs the sweep any more.

    Ctrl-C ends it as quietly. The last state stays on the screen.
    """
    looking, last = Watch(sweep, home), None
    try:
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                alive = looking.alive  # asked first: what was written before the end is then seen
                document = looking.look()
                if console.is_terminal:
                    text = f"sweep {sweep.name}: preparing its data" if document is None else shown(document)
                    live.update(Text(text), refresh=True)
                elif document is not None and changing(document) != last:
                    last = changing(document)
                    console.print(line(document), markup=False, highlight=False, soft_wrap=True)
                if not alive:
                    return
                time.sleep(every_s)
    except KeyboardInterrupt:
        return


def changing(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a line worth printing: a trial that began or ended, a better best, another generation."""
    strata = [(row["best"], *(row[state] for state in STATES)) for row in document["strata"]]
    return document["generation"], document["holder"], strata, document["report"]
