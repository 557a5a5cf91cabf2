"""Who may be ranked against whom, and the ranks. The only place that orders trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.files import safe_name
from harness.report.queries import Sweep, Trial
from harness.report.scored import Scored
from harness.report.trust import UNKNOWN, Trust, judged

YARDSTICK = "val/yardstick"
# Below this many fresh seeds the search run's own score stands, flagged "one seed".
FRESH_SEEDS = 3
FEW_PATIENTS = 15


@dataclass(frozen=True, slots=True)
class Row:
    """One setting on a board: a search run, and its replicates if there are any."""

    trial: Trial
    replicates: tuple[Trial, ...]  # complete ones, fresh seeds
    scores: Mapping[str, float | None]  # over replicates where there are enough, else the search run's
    score: float | None  # `scores` at the board's metric; None is n/a and unranked
    seed_sd: float | None  # over replicates
    rank: int | None = None
    tied: bool = False
    behind: float | None = None  # score minus the leader's
    trust: Trust = UNKNOWN
    wins: bool = False  # leads by a mean over fresh seeds, and every other row can be told from it

    @property
    def replicated(self) -> bool:
        """Whether the score is a mean over enough fresh seeds."""
        return len(self.replicates) >= FRESH_SEEDS

    @property
    def trials(self) -> tuple[Trial, ...]:
        """What the score is the mean of: the replicates where there are enough, else the search run."""
        return self.replicates if self.replicated else (self.trial,)

    @property
    def runs(self) -> tuple[Scored, ...]:
        """The matrices of `trials`."""
        return tuple(map(_scored, self.trials))

    @property
    def scored(self) -> Scored:
        """The search run's matrices."""
        assert self.trial.scored is not None
        return self.trial.scored


@dataclass(frozen=True, slots=True)
class Board:
    """Rows that may be compared: ranked ones first, then those without a score."""

    key: str
    label_maps: tuple[str, ...]
    metric: str
    minimize: bool
    rows: tuple[Row, ...]
    devices: Mapping[str, int]
    validation_set: str | None = None  # "A", "B", ... where a sweep has several

    @property
    def label_keys(self) -> frozenset[str]:
        """The keys of the rows' label maps; rows share a few schemes."""
        return frozenset(
            one.labels.key for one in {id(row.scored.scheme): row.scored.scheme for row in self.rows}.values()
        )

    @property
    def by_yardstick(self) -> bool:
        """Whether this is the board over all label maps."""
        return self.key.startswith("yardstick-")

    @property
    def ranked(self) -> tuple[Row, ...]:
        """Rows with a rank."""
        return tuple(row for row in self.rows if row.rank is not None)

    @property
    def leader(self) -> Row | None:
        """The first row, or None when nothing ranks."""
        return self.ranked[0] if self.ranked else None

    @property
    def first_trained(self) -> Row | None:
        """The first row that is no other tool's masks."""
        return next((row for row in self.ranked if row.trial.external is None), None)

    @property
    def title(self) -> str:
        """Label maps, and the validation set where there are several."""
        # Two names on a group's board mean the same ids; the yardstick's board holds them all.
        labels = "all label maps" if self.by_yardstick else " = ".join(self.label_maps)
        return labels if self.validation_set is None else f"{labels}, validation set {self.validation_set}"


@lru_cache(maxsize=8)
def group_boards(sweep: Sweep, *, metric: str | None = None) -> tuple[Board, ...]:
    """One board per comparability group, by the sweep's objective unless another `metric` (to maximise) is asked.

    By another one rows are ranked and have their intervals, but are not compared in pairs.
    """
    names = _set_names(sweep)
    boards = []
    for group, trials in _by(sweep.rankable, "group").items():
        labels = tuple(sorted({_scored(trial).label_map for trial in trials}))
        key = f"{safe_name('-'.join(labels))}-{group[:6]}"
        minimize, own = sweep.minimize and metric is None, metric is None
        boards.append(_board(key, trials, metric or sweep.metric, minimize, names, labels, pairs=own))
    return tuple(sorted(boards, key=lambda board: (board.title, board.key)))


@lru_cache(maxsize=4)
def yardstick_boards(sweep: Sweep) -> tuple[Board, ...]:
    """One board per set of validation pixels, over all label maps, by the yardstick."""
    names = _set_names(sweep)
    return tuple(
        _board(
            f"yardstick-{pixels[:6]}",
            trials,
            YARDSTICK,
            False,
            names,
            tuple(sorted({_scored(trial).label_map for trial in trials})),
        )
        for pixels, trials in sorted(_by(sweep.rankable, "pixels").items())
    )


def flags(row: Row, sweep: Sweep) -> tuple[str, ...]:
    """What a reader must know about a row before believing its rank."""
    result = row.trial.result or {}
    # Another tool's masks only carry the mark, so that scores without the trials' enlarged ROIs compare.
    resized = 0 if row.trial.external else row.scored.resized
    cuts = result.get("lr_cuts")
    found = [
        "winner" if row.wins else None,
        f"tied at {row.rank}" if row.tied else None,
        "not told from the first" if row.trust.told_apart is False and row.rank != 1 else None,
        seeds_flag(row),
        "not trained here" if row.trial.external else None,
        "baseline" if row.trial.baseline else None,
        _mark(row, sweep),
        f"{resized} of {row.scored.regions} ROIs enlarged" if resized else None,
        _cuts(cuts) if row.trial.settings.get("schedule") == "plateau" or cuts else None,
        "stopped early" if result.get("stopped_early") else None,
        *(str(flag).replace("_", " ") for flag in result.get("flags") or ()),
    ]
    return tuple(dict.fromkeys(flag for flag in found if flag))


