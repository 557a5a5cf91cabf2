"""What is trained again with fresh seeds, after the search and beside it: the top of each stratum, and claims.

The search run was picked for its score, so that score keeps the luck it was picked for; only runs with seeds that
nobody chose among say how good a setting is. Replicates never reach Optuna.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from harness.config.cells import Stratum, baselines_of, strata_of
from harness.config.space import SearchSpace
from harness.config.spec import TrialSpec
from harness.inference.claims import Arm
from harness.sweep.claiming import Claims, arm_of, best_first
from harness.sweep.ledger import Record, now, trial_uid
from harness.sweep.rungs import ENOUGH_TO_JUDGE, is_on_the_last_stretch, ladder, next_up

if TYPE_CHECKING:
    from harness.study import Proposal  # Optuna: 1 s that `harness status` need not spend


def searched_record(
    space: SearchSpace, generation: int, stratum: Stratum, proposal: Proposal, spec: TrialSpec, *, number: int
) -> Record:
    """The first record of a trial of the search."""
    row = proposal.baseline_row
    return Record(
        uid=trial_uid(stratum.name, number),
        sweep=space.name,
        generation=generation,
        stratum=stratum.name,
        number=number,
        parameters=proposal.assignment,
        baseline=row is not None,
        baseline_row=row,
        mark=None if row is None else baselines_of(space, stratum)[row][1],
        seed=spec.seed,
        fingerprint=spec.fingerprint,
        created=now(),
    )


def replicate_record(space: SearchSpace, generation: int, of: Arm, spec: TrialSpec) -> Record:
    """The first record of a replicate: the name of what it repeats with the seed behind it."""
    return Record(
        uid=f"{of.uid}.s{spec.seed}",
        sweep=space.name,
        generation=generation,
        stratum=of.stratum,
        number=of.number,
        parameters=of.parameters,
        replicate_of=of.uid,
        seed=spec.seed,
        fingerprint=spec.fingerprint,
        created=now(),
    )


def due(space: SearchSpace, records: Mapping[str, Record], claims: Claims) -> Iterator[tuple[Arm, int]]:
    """(setting, seed) of each run with a fresh seed that is still to be begun: the top of the strata, then the claims'.

    Asked for when the search is over: before that nobody knows every top.
    """
    tops = list(tops_due(space, records, [stratum.name for stratum in strata_of(space)]))
    yield from tops
    yield from (item for item in claims.due(records) if (item[0].uid, item[1]) not in {(a.uid, s) for a, s in tops})


def tops_due(space: SearchSpace, records: Mapping[str, Record], strata: Collection[str]) -> Iterator[tuple[Arm, int]]:
    """Of `replicate:`, first seeds first, the strata in turn; of these `strata`, which get no further trials."""
    if space.replicate is None:
        return
    there = {(record.replicate_of, record.seed) for record in records.values()}
    tops = [settled_top(space, name, records.values()) for name in strata]
    for place in range(space.replicate.top):
        for seed in space.replicate.seeds:
            for top in tops:
                if place < len(top) and (top[place].uid, seed) not in there:
                    yield arm_of(top[place]), seed


def wanted_of(space: SearchSpace, stratum: str, records: Mapping[str, Record], claims: Claims, *, over: bool) -> int:
    """How many runs with fresh seeds a stratum has in the end, as far as known: what claims take shows on the way."""
    if not over:
        return (
            0 if space.replicate is None else min(space.replicate.top, space.budget.trials) * len(space.replicate.seeds)
        )
    begun = sum(record.stratum == stratum and record.replicate_of is not None for record in records.values())
    return begun + sum(of.stratum == stratum for of, _ in due(space, records, claims))


def settled_top(space: SearchSpace, stratum: str, records: Iterable[Record]) -> list[Record]:
    """The search runs of a stratum without further trials that are trained again, if nothing can change who they are.

    That is so when all have ended: the best come first. On rungs it is so earlier, when no more are on their way to the
    end than there are places: they have them, unless they fail.
    """
    top = space.replicate.top if space.replicate else 0
    members = [record for record in records if record.stratum == stratum and record.replicate_of is None]
    complete = best_first(space, members)
    climbing = [record for record in members if not record.is_final]
    if not climbing:
        return complete[:top]
    if space.prune.type != "rungs":
        return []
    finalists = [record for record in climbing if record.state != "paused"]
    open_still = not all(is_on_the_last_stretch(space, record) for record in finalists)
    if open_still or next_up(ladder(space, stratum, members)):
        return []
    # Four or more would be asked whether their last rung foretold their end, and others might go on after all.
    settled = len(complete) + len(finalists) <= min(top, ENOUGH_TO_JUDGE - 1)
    return [*complete, *finalists] if settled else []
