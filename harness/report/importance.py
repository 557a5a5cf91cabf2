"""How much each parameter decides whether a run is among the best: PED-ANOVA, in numpy.

S. Watanabe, A. Bansal, F. Hutter: PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
Subspaces, IJCAI 2023 (arXiv 2304.10255); parameters that are active only at times as in conditional PED-ANOVA
(arXiv 2601.20800). Densities, grids and bandwidths are those of Optuna 5's PedAnovaImportanceEvaluator, so that both
give the same numbers: one-dimensional Parzen estimators with Scott's rule over at most 50 cells, of the best share of
the runs and of all runs; a parameter's importance is the Pearson divergence of the first from the second.

The spread is a bootstrap over runs, and every resample runs through the same code as one row of an array.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.report.domains import Domain
from harness.report.queries import Value
from harness.report.svg import WIDTH, figure, number_text, segment, short, text, ticks
from harness.report.wording import factor_text

# The best quarter: with Optuna's tenth, the one parameter that mattered came first in 60 % of simulated sweeps of 24
# runs, with a quarter in 80 % (benchmarks/importance_threshold.py; the table is in docs/report-effects.md).
BEST_SHARE = 0.25
MIN_RUNS = 24
RESAMPLES = 400
SEED = 7
CELLS = 50
DRAWN_PARAMETERS = 12
# Half a cell's 90 %: a kernel is not narrower than its cell.
_NARROWEST = 0.5 / 1.64
_FLOOR = 1e-12

Counts = NDArray[np.int64]
Whole = NDArray[np.float32]  # counts whose products with 0 and 1 are exact, and fast
Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Importance:
    """One parameter's share of all importance, with the middle 95 % of the resamples."""

    name: str
    share: float
    low: float
    high: float
    active: int  # runs in which it was set


@dataclass(frozen=True, slots=True)
class Cells:
    """One parameter's values as cells of its grid."""

    cell_N: Counts  # -1 where the parameter is inactive
    size: int
    ordered: bool  # neighbouring cells are alike; choices are not


def importances(
    rows: Sequence[Mapping[str, Value]], losses: Sequence[float], domains: Mapping[str, Domain]
) -> tuple[Importance, ...]:
    """The share of every parameter with something to choose, largest first; empty below MIN_RUNS or without any.

    `rows` are parameters by run, inactive ones None; smaller `losses` are better.
    """
    kept = [domain for domain in domains.values() if not domain.single]
    if len(rows) < MIN_RUNS or not kept:
        return ()
    grids = [cells(domain, [row.get(domain.name) for row in rows]) for domain in kept]
    losses_N = np.asarray(losses, dtype=np.float64)
    draws = np.random.default_rng(SEED).integers(0, len(rows), (RESAMPLES, len(rows)))
    everyone = np.arange(len(rows))[None]
    shares = _shares(ped_anova(grids, losses_N, everyone))[:, 0]
    spread = _shares(ped_anova(grids, losses_N, draws))
    if not np.isfinite(shares).all():
        return ()
    lows, highs = np.nanquantile(spread, [0.025, 0.975], axis=1)
    found = [
        Importance(domain.name, float(share), float(low), float(high), int((grid.cell_N >= 0).sum()))
        for domain, grid, share, low, high in zip(kept, grids, shares, lows, highs, strict=True)
    ]
    return tuple(sorted(found, key=lambda one: (-one.share, one.name)))


def importance_figure(found: Sequence[Importance], *, title: str) -> str:
    """A bar per parameter with the middle 95 % of the resamples, largest first."""
    drawn = found[:DRAWN_PARAMETERS]
    if not drawn:
        return ""
    left, right, top, row_px = 190, 60, 8, 24
    steps = ticks(0.0, max(one.high for one in drawn), 5)

    def at(share: float) -> float:
        return left + share / steps[-1] * (WIDTH - left - right)

    base = top + row_px * len(drawn)
    parts = []
    for tick in steps:
        parts.append(segment(at(tick), top, at(tick), base, "axis" if tick == 0 else "grid"))
        parts.append(text(at(tick), base + 16, number_text(100 * tick, [100 * step for step in steps]), "soft mid"))
    parts.append(text((left + WIDTH - right) / 2, base + 34, "share of all importance, %", "soft mid"))
    for index, one in enumerate(drawn):
        y = top + row_px * (index + 0.5)
        name = factor_text(one.name)
        parts.append(text(left - 12, y + 4, short(name, 26), "end", hover=name))
        parts.append(segment(left, y, at(one.share), y, "beam s1"))
        parts.append(segment(at(one.low), y, at(one.high), y, "bar s0"))
        parts.append(text(at(max(one.high, one.share)) + 8, y + 4, f"{100 * one.share:.0f}", "s0 name"))
    return figure(base + 40, title, parts)


def ped_anova(
    grids: Sequence[Cells], losses_N: Numbers, draws_BN: Counts, *, best_share: float = BEST_SHARE
) -> Numbers:
    """(P, B) importance of every parameter in every resample of the runs, not normalised."""
    drawn_BN = _times_drawn(draws_BN, len(losses_N))
    order = np.argsort(losses_N)
    place = math.ceil(best_share * draws_BN.shape[1])
    last_B = order[(drawn_BN[:, order].cumsum(axis=1) >= place).argmax(axis=1)]
    best_BN = np.where(losses_N <= losses_N[last_B, None], drawn_BN, 0)
    return np.stack([_divergence(grid, drawn_BN, best_BN) for grid in grids])


def _times_drawn(draws_BN: Counts, runs: int) -> Whole:
    """(B, N) how often each resample has each run."""
    flat = (np.arange(len(draws_BN))[:, None] * runs + draws_BN).ravel()
    return np.bincount(flat, minlength=len(draws_BN) * runs).reshape(-1, runs).astype(np.float32)


