"""From the generation that ran last to that of an edited space: what differs, what becomes of finished trials."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.config.cells import combinations, open_ranges, strata_of
from harness.config.space import SearchSpace
from harness.report.wording import plural
from harness.sweep.adopt import Adopted, Fit, adopt, fit, may_adopt
from harness.sweep.differences import Difference, differences
from harness.sweep.layout import GenerationFolder, SweepFolder
from harness.sweep.ledger import read_records, search_runs
from harness.sweep.prepare import Prepared, Steps, generation_key

SHOWN = 5  # differences in the one line of a start; `harness plan` shows them all


@dataclass(frozen=True, slots=True)
class Change:
    """From the generation that ran last to the one of a space and its data."""

    before: int | None  # None: the sweep is new
    now: int
    is_new: bool  # the generation, not the sweep
    differences: tuple[Difference, ...]
    found: Fit | None  # None: the generation has trials of its own, and takes no others
    done: Counter[str]  # by stratum: finished trials of the search that it has, or will keep
    replicated: Counter[str] = field(default_factory=Counter)  # by stratum: finished replicates

    @property
    def is_edit(self) -> bool:
        """Whether another generation ran last."""
        return self.before is not None and self.before != self.now


def change_of(sweep: SweepFolder, space: SearchSpace, prepared: Prepared) -> Change:
    """What running this space would change; writes nothing."""
    before = sweep.last_generation() if sweep.generations() else None
    now = sweep.generation_for(generation_key(space, prepared))
    others = [generation for generation in sweep.generations() if generation.number != now.number]
    found = fit(space, prepared.facts, others) if may_adopt(now) else None
    ended = [record for record in read_records(now).values() if record.is_final]
    return Change(
        before=None if before is None else before.number,
        now=now.number,
        is_new=not now.space_file.exists(),
        differences=tuple(_since(before, space, prepared)) if before and before.number != now.number else (),
        found=found,
        done=Counter(
            [record.stratum for record in search_runs(ended)]
            if found is None
            else [place.stratum.name for _, place in found.kept]
        ),
        replicated=Counter(record.stratum for record in ended if record.replicate_of is not None),
    )


def _since(before: GenerationFolder, space: SearchSpace, prepared: Prepared) -> Iterator[Difference]:
    """What differs from a generation; nothing where its space is one of another version, or missing."""
    try:
        data, old = before.read_space()["data"], before.search_space()
        yield from differences(old, data, space, prepared.summary)
    except (OSError, ValueError, KeyError):
        return


def carried_out(change: Change, generation: GenerationFolder, space: SearchSpace, steps: Steps) -> list[str]:
    """Keep what fits, and say: `generation 2: patch_px: 128 -> 128, 256; kept 20 finished trials of generation 1, ...`

    For the holder of the sweep's lock, before the generation has a trial of its own.
    """
    found = change.found
    adopted = Adopted() if found is None else adopt(space, generation, found, steps)
    told = [_first(change.differences)] if change.is_edit else []
    if found is not None and found.count and (change.is_edit or adopted.newly):
        told.append(_kept_text(found.count, adopted))
    elif change.is_edit and not change.is_new:
        told.append("it was here before and goes on")
    line = [f"generation {change.now}: {'; '.join(told)}"] if told else []
    return [*adopted.damaged, *line, *_used_up(space, adopted)]


def change_document(change: Change) -> dict[str, Any] | None:
    """The same for `harness plan --json`; None where the next run goes on with the generation that ran last."""
    if not change.is_edit:
        return None
    found = change.found or Fit((), ())
    return {
        "from": change.before,
        "to": change.now,
        "is_new": change.is_new,
        "differences": [
            {"name": each.name, "before": each.before, "after": each.after, "changes_every_trial": each.every_trial}
            for each in change.differences
        ],
        "finished": found.count,
        "kept": len(found.kept),
        "set_aside": len(found.set_aside),
        "set_aside_in": sorted({each.record.generation for each in found.set_aside}),
    }


def plan_lines(document: Mapping[str, Any]) -> list[str]:
    """`change_document` for people, a line per difference."""
    lines = [f"generation {document['to']} differs from generation {document['from']}, which ran last:"]
    for each in document["differences"]:
        note = " (changes every trial)" if each["changes_every_trial"] else ""
        lines.append(f"  {each['name']}: {each['before']} -> {each['after']}{note}")
    if not document["finished"]:
        again = "there are no finished trials yet"
        lines.append(again if document["is_new"] else f"generation {document['to']} was here before and goes on")
        return lines
    aside = f" (in {_generations(document['set_aside_in'])})" if document["set_aside"] else ""
    lines.append(
        f"of {plural(document['finished'], 'finished trial')} {document['kept']} still fit and are kept, "
        f"{document['set_aside']} are set aside{aside}"
    )
    return lines


def _kept_text(count: int, adopted: Adopted) -> str:
    """`kept 20 finished trials of generation 1, set aside 8`."""
    kept = len(adopted.records)
    if not kept:
        return f"none of {plural(count, 'finished trial')} still fits"
    where = _generations({int(str(record.adopted_from)[1:].split("/")[0]) for record in adopted.records})
    return f"kept {plural(kept, 'finished trial')} of {where}, set aside {count - kept}"


def _used_up(space: SearchSpace, adopted: Adopted) -> Iterator[str]:
    """Where kept trials use up the budget while there would be more to train."""
    if not adopted.newly:
        return
    kept = Counter(record.stratum for record in adopted.records)
    strata = [stratum for stratum in strata_of(space) if kept[stratum.name] >= space.budget.trials]
    full = [s for s in strata if open_ranges(space) or kept[s.name] < sum(1 for _ in combinations(space, s))]
    if full:
        of_all = f"{len(full)} of {len(strata_of(space))} strata"
        yield (
            f"kept trials reach budget.trials ({space.budget.trials}) in {of_all}; "
            "a larger budget (--trials) trains new combinations there"
        )


def _generations(numbers: Iterable[int]) -> str:
    """`generation 1`, `generations 1 and 2`."""
    *first, last = map(str, sorted(numbers))
    return f"generations {', '.join(first)} and {last}" if first else f"generation {last}"


def _first(differences: Sequence[Difference]) -> str:
    shown = "; ".join(map(str, differences[:SHOWN])) or "no setting differs that is known here"
    return shown + (f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else "")
