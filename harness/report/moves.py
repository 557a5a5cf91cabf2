"""Which confusions moved between two trials judged on the same pixels: the difference of their confusion matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.report.scored import Scored
from harness.scores import Matrix, class_confusion

UNDEFINED_COLUMN = "undefined"


@dataclass(frozen=True, slots=True)
class Move:
    """Pixels of one true class that A calls one class and the other trial, net, another."""

    true: str
    called: str  # by A
    now: str  # by the other
    pixels: int
    share: float  # of the true class's pixels
    verdict: str  # "better", "worse", or "wrong both times"


def class_columns(scored: Scored) -> Matrix:
    """K true classes by `undefined` and the K predicted ones: one shape, whether or not a trial may say `undefined`."""
    counts = class_confusion(scored.matrix, scored.scheme)
    if scored.scheme.undefined_column:
        return counts
    return np.hstack([np.zeros((len(counts), 1), np.int64), counts])


def changes(first: Scored, other: Scored) -> Matrix:
    """Pixels that the other trial has more of in each cell (K by 1 + K); every row sums to 0."""
    return class_columns(other) - class_columns(first)


def moves(first: Scored, other: Scored) -> tuple[Move, ...]:
    """The net moves from A to the other, the largest first.

    In each true class, columns lost pixels and others gained as many. Where several lost and several gained, the
    largest loss is set against the largest gain, then what is left in the same way: matrices do not tell more.
    """
    names = first.scheme.labels.class_names
    columns = (UNDEFINED_COLUMN, *names)
    totals = class_columns(first).sum(axis=1)
    found = []
    for true, row, total in zip(names, changes(first, other), totals, strict=True):
        for start, end, pixels in _flows(row):
            called, now = columns[start], columns[end]
            verdict = "better" if now == true else "worse" if called == true else "wrong both times"
            found.append(Move(true, called, now, pixels, pixels / int(total), verdict))
    return tuple(sorted(found, key=lambda move: (-move.pixels, move.true, move.called, move.now)))


def _flows(row: Matrix) -> list[tuple[int, int, int]]:
    """(from, to, pixels) that turn a row of zeros into this one, which sums to 0."""
    left = [int(value) for value in row]
    flows = []
    while any(left):
        start, end = min(range(len(left)), key=left.__getitem__), max(range(len(left)), key=left.__getitem__)
        pixels = min(-left[start], left[end])
        left[start] += pixels
        left[end] -= pixels
        flows.append((start, end, pixels))
    return flows
