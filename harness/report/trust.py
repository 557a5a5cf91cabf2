"""What may be said of the scores on a board: intervals over patients, and who cannot be told from the leader."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.files import read_json
from harness.inference.batch import every_interval, is_ratio, spreads
from harness.inference.intervals import Interval, Spread, difference, interval, mean_over_seeds, with_own
from harness.inference.ratios import Ratios, ratios_of_epochs
from harness.inference.selection import Selection, corrected_winner
from harness.inference.simultaneous import against_leader
from harness.report.queries import Trial
from harness.report.scored import DOCUMENT_ERRORS, Scored

# Trials that come into question as winners when the picking is repeated; others are never picked.
MOST_CANDIDATES = 50


@dataclass(frozen=True, slots=True)
class Trust:
    """Of one row; None where it cannot be computed (one patient, a score that is no ratio of counts, ...)."""

    interval: Interval | None = None  # of the score
    gap: Interval | None = None  # of the score minus the leader's, paired by patient
    told_apart: bool | None = None  # from the leader, knowing that it was picked; None below six patients
    p_value: float | None = None  # of being equal to the leader, adjusted for all pairs of the board
    first: float | None = None  # probability of rank 1 when the patients are drawn again


UNKNOWN = Trust()


def judged(runs: Sequence[Sequence[Scored]], metric: str, *, minimize: bool, pairs: bool = True) -> tuple[Trust, ...]:
    """The ranked rows of one board, the leader first; a row is one run, or the replicates whose mean it is.

    Without `pairs` they have their intervals, and are not compared.

    Where rows of several seeds and of one meet, another seed would have moved the latter, too: they are compared as if
    by as much as the former's seeds differ.
    """
    known = _of_rows(runs, metric)
    leader = known[0] if known else None
    if leader is None or not pairs:
        return tuple(UNKNOWN if spread is None else Trust(interval(spread)) for spread in known)
    compared = _with_seeds(known, [len(of_row) for of_row in runs])
    against = iter(against_leader([spread for spread in compared if spread is not None], minimize=minimize))
    found = []
    for place, (spread, moved) in enumerate(zip(known, compared, strict=True)):
        if spread is None or moved is None:
            found.append(UNKNOWN)
            continue
        said = next(against)
        gap = difference(moved, compared[0] or leader) if place else None
        found.append(Trust(interval(spread), gap, said.told_apart, said.p_value, said.first))
    return tuple(found)


def _with_seeds(spreads: Sequence[Spread | None], seeds: Sequence[int]) -> list[Spread | None]:
    """Rows of one seed with the pooled variance over one seed of the rows that have several, if any has."""
    pairs = list(zip(spreads, seeds, strict=True))
    # `own` squares add up to the variance of a mean: times n, that over one seed, on n - 1 degrees of freedom.
    known = [(float(one.own @ one.own) * n, n - 1) for one, n in pairs if one is not None and n > 1]
    if not known:
        return list(spreads)
    degrees = sum(df for _, df in known)
    own = np.array([math.sqrt(sum(variance * df for variance, df in known) / degrees)])
    return [one if one is None or n > 1 else with_own(one, own, degrees) for one, n in pairs]


def class_interval(runs: Sequence[Scored], metric: str) -> Interval | None:
    """The interval of one score of one run, or of the mean over several."""
    spread = _spread(runs, metric)
    return None if spread is None else interval(spread)


def intervals_of(runs: Sequence[Scored]) -> list[dict[str, list[float]]]:
    """{score without `val/`: [low, high]} of each run, for every score over all patients that has one."""
    found: list[dict[str, list[float]]] = [{} for _ in runs]
    for places in _alike(runs):
        first = runs[places[0]]
        known = every_interval([runs[place].counts_2PSC for place in places], first.patients, first.scheme)
        for place, one in zip(places, known, strict=True):
            found[place] = one
    return found


def selection_of(trials: Sequence[Trial], metric: str, *, minimize: bool) -> Selection | None:
    """The winner among trained trials of one board at all their epochs, corrected; None where it cannot be.

    `trials`: best first; the first MOST_CANDIDATES come into question.
    """
    part, _, name = metric.rpartition("/")
    if part != "val":  # the matrices of every epoch are of all pixels
        return None
    candidates: list[Ratios] = []
    for trial in trials[:MOST_CANDIDATES]:
        candidates += _epochs(trial, name)
    shapes = {(one.patients, one.classes) for one in candidates}
    return corrected_winner(candidates, minimize=minimize) if len(shapes) == 1 else None


def _epochs(trial: Trial, name: str) -> tuple[Ratios, ...]:
    """The counts of every epoch of a trial; of its best one alone where the others were not kept."""
    scored = trial.scored
    assert scored is not None
    try:
        epochs = read_json(trial.folder / "scores.json")["epochs"]
        patients = tuple(sorted(epochs[0]["patients"]))
        matrices = np.asarray([[epoch["patients"][one] for one in patients] for epoch in epochs], dtype=np.int64)
    except DOCUMENT_ERRORS:
        return ratios_of_epochs(scored.counts_2PSC[:1], scored.patients, scored.scheme, name)
    return ratios_of_epochs(matrices, patients, scored.scheme, name)


def _spread(runs: Sequence[Scored], metric: str) -> Spread | None:
    return _of_rows([runs], metric)[0]


def _of_rows(rows: Sequence[Sequence[Scored]], metric: str) -> list[Spread | None]:
    """Of every row: its run's, or that of the mean over its runs; None where one of them has none."""
    if not is_ratio(metric):  # such as a loss
        return [None] * len(rows)
    runs = [run for row in rows for run in row]
    known: list[Spread | None] = [None] * len(runs)
    for places in _alike(runs):
        first = runs[places[0]]
        found = spreads([runs[place].counts_2PSC for place in places], first.patients, first.scheme, metric)
        for place, spread in zip(places, found, strict=True):
            known[place] = spread
    every = iter(known)
    return [_mean([next(every) for _ in row]) for row in rows]


def _mean(found: Sequence[Spread | None]) -> Spread | None:
    known = [spread for spread in found if spread is not None]
    if len(known) < len(found):
        return None
    return known[0] if len(known) == 1 else mean_over_seeds(known)


def _alike(runs: Sequence[Scored]) -> list[list[int]]:
    """Places of runs on the same true pixels with the same classes."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, run in enumerate(runs):
        labels = run.scheme.labels
        groups.setdefault((run.group, labels.class_names, run.scheme.undefined_column), []).append(place)
    return list(groups.values())
