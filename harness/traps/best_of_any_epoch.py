"""Each metric at its own best epoch: a row of numbers that no network has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.checkpoint import Progress
from harness.config.spec import Split, TrialSpec
from harness.drawing import FAINT, canvas, drawn
from harness.report.wording import difference_text, score_text
from harness.traps.bench import Bench
from harness.traps.drawing import HARNESS, USUAL, score_axes
from harness.traps.finding import Finding, Sides
from harness.trial.outputs import best_of_any_epoch

TRAINING, VALIDATING = 6, 3
EPOCHS = 16
METRICS = ("iou", "dice", "loss")


@dataclass(frozen=True, slots=True)
class Best:
    """One metric over the epochs of one training."""

    metric: str
    values: tuple[float, ...]  # per epoch, from epoch 1
    own_epoch: int  # where this metric is best
    best_epoch: int  # where the objective is best

    @property
    def anywhere(self) -> float:
        """Its best value in any epoch."""
        return self.values[self.own_epoch - 1]

    @property
    def at_best(self) -> float:
        """Its value in the one epoch whose weights are kept."""
        return self.values[self.best_epoch - 1]


def demonstrate(bench: Bench) -> Finding:
    """Read both rows of numbers off one training."""
    result = bench.trained(noisy_spec(bench))
    found = measure(result.progress, result.best_epoch)
    names = {"iou": "IoU", "dice": "Dice", "loss": "loss"}
    epochs = {names[best.metric]: best.own_epoch for best in found}
    gains = ", ".join(f"{names[best.metric]} {difference_text(best.anywhere - best.at_best)}" for best in found)
    where = ", ".join(f"{name} from epoch {epoch}" for name, epoch in epochs.items())
    several = len({*epochs.values(), result.best_epoch}) > 1
    return Finding(
        name="best_of_any_epoch",
        title="The best value of each metric, whichever epoch it is from",
        people='"Best values achieved": IoU, Dice and loss are each reported at the epoch where that one is best.',
        happens=f"In one training of {result.progress.epoch} epochs the row would take {where}, while the weights "
        f"kept are those of epoch {result.best_epoch}. The gain over that epoch is {gains}. "
        + ("No single network has this row." if several else "Here all are best in one epoch: the trap did not show."),
        shows=several,
        heads=("each at its best epoch", f"all at epoch {result.best_epoch}"),
        numbers=(
            *(Sides(f"{names[best.metric]} (mean over patches)", best.anywhere, best.at_best) for best in found),
            *(Sides(f"epoch that {names[best.metric]} is from", best.own_epoch, best.best_epoch) for best in found),
        ),
        instead="One objective picks one epoch; every score, figure and exported weight is of that epoch. The other "
        "row is kept as `paper/best_of_any_epoch/...` for comparison with the paper, and never ranks. The best of "
        "many noisy epochs still flatters: an untouched test role is the cure.",
        picture=draw(found),
        shown="Each metric over the epochs. Orange: its own best epoch. Blue: the epoch whose weights are kept.",
    )  # fmt: skip


def noisy_spec(bench: Bench) -> TrialSpec:
    """A constant rate and few patients, as at the start of many studies: the scores jump from epoch to epoch."""
    patients = sorted(bench.cohort.presence)
    split = Split(train=tuple(patients[:TRAINING]), validation=tuple(patients[TRAINING : TRAINING + VALIDATING]))
    return bench.spec(schedule="constant", epochs=EPOCHS, split=split)


def measure(progress: Progress, best_epoch: int) -> tuple[Best, ...]:
    """The paper's three metrics, each at its own best epoch and at `best_epoch`."""
    anywhere = best_of_any_epoch(progress)
    found = []
    for metric in METRICS:
        values = tuple(epoch[f"paper/val/{metric}"] for epoch in progress.history)
        own = values.index(anywhere[f"paper/best_of_any_epoch/val/{metric}"]) + 1
        found.append(Best(metric, values, own, best_epoch))
    return tuple(found)


def draw(found: tuple[Best, ...]) -> bytes:
    """A panel per metric."""
    figure = canvas(7.2, 2.6)
    for axes, best in zip(np.ravel(figure.subplots(1, len(found))), found, strict=True):
        axes.plot(range(1, len(best.values) + 1), best.values, color=FAINT, linewidth=1.2)
        axes.plot([best.best_epoch], [best.at_best], "s", color=HARNESS, markersize=7)
        axes.plot([best.own_epoch], [best.anywhere], "o", color=USUAL, markersize=5)
        name = {"iou": "IoU", "dice": "Dice", "loss": "loss"}[best.metric]
        axes.set_title(f"{name}: {score_text(best.anywhere)} or {score_text(best.at_best)}", fontsize=9)
        axes.set_xlabel("epoch")
        score_axes(axes)
    return drawn(figure)
