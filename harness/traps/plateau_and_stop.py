"""Reduce-on-plateau and early stopping with the same patience: training ends one epoch before the cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from harness.checkpoint import Progress
from harness.config.spec import TrainSpec
from harness.drawing import canvas, drawn
from harness.optimization import build_optimizer, build_schedule, step_schedule
from harness.report.wording import plural
from harness.train import finished, watch
from harness.traps.bench import Bench
from harness.traps.drawing import HARNESS, USUAL, score_axes
from harness.traps.finding import Finding, Sides

EPOCHS = 50
IMPROVING = 12  # epochs until the made-up score has reached its plateau
STOP_PATIENCE = 10


@dataclass(frozen=True, slots=True)
class Course:
    """One training's rates under a given course of the monitored score."""

    plateau_patience: int
    rates: tuple[float, ...]  # of each epoch that was trained
    lr_cuts: int

    @property
    def epochs_after_cut(self) -> int:
        """Epochs trained at a rate below the first."""
        return sum(rate < self.rates[0] for rate in self.rates)


def demonstrate(bench: Bench) -> Finding:
    """Send one course of a score through torch's own scheduler and the stop rule, for every patience."""
    scores = course_of_score(bench.seed)
    courses = {patience: measure(patience, scores) for patience in range(STOP_PATIENCE + 3)}
    same, default = courses[STOP_PATIENCE], courses[TrainSpec().plateau_patience]
    useless = [patience for patience, course in courses.items() if not course.epochs_after_cut]
    return Finding(
        name="plateau_and_stop",
        title="Plateau and early stopping at the same patience",
        people="ReduceLROnPlateau(patience=10) and early stopping with patience 10 watch the same score, as the "
        "paper states them.",
        happens=f"torch cuts the rate on the {STOP_PATIENCE + 1}th epoch without a better score, the stop comes on the "
        f"{STOP_PATIENCE}th: {plural(same.lr_cuts, 'cut')} in {len(same.rates)} epochs. The schedule does nothing "
        f"from a plateau patience of {min(useless)} on (at {STOP_PATIENCE - 1} the cut comes with the stop). With "
        f"{default.plateau_patience} it is cut after {default.rates.count(default.rates[0])} epochs and "
        f"{default.epochs_after_cut} are trained at the lower rate.",
        shows=same.lr_cuts == 0,
        heads=(f"plateau patience {STOP_PATIENCE}", f"plateau patience {default.plateau_patience}"),
        numbers=(
            Sides("cuts of the rate", same.lr_cuts, default.lr_cuts),
            Sides("epochs trained", len(same.rates), len(default.rates)),
            Sides("of these at a lower rate", same.epochs_after_cut, default.epochs_after_cut),
        ),
        instead="The default is plateau 5, stop 10. Every run records `lr_cuts`, and the leaderboard says \"rate "
        "never cut\" and why, where the patiences made it so.",
        picture=draw(scores, same, default),
        shown="One made-up course of the monitored score (grey), and the rate under both settings; a cross ends the "
        "training.",
    )  # fmt: skip


def course_of_score(seed: int) -> tuple[float, ...]:
    """A score that rises for IMPROVING epochs and then only jitters below its best."""
    rng = np.random.default_rng([seed, 0])
    rising = 0.6 - 0.4 * np.exp(-np.arange(IMPROVING) / 4)
    flat = rising[-1] - rng.uniform(0.005, 0.04, EPOCHS - IMPROVING)
    return tuple(float(value) for value in (*rising, *flat))


def measure(plateau_patience: int, scores: tuple[float, ...]) -> Course:
    """The harness's own schedule and stop rule, epoch by epoch as in `fit`, on given scores."""
    train = TrainSpec(epochs=len(scores), plateau_patience=plateau_patience, stop_patience=STOP_PATIENCE)
    optimizer = build_optimizer(torch.nn.Linear(1, 1), train)
    schedule = build_schedule(optimizer, train)
    optimizer.step()  # torch warns of a schedule that is stepped before
    progress, rates = Progress(), []
    while not finished(progress, train):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        score = scores[progress.epoch]
        watch(progress, train, score)
        progress.lr_cuts += step_schedule(schedule, optimizer, monitor=train.monitor, value=score)
        progress.epoch += 1
    return Course(plateau_patience, tuple(rates), progress.lr_cuts)


def draw(scores: tuple[float, ...], same: Course, default: Course) -> bytes:
    """The score above, the rates below."""
    figure = canvas(7.2, 3.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.4))
    longest = max(len(same.rates), len(default.rates))
    above.plot(range(1, longest + 1), scores[:longest], color="#777777", linewidth=1.2)
    above.axvline(IMPROVING, color="#777777", linewidth=0.8, linestyle=":")
    above.set_ylabel("val/iou")
    # The two lines would lie on each other: one is drawn wide.
    for course, colour, width in ((default, HARNESS, 5.0), (same, USUAL, 1.8)):
        epochs = range(1, len(course.rates) + 1)
        label = f"plateau {course.plateau_patience}, stop {STOP_PATIENCE}: {plural(course.lr_cuts, 'cut')}"
        below.step(epochs, course.rates, where="mid", color=colour, linewidth=width, label=label)
        below.plot(epochs[-1], course.rates[-1], "x", color=colour, markersize=9, markeredgewidth=2.5)
    below.set_yscale("log")
    below.set_ylim(min(default.rates) / 3, max(same.rates) * 3)
    below.set_xlabel("epoch")
    below.set_ylabel("learning rate")
    below.legend(fontsize=8, frameon=False, loc="lower left")
    for axes in (above, below):
        score_axes(axes)
    return drawn(figure)