def cells(domain: Domain, values: Sequence[Value]) -> Cells:
    """Values on the domain's grid: choices as they are, a range in at most CELLS steps (of its logarithm)."""
    if domain.choices:
        places = [-1 if value is None else domain.place(value) for value in values]
        return Cells(np.array(places, dtype=np.int64), len(domain.choices), ordered=False)
    size = CELLS
    if domain.whole:
        span = domain.high - domain.low + 1
        size = min(CELLS, math.ceil(math.log2(span)) + 1 if domain.log else round(span))
    scale = math.log if domain.log else float
    low, high = scale(domain.low), scale(domain.high)
    step = (high - low) / (size - 1)

    def place(value: Value) -> int:
        # Midway between two cells the lower one holds.
        nearest = -1 if value is None else math.ceil((scale(float(value)) - low) / step - 0.5)
        return -1 if value is None else min(max(nearest, 0), size - 1)

    return Cells(np.array([place(value) for value in values], dtype=np.int64), size, ordered=True)


def _divergence(grid: Cells, drawn_BN: Whole, best_BN: Whole) -> Numbers:
    """(B,) Pearson divergence of the best runs' density from all runs', weighted by how often it is active."""
    held_NG = (grid.cell_N[:, None] == np.arange(grid.size)).astype(np.float32)
    all_BG, best_BG = ((times_BN @ held_NG).astype(np.int64) for times_BN in (drawn_BN, best_BN))
    density = _ordered_density if grid.ordered else _choice_density
    runs, best = float(drawn_BN[0].sum()), best_BN.sum(axis=1).astype(np.float64)
    known = (all_BG.sum(axis=1) >= 2) & (best_BG.sum(axis=1) > 0)
    found = np.zeros(len(drawn_BN))
    all_density, best_density = density(all_BG[known]), density(best_BG[known])
    pearson = (all_density * (best_density / all_density - 1) ** 2).sum(axis=1)
    of_best = best_BG[known].sum(axis=1) / best[known]
    of_all = all_BG[known].sum(axis=1) / runs
    found[known] = of_best**2 / of_all * pearson * (best[known] / runs) ** 2
    return found


def _choice_density(counts_BG: Counts) -> Numbers:
    """(B, G) mixture of one kernel per run and one of the prior, each kernel smoothed by the prior."""
    runs = counts_BG.sum(axis=1, keepdims=True)
    kernels = (counts_BG > 0).sum(axis=1, keepdims=True) + 1
    size = counts_BG.shape[1]
    smoothed = (counts_BG + runs / kernels) / (1 + size / kernels)
    return np.asarray((smoothed + 1 / size) / (runs + 1) + _FLOOR)


def _ordered_density(counts_BG: Counts) -> Numbers:
    """(B, G) mixture of normal kernels of one width (Scott's rule), cut off at the grid's ends, and a wide prior."""
    size = counts_BG.shape[1]
    runs_B = counts_BG.sum(axis=1)
    widths_B = np.maximum(_scott(counts_BG, runs_B), _NARROWEST)
    kernel_BGM = _kernels(widths_B, size)
    prior_G = np.diff(_normal((np.arange(size + 1) - 0.5 - (size - 1) / 2) / size))
    prior_G /= prior_G.sum()
    mixed_BG = np.einsum("bgm,bm->bg", kernel_BGM, counts_BG.astype(np.float64)) + prior_G
    return np.asarray(mixed_BG / (runs_B[:, None] + 1) + _FLOOR)


def _scott(counts_BG: Counts, runs_B: Counts) -> Numbers:
    """(B,) kernel width: 1.059 min(SD, interquartile range / 1.34) n^(-1/5)."""
    cells_G = np.arange(counts_BG.shape[1])
    mean_B = counts_BG @ cells_G / runs_B
    squares_B = (counts_BG * (cells_G - mean_B[:, None]) ** 2).sum(axis=1)
    sd_B = np.sqrt(squares_B / np.maximum(1, runs_B - 1))
    filled_BG = counts_BG.cumsum(axis=1)
    first_B = (filled_BG >= np.maximum(runs_B // 4, 1)[:, None]).argmax(axis=1)
    third_B = (filled_BG > (runs_B * 3 // 4)[:, None]).argmax(axis=1)
    return np.asarray(1.059 * np.minimum((third_B - first_B) / 1.34, sd_B) * runs_B**-0.2)


def _kernels(widths_B: Numbers, size: int) -> Numbers:
    """(B, G, M) mass in cell g of a normal around cell m, cut off outside the grid."""
    edges_E = np.arange(-size, size + 1) + 0.5  # every distance from a cell's edge to a kernel's middle
    below_BE = _normal(edges_E / widths_B[:, None])
    mass_BE = np.diff(below_BE, axis=1)
    distance_GM = np.arange(size)[:, None] - np.arange(size)[None, :]
    kernel_BGM = mass_BE[:, distance_GM + size - 1]
    return np.asarray(kernel_BGM / kernel_BGM.sum(axis=1, keepdims=True))


def _normal(z: Numbers) -> Numbers:
    """The normal distribution function; numpy has no error function, and there are few values."""
    return 0.5 * np.asarray(np.frompyfunc(math.erfc, 1, 1)(-z / math.sqrt(2)), dtype=np.float64)


def _shares(found_PB: Numbers) -> Numbers:
    """Parts of the sum over parameters; NaN where nothing matters at all."""
    total_B = found_PB.sum(axis=0)
    return np.asarray(np.divide(found_PB, total_B, out=np.full(found_PB.shape, np.nan), where=total_B > 0))
