"""Whether one side of a claim beats the other by a margin, asked again after every seed without the error growing.

Looking after every seed and stopping at the first good look calls equal models different far too often. The error is
therefore spent (Lan & DeMets, Biometrika 70, 1983): by n seeds ALPHA x (1 - 2 / n) of it, so that a third is there at
the first look and some is always left: seeds may be added after any verdict of "undecided". What all looks share, the
patients, is part of their joint distribution, so that a verdict limited by patients pays little for looking often.
Degrees of freedom are few; the boundary for normal variables is mapped through Student's t by probability.
Chosen by simulation: docs/statistics.md shows wrong verdicts and power.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from harness.inference.intervals import MIN_PATIENTS, Interval, Spread, mean_over_seeds, normal_of

ALPHA = 0.05
FIRST_LOOK = 3  # seeds; a variance of fewer says nothing
DRAWS = 100_000
OCTAVES = 6  # the variance over patients is none below 2 ** -6 of that of one seed, and all there is above 2 ** 6
UPPER = 0.8  # few seeds may lie close by luck: their variance is taken at this upper limit
CAUTION = 0.85  # of the degrees of freedom: by simulation, 8 to 60 patients and seeds that move scores by .005 to .07
MOST_TIMES = 50  # as many seeds or patients: asked for more, "about how many" is no plan

Word = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be said of a claim after so many seeds; it holds whenever one stops."""

    word: Word
    seeds: int  # that the verdict stands on
    difference: Interval | None = None  # over patients and seeds; covers at any time of stopping
    more_seeds: int | None = None  # about so many would settle it, if the difference stays
    more_patients: int | None = None  # where seeds alone would not: so many, with the seeds if both are given
    hopeless: bool = False  # further seeds would not settle it, as far as one can tell
    reason: str = ""  # why there is no difference


def verdict(differences: Sequence[Spread], margin: float) -> Verdict:
    """The first look that decides, else the last one.

    `differences`: per seed, in the order they were trained, one side's score minus the other's, by patient.
    """
    seeds = len(differences)
    if differences and len(differences[0].deviations) < MIN_PATIENTS:
        reason = f"{len(differences[0].deviations)} validation patients; a verdict needs {MIN_PATIENTS}"
        return Verdict("undecided", seeds, hopeless=True, reason=reason)
    if seeds < FIRST_LOOK:
        return Verdict("undecided", seeds, reason=f"{seeds} of the {FIRST_LOOK} seeds that a first look needs")
    found = _look(differences[:FIRST_LOOK], margin)
    for count in look_sizes(seeds)[1:]:
        if found.word != "undecided":
            break
        found = _look(differences[:count], margin)
    return found


def _look(differences: Sequence[Spread], margin: float) -> Verdict:
    from scipy.special import ndtr, stdtrit  # .2 s that `harness status` need not spend

    seeds, mean = len(differences), mean_over_seeds(differences)
    over_patients, over_seeds = float(mean.deviations @ mean.deviations), float(mean.own @ mean.own)
    total = over_patients + over_seeds
    normal = _boundary(seeds, over_patients, over_seeds * seeds)
    half = float(stdtrit(CAUTION * mean.degrees, ndtr(normal))) * math.sqrt(total)
    known = Interval(mean.score, mean.score - half, mean.score + half)
    if known.low > margin:
        return Verdict("supported", seeds, known)
    if known.high <= margin:
        return Verdict("refuted", seeds, known)
    gap = abs(mean.score - margin)
    hopeless = gap + 2 * math.sqrt(over_seeds) <= normal * math.sqrt(over_patients)
    needed = (gap / normal) ** 2  # the variance at which the gap would reach the boundary
    more = _more(needed, over_seeds, over_patients, seeds=seeds, patients=len(mean.deviations))
    return Verdict("undecided", seeds, known, *more, hopeless=hopeless)


def _more(
    needed: float, over_seeds: float, over_patients: float, *, seeds: int, patients: int
) -> tuple[int | None, int | None]:
    """About how many more seeds bring the variance down to `needed`; if they alone cannot, patients; else both.

    (None, None) where that is no plan: more than MOST_TIMES of what there is.
    """
    of_seeds = _times(over_seeds, needed - over_patients)
    if of_seeds <= MOST_TIMES:
        return max(math.ceil(seeds * (of_seeds - 1)), 1), None
    of_patients = _times(over_patients, needed - over_seeds)
    if of_patients <= MOST_TIMES:
        return None, max(math.ceil(patients * (of_patients - 1)), 1)
    of_both = _times(over_seeds + over_patients, needed)
    if of_both <= MOST_TIMES:
        return math.ceil(seeds * (of_both - 1)), math.ceil(patients * (of_both - 1))
    return None, None


def _times(variance: float, wanted: float) -> float:
    """How many times as much it takes to bring a variance down to what is wanted."""
    return variance / wanted if wanted > 0 else math.inf


def _boundary(seeds: int, over_patients: float, of_one_seed: float) -> float:
    """The normal deviate to reach. How much of the variance is the patients' is guessed low: less is then in common.

    Few seeds may lie close by luck; their variance is taken at its upper limit.
    """
    from scipy.special import chdtri

    most = of_one_seed * (seeds - 1) / float(chdtri(seeds - 1, UPPER))
    with np.errstate(divide="ignore"):
        octave = np.log2(over_patients) - np.log2(most) if over_patients or most else OCTAVES
    return _boundaries(int(np.clip(np.floor(octave), -OCTAVES, OCTAVES)), seeds)[seeds]


def look_sizes(most: int) -> tuple[int, ...]:
    """After how many seeds one looks: 3, 4, 5, 6, 8, 10, 12, 16, ..., as far as `most`."""
    sizes, step = [FIRST_LOOK], 1
    while sizes[-1] < most:
        if sizes[-1] >= 6 * step:
            step *= 2
        sizes.append(sizes[-1] + step)
    return tuple(size for size in sizes if size <= most)


@lru_cache(maxsize=64)
def _boundaries(octave: int, most: int) -> dict[int, float]:
    """The normal deviate that each look has to reach, by its seeds.

    The variance over patients is 2 ** `octave` times that of one seed. The variance over seeds is estimated from as
    many as there are, also here: its quantiles are mapped from Student's t as those of the data are.
    """
    random = np.random.default_rng(octave + OCTAVES)
    over_patients = 0.0 if octave <= -OCTAVES else 2.0**octave
    common = math.sqrt(over_patients) * random.standard_normal(DRAWS)
    sums, squares, alive = np.zeros(DRAWS), np.zeros(DRAWS), np.ones(DRAWS, dtype=bool)
    found: dict[int, float] = {}
    sizes, spent = look_sizes(most), 0.0
    for count in range(1, most + 1):
        drawn = random.standard_normal(DRAWS)
        sums += drawn
        squares += drawn**2
        if count not in sizes:
            continue
        over_seeds = (squares - sums**2 / count) / (count * (count - 1))
        total = over_patients + over_seeds
        degrees = (count - 1) * (total / over_seeds) ** 2
        deviates = normal_of((common + sums / count) / np.sqrt(total), degrees)
        budget = ALPHA * (1 - 2 / count)
        critical = float(np.sort(deviates[alive])[-max(round((budget - spent) * DRAWS), 1)])
        alive &= deviates < critical
        found[count], spent = critical, budget
    return found
