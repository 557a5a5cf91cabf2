"""Which trials become an MLflow model."""

from __future__ import annotations

from collections.abc import Iterable

from harness.config.cells import strata_of
from harness.config.space import SearchSpace
from harness.sweep.ledger import Record, search_runs


def to_export(space: SearchSpace, records: Iterable[Record]) -> list[Record]:
    """The complete trials that `export:` names: all, none, or the best k of each stratum by the objective."""
    searched = search_runs(records)
    complete = [
        (record, record.value) for record in searched if record.state == "complete" and record.value is not None
    ]
    if not space.export.startswith("top:"):
        return [record for record, _ in complete] if space.export == "all" else []
    best_first = sorted(complete, key=lambda pair: pair[1], reverse=space.objective.goal == "maximize")
    top = int(space.export.removeprefix("top:"))
    return [
        record
        for stratum in strata_of(space)
        for record in [record for record, _ in best_first if record.stratum == stratum.name][:top]
    ]
