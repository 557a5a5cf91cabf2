"""A claim's evidence: which runs of which seeds count, and the verdict on them. The same for controller and report.

A claim is tried in *cells*: two arms that differ in what the claim is about and agree in everything else. Each fresh
seed is a round: every arm of every cell trained once with it. The difference of a round is the mean over cells of the
paired differences, so that cells stand for themselves, and seeds and patients are what varies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.config.base import Frozen
from harness.inference.intervals import Spread, mean_of, minus, spread_of
from harness.inference.ratios import ratios_of
from harness.inference.sequential import Verdict, look_sizes, verdict
from harness.scores import RoiMatrices, Scheme

MOST_FAILED = 3  # rounds; a side that fails this often will not get better


class Arm(Frozen):
    """One side of a cell: a combination, by the name that its runs share: that of its search run, or one of its own."""

    uid: str
    stratum: str
    number: int
    parameters: dict[str, Any]


class Cell(Frozen):
    """Two arms that differ in nothing but the claim."""

    better: Arm
    worse: Arm


class Contest(Frozen):
    """A claim with the cells chosen for it when the search was over, and its seeds in order: `claims.json`."""

    text: str
    metric: str
    margin: float
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    stated_after: int = 0  # trials of the sweep that had completed when the claim was first read
    note: str = ""  # why there is no cell

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm, each cell's better one first."""
        return tuple(arm for cell in self.cells for arm in (cell.better, cell.worse))


# Of one arm with one seed: its score by patient, that it failed (or has no such score), or None: not ended yet.
Outcome = Spread | Literal["failed"] | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a claim's runs say so far."""

    verdict: Verdict
    ended: int  # rounds in which every run has ended, failed ones too
    next_rounds: int  # that should have begun by now; no more than `ended` when the claim needs none


def evidence(claim: Contest, outcome: Callable[[Arm, int], Outcome], *, most: int | None = None) -> Evidence:
    """The verdict on all rounds up to the first that has not ended, and how many rounds the next look needs.

    `most`: rounds to begin at most; None: as many as the claim has seeds.
    """
    if not claim.cells:
        return Evidence(Verdict("undecided", 0, hopeless=True, reason=claim.note), 0, 0)
    differences: list[Spread] = []
    ended = 0
    for seed in claim.seeds:
        found = [outcome(arm, seed) for arm in claim.arms]
        if any(one is None for one in found):
            break
        ended += 1
        spreads = [one for one in found if isinstance(one, Spread)]
        if len(spreads) == len(found):
            pairs = zip(spreads[::2], spreads[1::2], strict=True)
            differences.append(mean_of([minus(better, worse) for better, worse in pairs]))
    known, failed = verdict(differences, claim.margin), ended - len(differences)
    if failed >= MOST_FAILED and not differences:
        known = Verdict("undecided", 0, hopeless=True, reason=f"{failed} of {ended} rounds failed")
    if known.word != "undecided" or known.hopeless:
        return Evidence(known, ended, ended)
    most = len(claim.seeds) if most is None else most
    wanted = next((size for size in look_sizes(most) or (most,) if size > len(differences)), 0)
    return Evidence(known, ended, min(wanted + failed, most) if wanted else ended)


def outcome_of(rois: Sequence[RoiMatrices], scheme: Scheme, metric: str) -> Outcome:
    """A completed run's score by patient; `failed` where it has none, or a class lies in one patient alone."""
    counts = ratios_of(rois, scheme, metric)
    return (None if counts is None else spread_of(counts)) or "failed"
