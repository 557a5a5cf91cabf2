"""When a running sweep ends, and what ends within its time limit: from how long its trials took so far."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Pace:
    """One stratum: how many trials it is to have, and how long those took that ended."""

    wanted: int
    ended: int
    complete_s: Sequence[float] = ()
    pruned_s: Sequence[float] = ()

    @property
    def trial_s(self) -> float | None:
        """Seconds to expect of a trial: the medians of complete and pruned ones, by their shares; None: no idea."""
        count = len(self.complete_s) + len(self.pruned_s)
        if not count:
            return None
        medians = sum(len(seconds) * median(seconds) for seconds in (self.complete_s, self.pruned_s) if seconds)
        return medians / count


@dataclass(frozen=True, slots=True)
class Forecast:
    """`ended` are trials per stratum when the time limit is reached (without one: at the end)."""

    left_s: float
    ended: Mapping[str, int]
    basis: str


def forecast(
    paces: Mapping[str, Pace],
    running: Sequence[tuple[str, float]],
    *,
    slots: int,
    limit_s: float | None = None,
    guess_s: float | None = None,
) -> Forecast | None:
    """Give every trial that is left to the slot that is free first; None while nothing is known.

    `running` are (stratum, seconds so far). Strata take turns, as in the controller. A stratum in which nothing ended
    yet takes the time of all others, or `guess_s`. `limit_s` is the wall time that is left.
    """
    known = [pace.trial_s for pace in paces.values() if pace.trial_s is not None]
    default = median(known) if known else guess_s
    if default is None:
        return None
    expected = {name: pace.trial_s or default for name, pace in paces.items()}
    ends = [(max(expected[name] - elapsed, 0.0), name) for name, elapsed in running]
    at_work = {name: sum(stratum == name for stratum, _ in running) for name in paces}
    left = {name: max(pace.wanted - pace.ended - at_work[name], 0) for name, pace in paces.items()}
    free = [end for end, _ in ends] + [0.0] * (slots - len(ends))
    heapq.heapify(free)
    while any(left.values()):
        name = max(left, key=lambda name: left[name])
        left[name] -= 1
        end = heapq.heappop(free) + expected[name]
        heapq.heappush(free, end)
        ends.append((end, name))
    ended = {
        name: pace.ended + sum(stratum == name and (limit_s is None or end <= limit_s) for end, stratum in ends)
        for name, pace in paces.items()
    }
    return Forecast(max((end for end, _ in ends), default=0.0), ended, _basis(paces, slots))


@dataclass(frozen=True, slots=True)
class Climb:
    """One stratum on rungs: trials it is to have and has ended, and epochs that are planned and trained."""

    wanted: int
    ended: int
    planned: float
    trained: int


def forecast_rungs(
    climbs: Mapping[str, Climb], epoch_s: float | None, *, slots: int, limit_s: float | None = None
) -> Forecast | None:
    """The same where trials pause and few go on, by epochs. Of what is left, a limit takes its share."""
    if epoch_s is None:
        return None
    left_s = sum(max(climb.planned - climb.trained, 0.0) for climb in climbs.values()) * epoch_s / slots
    share = 1.0 if limit_s is None or left_s <= limit_s else limit_s / left_s
    ended = {name: climb.ended + int((climb.wanted - climb.ended) * share) for name, climb in climbs.items()}
    on = f"{slots} {'slots' if slots > 1 else 'slot'}"
    planned = sum(climb.planned for climb in climbs.values())
    return Forecast(left_s, ended, f"from {planned:.0f} planned epochs at the median time of those so far, {on}")


def _basis(paces: Mapping[str, Pace], slots: int) -> str:
    """In words, what the forecast rests on."""
    complete = sum(len(pace.complete_s) for pace in paces.values())
    pruned = sum(len(pace.pruned_s) for pace in paces.values())
    on = f"{slots} {'slots' if slots > 1 else 'slot'}"
    if not complete + pruned:
        return f"from the epochs so far, {on}"
    counts = " and ".join(f"{count} {kind}" for count, kind in ((complete, "complete"), (pruned, "pruned")) if count)
    return f"from the median time of {counts} trials, {on}"
