"""What a person sees while a sweep runs: live on a terminal, a line per finished trial elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from harness.config.spec import Objective
from harness.sweep.ledger import Record
from harness.sweep.rungs import Rung


@dataclass
class Running:
    """One busy slot, as it is shown."""

    name: str
    epochs: int
    epoch: int = 0
    objective: float | None = None
    earlier_s: float = 0.0  # of training in earlier attempts
    since: float = field(default_factory=time.monotonic)
    begun: float | None = None  # when a worker said that it started


class Screen:
    """People's text on stderr; nothing on stdout, which belongs to `--json`."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """A bar for one step, on a terminal; one line elsewhere."""
        if not self.console.is_terminal:
            self.note(f"{title} ...")
            yield lambda done, total: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(escape(title), total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def note(self, text: str) -> None:
        """One line for people, above whatever is live."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """Within it, `show` redraws."""
        if not self.console.is_terminal:
            yield
            return
        with Live(console=self.console, transient=True, refresh_per_second=4) as self._live:
            yield
        self._live = None

    def show(self, lines: list[str]) -> None:
        """Replace the live lines."""
        if self._live is not None:
            self._live.update(Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines)))


def slot_line(running: Running) -> str:
    """`unet·unicorn3/all  epoch 3/8  val/iou .512  41 s`."""
    score = "" if running.objective is None else f"  {running.objective:.3f}"
    at = f"epoch {running.epoch + 1}/{running.epochs}" if running.epoch < running.epochs else "drawing figures"
    at = "waiting for its worker" if running.epochs and running.begun is None else at
    return f"  {running.name}  {at}{score}  {time.monotonic() - running.since:.0f} s"


def summary_line(records: Mapping[str, Record], wanted: int, objective: Objective, started: float) -> str:
    """`18 of 24 trials, 2 running; best val/iou: tiger7 .412, unicorn3 .612; 95 s`."""
    final = [record for record in records.values() if record.is_final]
    running = sum(record.state == "running" for record in records.values())
    failed = sum(record.state == "failed" for record in final)
    trouble = f", {failed} failed" if failed else ""
    best = best_so_far(final, objective)
    shown = f"; best {objective.metric}: {best}" if best else ""
    return f"{len(final)} of {wanted} trials, {running} running{trouble}{shown}; {time.monotonic() - started:.0f} s"


def best_so_far(records: Iterable[Record], objective: Objective) -> str:
    """The best objective of each label map: scores of different classes are not one ranking."""
    best: dict[str, float] = {}
    for record in records:
        if record.state == "complete" and record.value is not None and record.replicate_of is None:
            labels = str(record.parameters.get("labels") or "")
            if objective.better(record.value, best.get(labels)):
                best[labels] = record.value
    return ", ".join(f"{labels} {value:.3f}".strip() for labels, value in sorted(best.items()))


def climbing_line(stratum: str, rung: Rung[Record], going: int) -> str:
    """`rung 1 of unicorn3/all: 8 of 24 trials go on`, or `4 more ... (rank correlation 0.12)` where it misled."""
    if rung.correlation is None:
        return f"rung {rung.number + 1} of {stratum}: {going} of {len(rung.there)} trials go on"
    why = f"its order did not hold at the next one (rank correlation {rung.correlation:.2f})"
    return f"rung {rung.number + 1} of {stratum}: {going} more of {len(rung.there)} trials go on, because {why}"


def finished_line(record: Record, name: str, result: Mapping[str, Any] | None) -> str:
    """One line about a trial that ended."""
    if record.state == "complete" and result is not None:
        objective = result["objective"]
        score = f"{objective['metric']} {objective['value']:.4f} at epoch {result['best_epoch']}"
        return f"done    {name}: {score}, {result['seconds']:.0f} s"
    if record.state == "paused":
        best = record.rungs[-1] if record.rungs else None
        score = "" if best is None else f", {best:.4f} at best"
        return f"paused  {name}: after epoch {record.pruned_epoch}{score}"
    if record.state == "pruned":
        return f"pruned  {name}: after epoch {record.pruned_epoch}"
    return f"{record.state:<7} {name}: {record.message or record.cause or ''}"