def seeds_flag(row: Row) -> str | None:
    """How many seeds the score stands on; None for masks of another tool, of which nobody here knows."""
    if row.trial.external:
        return None
    return f"{len(row.replicates)} seeds" if row.replicated else "one seed"


def _mark(row: Row, sweep: Sweep) -> str | None:
    """`in paper`, and `extension` for every other row of a sweep that reproduces a paper."""
    if row.trial.external:
        return None
    if row.trial.mark:
        return row.trial.mark.replace("_", " ")
    return "extension" if sweep.marked else None


def rank(rows: Iterable[Row], *, minimize: bool = False) -> tuple[Row, ...]:
    """Replicated rows first, then single runs, by score; equal scores share a rank; None is unranked."""
    sign = 1 if minimize else -1
    present = [(row, row.score) for row in rows if row.score is not None]
    absent = [row for row in rows if row.score is None]
    order = sorted(present, key=lambda item: (not item[0].replicated, sign * item[1], item[0].trial.uid))
    places = Counter((row.replicated, score) for row, score in order)
    ranked: list[Row] = []
    for place, (row, score) in enumerate(order, start=1):
        before = ranked[-1] if ranked else None
        same = before is not None and (before.replicated, before.score) == (row.replicated, score)
        ranked.append(
            _with(
                row,
                rank=before.rank if same and before is not None else place,
                tied=places[(row.replicated, score)] > 1,
                behind=score - order[0][1],
            )
        )
    return (*ranked, *sorted(absent, key=lambda row: row.trial.uid))


def _board(
    key: str,
    trials: Sequence[Trial],
    metric: str,
    minimize: bool,
    set_names: Mapping[str, str],
    label_maps: tuple[str, ...],
    *,
    pairs: bool = True,
) -> Board:
    fresh: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.replicate_of is not None:
            fresh.setdefault(trial.replicate_of, []).append(trial)
    rows = [_row(trial, fresh.get(trial.uid, []), metric) for trial in trials if trial.replicate_of is None]
    devices = Counter(trial.device for trial in trials if trial.device)
    return Board(
        key=key,
        label_maps=label_maps,
        metric=metric,
        minimize=minimize,
        rows=_trusted(rank(rows, minimize=minimize), metric, minimize, pairs),
        devices=dict(devices),
        validation_set=set_names.get(_scored(trials[0]).pixels),
    )


def _trusted(rows: Sequence[Row], metric: str, minimize: bool, pairs: bool) -> tuple[Row, ...]:
    """The rows with what may be said of their scores, given that the first of them leads."""
    ranked = [row for row in rows if row.rank is not None]
    trusts = judged([row.runs for row in ranked], metric, minimize=minimize, pairs=pairs)
    found = [_with(row, trust=trust) for row, trust in zip(ranked, trusts, strict=True)]
    if found and _wins(found[0], found[1:]):
        found[0] = _with(found[0], wins=True)
    return (*found, *(row for row in rows if row.rank is None))


def _wins(leader: Row, others: Sequence[Row]) -> bool:
    """Whether the leader earns the badge: fresh seeds, told apart from all others, trained as the space says.

    A run whose batch was cut for want of memory saw other batch statistics than its neighbours, so it earns none.
    """
    runs = (leader.trial, *leader.replicates)
    in_parts = any("parts" in str(flag) for run in runs for flag in (run.result or {}).get("flags") or ())
    apart = bool(others) and all(row.trust.told_apart for row in others)
    return leader.replicated and apart and not in_parts


def _row(trial: Trial, replicates: Sequence[Trial], metric: str) -> Row:
    row = Row(trial, tuple(replicates), _scored(trial).scores, _scored(trial).scores.get(metric), None)
    if not row.replicated:
        return row
    # The search run was picked for its score, so averaging it in would keep the luck it was picked for.
    means = {name: _mean([_scored(r).scores.get(name) for r in replicates]) for name in row.scores}
    values = [value for r in replicates if (value := _scored(r).scores.get(metric)) is not None]
    spread = float(np.std(values, ddof=1)) if len(values) == len(replicates) else None
    return _with(row, scores=means, score=means.get(metric), seed_sd=spread)


def _with(row: Row, **changes: object) -> Row:
    fields = {name: getattr(row, name) for name in Row.__slots__}
    return Row(**{**fields, **changes})


def _mean(values: Sequence[float | None]) -> float | None:
    """None if any is missing: a mean over other seeds than the neighbour's would not compare."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present and len(present) == len(values) else None


def _cuts(cuts: object) -> str:
    return "rate never cut" if not cuts else "rate cut once" if cuts == 1 else f"rate cut {cuts} times"


def _by(trials: Iterable[Trial], what: str) -> dict[str, list[Trial]]:
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(getattr(_scored(trial), what), []).append(trial)
    return groups


def _set_names(sweep: Sweep) -> dict[str, str]:
    pixels = sorted({_scored(trial).pixels for trial in sweep.rankable})
    # 26 different validation sets in one sweep do not happen; numbers would do as well.
    return {} if len(pixels) < 2 else {key: chr(ord("A") + i % 26) for i, key in enumerate(pixels)}


def _scored(trial: Trial) -> Scored:
    assert trial.scored is not None
    return trial.scored
