"""The jackknife of many runs on the same patients at once, equal to `intervals.spread_of` to the last digit."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.inference.intervals import LEVEL, Spread
from harness.inference.ratios import KINDS, PARTS, Array, Ratios, ratios_of_epochs
from harness.scores import Matrix, Scheme

CHUNK = 512  # runs at a time: 60 patients, 8 ids and 7 classes in double precision are 14 MB


@dataclass(frozen=True, slots=True)
class Spreads:
    """One score of N runs; `known` says where there is a spread at all."""

    scores: Array  # (N,)
    deviations: Array  # (N, P)
    degrees: Array  # (N,)
    known: NDArray[np.bool_]  # (N,)

    def one(self, index: int) -> Spread | None:
        """One run's."""
        if not self.known[index]:
            return None
        return Spread(float(self.scores[index]), self.deviations[index], float(self.degrees[index]))

    def intervals(self) -> Array:
        """(N, 2) low and high ends of the 95 % intervals, kept within 0..1; NaN where there is none."""
        from scipy.special import stdtrit  # .2 s that `harness status` need not spend

        errors = np.sqrt([float(line @ line) for line in self.deviations])
        half = stdtrit(self.degrees, 0.5 + LEVEL / 2) * errors
        ends = np.stack([np.maximum(self.scores - half, 0.0), np.minimum(self.scores + half, 1.0)], axis=1)
        return np.where(self.known[:, None], ends, np.nan)


def is_ratio(metric: str) -> bool:
    """Whether a score has counts per patient: no loss has, and none of a single centre."""
    part, _, name = metric.rpartition("/")
    return part in PARTS and name.partition("_")[0] in KINDS


def spreads(counts_N2PSC: list[Matrix], patients: tuple[str, ...], scheme: Scheme, metric: str) -> list[Spread | None]:
    """One score of runs on the same true pixels; ValueError for a metric that is no ratio of counts."""
    if not is_ratio(metric):
        raise ValueError(f"{metric} has no counts per patient")
    part, _, name = metric.rpartition("/")
    found: list[Spread | None] = []
    for hits_NPK, sizes_NPK, _ in _counted(counts_N2PSC, PARTS.index(part), patients, scheme, name):
        chunk = _jackknife(hits_NPK, sizes_NPK)
        found += [chunk.one(index) for index in range(len(hits_NPK))]
    return found


def every_interval(
    counts_N2PSC: list[Matrix], patients: tuple[str, ...], scheme: Scheme
) -> list[dict[str, list[float]]]:
    """{score without `val/`: [low, high]} of each run, for every score over all patients that has one."""
    found: list[dict[str, list[float]]] = [{} for _ in counts_N2PSC]
    for kind in KINDS:
        start = 0
        for hits_NPK, sizes_NPK, classes in _counted(counts_N2PSC, 0, patients, scheme, kind):
            picks = [(kind, slice(None)), *((f"{kind}_{name}", slice(k, k + 1)) for k, name in enumerate(classes))]
            for name, pick in picks if classes else ():
                ends = _jackknife(hits_NPK[..., pick], sizes_NPK[..., pick]).intervals().tolist()
                for run, (low, high) in zip(found[start : start + len(ends)], ends, strict=True):
                    if low == low:  # not NaN
                        run[name] = [low, high]
            start += len(hits_NPK)
    return found


def _counted(
    counts_N2PSC: list[Matrix], part: int, patients: tuple[str, ...], scheme: Scheme, name: str
) -> Iterator[tuple[Array, Array, tuple[str, ...]]]:
    """(hits, sizes, classes) of the runs in turn, (n, P, K) each; K is 0 where the score is n/a."""
    for start in range(0, len(counts_N2PSC), CHUNK):
        chunk = np.stack([counts[part] for counts in counts_N2PSC[start : start + CHUNK]])
        # The yardstick's classes may be in one run's predictions alone: only without any missing are runs alike.
        alike = name.partition("_")[0] != "yardstick" or len(chunk) == 1
        ratios = ratios_of_epochs(chunk, patients, scheme, name)
        whole = bool(ratios) and (alike or len(ratios[0].classes) == (1 if "_" in name else 2))
        if alike or whole:
            yield _stacked(ratios, len(chunk), len(patients))
        else:
            for one in chunk:
                yield _stacked(ratios_of_epochs(one[None], patients, scheme, name), 1, len(patients))


def _stacked(ratios: tuple[Ratios, ...], runs: int, patients: int) -> tuple[Array, Array, tuple[str, ...]]:
    if not ratios:
        nothing = np.zeros((runs, patients, 0))
        return nothing, nothing, ()
    hits = np.stack([one.hits for one in ratios])
    return hits, np.stack([one.sizes for one in ratios]), ratios[0].classes


def _jackknife(hits_NPK: Array, sizes_NPK: Array) -> Spreads:
    runs, patients, classes = hits_NPK.shape
    if patients < 2 or not classes:
        return Spreads(np.zeros(runs), np.zeros((runs, patients)), np.ones(runs), np.zeros(runs, dtype=bool))
    hits_NK, sizes_NK = hits_NPK.sum(axis=1), sizes_NPK.sum(axis=1)
    rest = sizes_NK[:, None] - sizes_NPK
    known = (rest > 0).all(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        without_NP = ((hits_NK[:, None] - hits_NPK) / rest).mean(axis=2)
        deviations = math.sqrt((patients - 1) / patients) * (without_NP - without_NP.mean(axis=1, keepdims=True))
        scores = (hits_NK / sizes_NK).mean(axis=1)
        shares_NP = (sizes_NPK / sizes_NK[:, None]).mean(axis=2)
        degrees = np.array([1.0 / float(shares @ shares) - 1.0 for shares in shares_NP])
    return Spreads(scores, np.where(known[:, None], deviations, 0.0), np.maximum(degrees, 1.0), known)
