"""Ranks without numpy: `harness status` asks for them and loads none."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import correlation


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Spearman's: Pearson's correlation of the ranks, ties at their mean; None where one of both is constant."""
    if min(len(set(xs)), len(set(ys))) < 2:
        return None
    return correlation(_mean_ranks(xs), _mean_ranks(ys))


def _mean_ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [(bisect_left(ordered, value) + bisect_right(ordered, value) + 1) / 2 for value in values]
