"""SIGKILL at numbered I/O steps of the tiny sweep, then the same command again: is all as if nothing had happened?

python -m tests.faults.failpoints [TRIES [PART OF]]: so many steps, evenly spread; every other try tears what was about
to be fsynced. PART OF splits the work over processes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.checks import Truth, problems, truth_of
from tests.faults.children import run_child, warm
from tests.faults.steps import Point
from tests.faults.tiny import Place, copied, phantom, prepared


@dataclass(frozen=True)
class Bench:
    """What every try starts from, and what it must end as."""

    folder: Path
    template: Place
    truth: Truth
    steps: Sequence[str]  # of an undisturbed run

    def tried(self, at: int | Point, *, torn: bool = False, broken: Callable[[], None] | None = None) -> list[str]:
        """Kill at one step, run again, check; what is wrong."""
        place = copied(self.template, Path(tempfile.mkdtemp(dir=self.folder)) / "try")
        try:
            killed = run_child(place, at=at, torn=torn, broken=broken)
            if killed.code not in (None, 0):
                return [f"the first run failed by itself: {killed.error.splitlines()[-1]}"]
            again = run_child(place, broken=broken)
            if again.code != 0:
                return [f"the second run failed: {again.error.splitlines()[-1] if again.error else 'killed'}"]
            return problems(place, self.truth)
        finally:
            shutil.rmtree(place.path.parent)


def bench(folder: Path) -> Bench:
    """Everything is loaded, then the sweep is run once without a fault."""
    warm()
    template = prepared(folder / "template", phantom(folder / "regions"))
    whole = copied(template, folder / "whole")
    ended = run_child(whole)
    if ended.code != 0:
        raise AssertionError(f"the undisturbed sweep failed: {ended.error}")
    return Bench(folder, template, truth_of(whole), ended.steps)


def sample(steps: int, tries: int) -> list[int]:
    """Step numbers 1..steps, all of them or evenly spread ones."""
    if tries >= steps:
        return list(range(1, steps + 1))
    return sorted({round((index + 0.5) * steps / tries) or 1 for index in range(tries)})


def outcomes(tried: Bench, points: Sequence[int]) -> Iterator[tuple[str, list[str]]]:
    """Each try's name and what was wrong."""
    for index, at in enumerate(points):
        torn = index % 2 == 1
        yield f"step {at}{' torn' if torn else ''}: {tried.steps[at - 1]}", tried.tried(at, torn=torn)


def main(tries: int, part: int, of: int) -> int:
    """Try a sample; the number of tries that went wrong."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        made = bench(Path(name))
        points = sample(len(made.steps), tries)
        mine = points[part - 1 :: of]
        print(f"{len(mine)} of {len(made.steps)} steps ({100 * len(mine) / len(made.steps):.0f} %)", flush=True)
        failed = 0
        for said, wrong in outcomes(made, mine):
            failed += bool(wrong)
            if wrong:
                print(f"FAILED {said}: {'; '.join(wrong)[:400]}", flush=True)
        print(f"{len(mine) - failed} passed, {failed} failed", flush=True)
    return failed


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(numbers + [120, 1, 1][len(numbers) :])) > 0)
