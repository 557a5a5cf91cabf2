"""What the winner would score on patients it was not picked on.

The best of N trials by M checkpoints looks better than it is. The correction repeats the picking where it can be
checked: patients are cut into folds, trial and epoch are picked by all patients but those of a fold, and what was
picked is counted on that fold; the counts of all folds together give one score in which nobody was judged by the
patients it was picked on (nested selection: Varma & Simon, BMC Bioinformatics 7:91, 2006). Tsamardinos et al. (Machine
Learning 107, 2018) do the same by bootstrap; with few patients of unequal size, out-of-bag sets are small and
their pooled scores biased, see docs/statistics.md for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.inference.ratios import Ratios

FOLDS, REPEATS = 5, 10


@dataclass(frozen=True, slots=True)
class Selection:
    """The best of all candidates as it looks, and as it would be expected to score."""

    raw: float
    corrected: float
    candidates: int

    @property
    def optimism(self) -> float:
        """How much better the winner looks than it is."""
        return self.raw - self.corrected


def corrected_winner(
    candidates: Sequence[Ratios], *, minimize: bool = False, folds: int = FOLDS, repeats: int = REPEATS, seed: int = 0
) -> Selection | None:
    """The selection among candidates (every trial at every epoch) of one board, all on the same patients and classes.

    None with fewer patients than two, or where leaving a fold out leaves a class without pixels in every way of
    cutting that was tried.
    """
    hits = np.stack([one.hits for one in candidates])  # (C, P, K)
    sizes = np.stack([one.sizes for one in candidates])
    sign = -1.0 if minimize else 1.0
    patients = hits.shape[1]
    if patients < 2:
        return None
    totals = hits.sum(axis=1), sizes.sum(axis=1)
    raw = sign * (totals[0] / totals[1]).mean(axis=1)
    random = np.random.default_rng(seed)
    scores = []
    for _ in range(repeats):
        fold_of = random.permutation(patients) % min(folds, patients)
        score = _held_out(hits, sizes, totals, fold_of, sign)
        if score is not None:
            scores.append(score)
    if not scores:
        return None
    return Selection(float(sign * raw.max()), float(np.mean(scores)), len(candidates))


def _held_out(
    hits: NDArray[np.float64],
    sizes: NDArray[np.float64],
    totals: tuple[NDArray[np.float64], NDArray[np.float64]],
    fold_of: NDArray[np.int64],
    sign: float,
) -> float | None:
    """The pooled score of what was picked without each fold, on that fold."""
    own_hits, own_sizes = np.zeros(hits.shape[2]), np.zeros(hits.shape[2])
    for fold in np.unique(fold_of):
        here = fold_of == fold
        fold_hits, fold_sizes = hits[:, here].sum(axis=1), sizes[:, here].sum(axis=1)
        rest = totals[1] - fold_sizes
        if not (rest > 0).all():
            return None
        picked = int((sign * ((totals[0] - fold_hits) / rest).mean(axis=1)).argmax())
        own_hits += fold_hits[picked]
        own_sizes += fold_sizes[picked]
    return float((own_hits / own_sizes).mean()) if (own_sizes > 0).all() else None
