"""The runs that claims need: cells chosen once, when the search is over, then seeds until there is a verdict.

Where a claim leaves other parameters open, its cells are the best search run of either side with the other side's
values put in: each side is tried on ground the search found good for it. The choice is written down and kept, so that
neither more trials nor more seeds change what is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.config.cells import Stratum, strata_of
from harness.config.claims import Claim, claims_of, fresh_seeds, with_side
from harness.config.knobs import label_of
from harness.config.space import SearchSpace
from harness.files import read_json, safe_name, write_json
from harness.inference.claims import Arm, Cell, Contest, Evidence, Outcome, evidence, outcome_of
from harness.inference.intervals import MIN_PATIENTS
from harness.inference.sequential import FIRST_LOOK
from harness.scores import read_scores
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record
from harness.trial.folder import TrialFolder


def too_few(patients: int) -> str | None:
    """That so few validation patients decide no claim, and so none is trained for; None if there are enough."""
    if patients >= MIN_PATIENTS:
        return None
    return f"claims need {MIN_PATIENTS} validation patients and there are {patients}: nothing is trained for them"


class Claims:
    """The claims of one generation, and what is still to be trained for them."""

    def __init__(self, space: SearchSpace, generation: GenerationFolder, *, patients: int, chooses: bool) -> None:
        """`chooses`: whether cells may be chosen and written here; one who only looks takes what is written."""
        self.space, self.generation, self.chooses = space, generation, chooses
        self.claims = claims_of(space)
        self.enough = too_few(patients) is None
        self._outcomes: dict[tuple[str, str], Outcome] = {}  # {(uid, metric): its outcome}: folders are read once
        self._known: dict[str, tuple[int, Evidence]] = {}
        self._chosen: list[Contest] = []

    def state(self, records: Mapping[str, Record]) -> None:
        """Write down what is claimed before anything more is known; a claim that was read before stays as it is."""
        old = self._written()
        complete = sum(record.state == "complete" for record in records.values())
        new = [_stated(claim, complete) for claim in self.claims if claim.text not in {one.text for one in old}]
        if new:
            self._write([*old, *new])

    def due(self, records: Mapping[str, Record]) -> Iterator[tuple[Arm, int]]:
        """(arm, seed) of each run that is still to be begun, the claims in turn. Asked for when the search is over."""
        if not self.claims or not self.enough:
            return
        there = {(record.replicate_of, record.seed) for record in records.values()}
        for contest in self._contests(records):
            needed = self._evidence(contest, records).next_rounds
            for seed in contest.seeds[:needed]:
                for arm in contest.arms:
                    if (arm.uid, seed) not in there:
                        there.add((arm.uid, seed))
                        yield arm, seed

    def _contests(self, records: Mapping[str, Record]) -> list[Contest]:
        """The claims with their cells, as written down; what is new is chosen and written, once."""
        if len(self._chosen) == len(self.claims):
            return self._chosen
        if self.chooses:
            self.state(records)
        known = {contest.text: contest for contest in self._written()}
        if self.chooses:
            arms = _Arms(records, [arm for contest in known.values() for arm in contest.arms])
            for claim in self.claims:
                contest = known[claim.text]
                if not contest.cells:
                    contest = _with_cells(self.space, contest, claim, records, arms)
                known[claim.text] = _with_seeds(contest, fresh_seeds(self.space))
            self._write(known.values())
        self._chosen = [known[claim.text] for claim in self.claims if claim.text in known]
        return self._chosen

    def _written(self) -> list[Contest]:
        path = self.generation.claims_file
        return [Contest.model_validate(one) for one in read_json(path)["claims"]] if path.exists() else []

    def _write(self, contests: Iterable[Contest]) -> None:
        document = {"claims": [contest.model_dump(mode="json") for contest in contests]}
        write_json(self.generation.claims_file, document)

    def _evidence(self, contest: Contest, records: Mapping[str, Record]) -> Evidence:
        """Computed again only when another run of the claim has ended."""
        uids = {arm.uid for arm in contest.arms}
        count = sum(record.replicate_of in uids and record.is_final for record in records.values())
        if contest.text not in self._known or self._known[contest.text][0] != count:
            runs = {(record.replicate_of, record.seed): record for record in records.values() if record.replicate_of}
            found = evidence(
                contest,
                lambda arm, seed: self._outcome(runs.get((arm.uid, seed)), contest.metric),
                most=self.space.claim_seeds,
            )
            self._known[contest.text] = (count, found)
        return self._known[contest.text][1]

    def _outcome(self, record: Record | None, metric: str) -> Outcome:
        if record is None or not record.is_final:
            return None
        if record.state != "complete":
            return "failed"
        key = (record.uid, metric)
        if key not in self._outcomes:
            document = read_json(TrialFolder(self.generation.trials / record.uid).scores)
            self._outcomes[key] = outcome_of(*read_scores(document), metric)
        return self._outcomes[key]


def claim_runs(space: SearchSpace) -> tuple[int, int]:
    """The fewest and the most trainings that the claims may take: three rounds or all, one or two cells a stratum."""
    contexts = [len(_contexts(space, claim)) for claim in claims_of(space)]
    return sum(2 * FIRST_LOOK * count for count in contexts), sum(4 * space.claim_seeds * count for count in contexts)


def arm_of(record: Record) -> Arm:
    """A search run as something to train again."""
    return Arm(uid=record.uid, stratum=record.stratum, number=record.number, parameters=record.parameters)


class _Arms:
    """Names for arms: that of the search run with the same values, of an arm that is there, or a new one."""

    def __init__(self, records: Mapping[str, Record], arms: Iterable[Arm]) -> None:
        known = {arm.uid: arm for arm in arms}
        self._made = sum(".claim" in uid for uid in known)
        self._by_values = {_key(arm.parameters): arm for arm in known.values()}
        for record in records.values():
            if record.replicate_of is None:
                self._by_values[_key(record.parameters)] = arm_of(record)

    def arm(self, stratum: Stratum, values: Mapping[str, Any]) -> Arm:
        """The arm of a combination."""
        key = _key(values)
        if key not in self._by_values:
            uid = f"{safe_name(stratum.name.replace('/', '.'))}.claim{self._made:02d}"
            self._by_values[key] = Arm(uid=uid, stratum=stratum.name, number=self._made, parameters=dict(values))
            self._made += 1
        return self._by_values[key]


def _stated(claim: Claim, complete: int) -> Contest:
    """A claim that is read for the first time."""
    note = "its runs have not begun; they follow the search"
    return Contest(
        text=claim.text, metric=claim.metric, margin=claim.margin, cells=(), seeds=(), stated_after=complete, note=note
    )


def _with_cells(
    space: SearchSpace, contest: Contest, claim: Claim, records: Mapping[str, Record], arms: _Arms
) -> Contest:
    """The claim with its cells: in each stratum it speaks of, from the best search run of either side."""
    complete = best_first(space, records.values())
    cells: dict[str, Cell] = {}
    for context in _contexts(space, claim):
        runs = [record for record in complete if _meets(record, {**context, **claim.where})]
        of_sides = [next((run for run in runs if _meets(run, side)), None) for side in (claim.better, claim.worse)]
        rests = [run.parameters if run else {} for run in of_sides]
        for run in of_sides:
            if run is None:
                continue
            better, worse = (
                with_side(space, run.parameters, {**claim.where, **side}, rest=rest)
                for side, rest in zip((claim.better, claim.worse), rests, strict=True)
            )
            if better is None or worse is None or _key(better) == _key(worse):
                continue
            cell = Cell(better=_arm(space, better, arms), worse=_arm(space, worse, arms))
            cells.setdefault(f"{_key(better)} {_key(worse)}", cell)
    note = "" if cells else "no completed search run gives two settings that differ in nothing else"
    return contest.model_copy(update={"cells": tuple(cells.values()), "note": note})


def _with_seeds(contest: Contest, seeds: Sequence[int]) -> Contest:
    """The claim with more seeds where the space allows more; those it has keep their order."""
    further = [seed for seed in seeds if seed not in contest.seeds][: max(len(seeds) - len(contest.seeds), 0)]
    return contest.model_copy(update={"seeds": (*contest.seeds, *further)})


def _contexts(space: SearchSpace, claim: Claim) -> list[dict[str, Any]]:
    """The combinations of strata axes that neither side fixes, each once."""
    free = [axis for axis in space.strata if axis not in claim.better and axis not in claim.worse]
    every = ({axis: stratum.values[axis] for axis in free} for stratum in strata_of(space))
    once = {_key(values): values for values in every}
    return [values for values in once.values() if all(values.get(k, v) == v for k, v in claim.where.items())]


def _arm(space: SearchSpace, values: Mapping[str, Any], arms: _Arms) -> Arm:
    stratum = next(s for s in strata_of(space) if all(values.get(axis) == value for axis, value in s.values.items()))
    return arms.arm(stratum, values)


def best_first(space: SearchSpace, records: Iterable[Record]) -> list[Record]:
    """The complete search runs by their objective."""
    sign = 1 if space.objective.goal == "minimize" else -1
    found = [
        (sign * record.value, record.uid, record)
        for record in records
        if record.replicate_of is None and record.state == "complete" and record.value is not None
    ]
    return [record for _, _, record in sorted(found, key=lambda item: item[:2])]


def _meets(record: Record, conditions: Mapping[str, Any]) -> bool:
    return all(label_of(record.parameters.get(name)) == label_of(value) for name, value in conditions.items())


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps({name: label_of(value) for name, value in values.items() if value is not None}, sort_keys=True)
