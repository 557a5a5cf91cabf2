"""How a sweep stands, read from its folders alone."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.config.cells import combinations, open_ranges, strata_of
from harness.config.space import SearchSpace
from harness.files import read_json
from harness.sweep.follow import Follower, TrialSeen
from harness.sweep.forecast import Climb, Forecast, Pace, forecast, forecast_rungs
from harness.sweep.layout import GenerationFolder, Home, SweepFolder
from harness.sweep.ledger import Record
from harness.sweep.lock import holder_of
from harness.sweep.rungs import ladder, planned_epochs
from harness.sweep.titles import Titles
from harness.tracking.store import tracking_store

if TYPE_CHECKING:
    from harness.sweep.claiming import Claims

STATES = ("complete", "pruned", "failed", "running", "paused", "waiting")


@dataclass(frozen=True, slots=True)
class _Trial:
    """A trial, and how it stands: one that nobody works on is waiting, whatever its last word was."""

    seen: TrialSeen
    state: str

    @property
    def record(self) -> Record:
        return self.seen.record


class Status:
    """One generation, looked at as often as one likes; a second look reads only what changed."""

    def __init__(self, generation: GenerationFolder, home: Home) -> None:
        self.generation, self.home = generation, home
        self._sweep = SweepFolder(generation.path.parent)
        self._follower = Follower(generation)
        self._titles = Titles(self._space, generation)

    @cached_property
    def _space(self) -> SearchSpace:
        return self.generation.search_space()

    @cached_property
    def _claims(self) -> Claims:
        from harness.sweep.claiming import Claims

        patients = self.generation.read_space()["data"]["split"]["validation"] if self._space.claims else ()
        return Claims(self._space, self.generation, patients=len(patients), chooses=False)

    @cached_property
    def _possible(self) -> Mapping[str, int | None]:
        """How many combinations each stratum has; None where a range makes them endless."""
        endless = bool(open_ranges(self._space))
        return {
            stratum.name: None if endless else sum(1 for _ in combinations(self._space, stratum))
            for stratum in strata_of(self._space)
        }

    def document(self) -> dict[str, Any]:
        """The content of `harness status --json`."""
        holder = holder_of(self._sweep)
        alive = holder is not None and holder.alive
        trials = [_Trial(seen, _state(seen.record, alive)) for seen in self._follower.look().values()]
        members = self._by_stratum(trials)
        wanted = self._wanted(members)
        own = [trial for trial in trials if trial.record.adopted_from is None]  # the others were paid for elsewhere
        running = [trial for trial in trials if trial.state == "running"]
        slots = self._slots(running) if alive else None
        foreseen = self._forecast(members, wanted, running, slots) if slots is not None else None
        return {
            "schema": "harness.status/1",
            "name": self._sweep.name,
            "generation": self.generation.number,
            "holder": holder.pid if holder is not None and alive else None,
            "objective": self._space.objective.model_dump(),
            "strata": [self._stratum(name, members[name], wanted[name], foreseen) for name in members],
            "running": [self._running(trial) for trial in running],
            "slots": slots,
            "data_wait_share": _data_wait(trial.seen for trial in own),
            "eta_s": None if foreseen is None else round(foreseen.left_s, 1),
            "forecast": None
            if foreseen is None
            else {"ended": sum(foreseen.ended.values()), "wall_left_s": self._wall_left_s(), "basis": foreseen.basis},
            "epochs_trained": sum(trial.seen.epochs_trained for trial in own),
            "store": tracking_store(self.home.path, os.environ).printable,
            "report": self._report(),
        }

    def _by_stratum(self, trials: Iterable[_Trial]) -> dict[str, list[_Trial]]:
        """{stratum: its trials}, in the order of the space, the empty ones too."""
        members: dict[str, list[_Trial]] = {name: [] for name in self._possible}
        for trial in trials:
            members.setdefault(trial.record.stratum, []).append(trial)
        return members

    def _stratum(self, name: str, members: Sequence[_Trial], wanted: int, foreseen: Forecast | None) -> dict[str, Any]:
        counts = Counter(trial.state for trial in members)
        return {
            "name": name,
            **{state: counts[state] for state in STATES},
            "wanted": wanted,
            "best": self._best(members),
            "ended_within_budget": None if foreseen is None else foreseen.ended[name],
            "rungs": [
                {"trials": len(rung.there), "go_on": rung.places, "correlation": rung.correlation}
                for rung in ladder(self._space, name, (trial.record for trial in members))
            ],
        }

    def _wanted(self, members: Mapping[str, Sequence[_Trial]]) -> dict[str, int]:
        """The budget of each stratum, or its combinations if those are fewer, or what it has; and its replicates."""
        wanted, over = {}, {}
        for name, trials in members.items():
            possible, budget = self._possible.get(name), self._space.budget.trials
            searched = [trial.record for trial in trials if trial.record.replicate_of is None]
            wanted[name] = max(len(searched), budget if possible is None else min(budget, possible))
            over[name] = len(searched) >= wanted[name] and all(record.is_final for record in searched)
        if self._space.replicate is None and not self._space.claims:
            return wanted
        from harness.sweep.replication import wanted_of  # numpy: .1 s that most need not spend

        records = {trial.record.uid: trial.record for trials in members.values() for trial in trials}
        return {
            name: count + wanted_of(self._space, name, records, self._claims, over=over[name])
            for name, count in wanted.items()
        }

    def _best(self, members: Sequence[_Trial]) -> dict[str, Any] | None:
        best: Record | None = None
        for trial in members:
            record = trial.record
            if trial.state != "complete" or record.replicate_of is not None or record.value is None:
                continue
            if self._space.objective.better(record.value, best.value if best else None):
                best = record
        if best is None:
            return None
        return {"value": best.value, "trial": best.uid, "number": best.number, "name": self._titles.of(best)}

    def _running(self, trial: _Trial) -> dict[str, Any]:
        latest = trial.seen.latest
        return {
            "trial": trial.record.uid,
            "stratum": trial.record.stratum,
            "name": self._titles.of(trial.record),
            "epoch": latest.epoch if latest else 0,
            "epochs": trial.seen.epochs,
            "objective": latest.objective if latest else None,
            "device": latest.device if latest else None,
            "seconds": round(_elapsed(trial.seen), 1),
        }

    def _slots(self, running: Sequence[_Trial]) -> dict[str, Any]:
        """Busy ones, all, and their devices, as the controller noted them; a sweep of an older version did not."""
        try:
            devices = list(read_json(self._sweep.slots)["devices"])
        except (OSError, ValueError, KeyError):
            devices = []
        return {"busy": len(running), "total": len(devices) or None, "devices": devices}

    def _wall_left_s(self) -> float | None:
        """What is left of the time limit; None without one."""
        try:
            devices = len(set(read_json(self._sweep.slots)["devices"]))
        except (OSError, ValueError, KeyError):
            devices = 1
        limit_s = self._space.budget.wall_s(max(devices, 1))
        return None if limit_s is None else round(max(limit_s - self.generation.wall_s(), 0.0), 1)

    def _forecast(
        self,
        members: Mapping[str, Sequence[_Trial]],
        wanted: Mapping[str, int],
        running: Sequence[_Trial],
        slots: Mapping[str, Any],
    ) -> Forecast | None:
        total = max(slots["total"] or 0, len(running), 1)
        if self._space.prune.type == "rungs":
            climbs = {name: self._climb(name, trials, wanted[name]) for name, trials in members.items()}
            epoch_s = _epoch_s(trial.seen for trials in members.values() for trial in trials)
            return forecast_rungs(climbs, epoch_s, slots=total, limit_s=self._wall_left_s())
        paces = {
            name: Pace(
                wanted[name],
                sum(trial.record.is_final for trial in trials),
                [trial.seen.seconds for trial in trials if trial.state == "complete"],
                [trial.seen.seconds for trial in trials if trial.state == "pruned"],
            )
            for name, trials in members.items()
        }
        so_far = [(trial.record.stratum, _elapsed(trial.seen)) for trial in running]
        return forecast(paces, so_far, slots=total, limit_s=self._wall_left_s(), guess_s=_guess_s(running))

    def _climb(self, name: str, trials: Sequence[_Trial], wanted: int) -> Climb:
        """`wanted` counts replicates, too, which are trained to their end; kept trials were paid for elsewhere."""
        own = [trial for trial in trials if trial.record.adopted_from is None]
        searched = sum(trial.record.replicate_of is None for trial in trials)
        possible, budget = self._possible.get(name), self._space.budget.trials
        first = max(searched, budget if possible is None else min(budget, possible))
        again = max(wanted - first, 0) * self._space.train.epochs
        planned = sum(planned_epochs(self._space, max(first - (len(trials) - len(own)), 0))) + again
        ended = sum(trial.record.is_final for trial in trials)
        return Climb(wanted, ended, planned, sum(trial.seen.epochs_trained for trial in own))

    def _report(self) -> str | None:
        """Where the report was written last, if it is still there."""
        try:
            noted = Path(read_json(self.generation.report_note)["page"])
        except (OSError, ValueError, KeyError):
            noted = Path("reports") / self._sweep.name / "index.html"
        return str(noted.resolve()) if noted.exists() else None


def status_of(generation: GenerationFolder, home: Home) -> dict[str, Any]:
    """The content of `harness status --json`, looked at once."""
    return Status(generation, home).document()


def _state(record: Record, alive: bool) -> str:
    return "waiting" if record.state == "running" and not alive else record.state


def _elapsed(seen: TrialSeen) -> float:
    """Seconds since the trial's present attempt began."""
    latest = seen.latest
    return 0.0 if latest is None or latest.began is None else max(time.time() - latest.began, 0.0)


def _guess_s(running: Sequence[_Trial]) -> float | None:
    """A whole trial's seconds by the epochs of those that run; too long where they stop early or are pruned."""
    guesses = [
        latest.epoch_seconds / latest.epochs_trained * trial.seen.epochs
        for trial in running
        if (latest := trial.seen.latest) is not None and latest.epochs_trained
    ]
    return median(guesses) if guesses else None


def _epoch_s(trials: Iterable[TrialSeen]) -> float | None:
    """The median over trials of an epoch's seconds."""
    paces = [seen.seconds / seen.epochs_trained for seen in trials if seen.epochs_trained]
    return median(paces) if paces else None


def _data_wait(trials: Iterable[TrialSeen]) -> float | None:
    """The share of all epochs' time that training waited for its batches; None where no epoch says so."""
    seen = [attempt for trial in trials for attempt in trial.attempts.values()]
    seconds = sum(attempt.timed_seconds for attempt in seen)
    return round(sum(attempt.data_seconds for attempt in seen) / seconds, 4) if seconds else None
