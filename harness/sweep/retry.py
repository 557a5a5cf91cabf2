"""`harness retry`: failed trials are tried again, by the cause of their failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from harness.config.space import OnFailure
from harness.config.spec import TrialSpec
from harness.report.wording import plural
from harness.sweep import mending
from harness.sweep.layout import GenerationFolder, SweepFolder
from harness.sweep.ledger import Record, read_records, write_record
from harness.sweep.lock import held
from harness.trial.folder import TrialFolder

# As people say it -> as records have it.
CAUSES = {"oom": "out_of_memory", **{cause: cause for cause in OnFailure.model_fields}}
# What a trial that is trained again from the same state, on the same data, would meet again.
_SAME_AGAIN = {
    "nan": "nothing was changed, so a NaN will most likely come again at the same batch: see it by "
    "`harness trial FOLDER --until-nan`, or change the space",
    "timeout": "`timeout:` counts what they trained already: raise it, or they end at once",
}


@dataclass(frozen=True, slots=True)
class Retried:
    """The trials that wait again, and what to know about them."""

    records: tuple[Record, ...]
    notes: tuple[str, ...]


def failed_trials(generation: GenerationFolder) -> list[Record]:
    """All failed trials, by name."""
    return [record for _, record in sorted(read_records(generation).items()) if record.state == "failed"]


def retry(sweep: SweepFolder, *, causes: Collection[str] = (), uids: Collection[str] = ()) -> Retried:
    """Let failed trials of these causes, or of these names, wait: the next `harness sweep` continues them.

    Each goes on after its last saved epoch, but for one that ran out of memory: it starts with its whole batch again,
    since whoever asks for that has found more memory. Refused while the sweep runs.
    """
    with held(sweep):
        generation = sweep.last_generation()
        chosen = [r for r in failed_trials(generation) if r.cause in causes or r.uid in uids]
        for record in chosen:
            _let_wait(generation, record)
    found = {record.cause for record in chosen}
    return Retried(tuple(chosen), tuple(said for cause, said in _SAME_AGAIN.items() if cause in found))


def counted_causes(records: Collection[Record]) -> str:
    """`3 nan, 1 error`."""
    counts = Counter(record.cause or "unknown" for record in records)
    return ", ".join(f"{count} {cause}" for cause, count in sorted(counts.items()))


def summary_of(retried: Retried, generation: GenerationFolder) -> Iterator[str]:
    """What was done, line by line."""
    if not retried.records:
        left = failed_trials(generation)
        yield f"no failed trial of that kind; there are: {counted_causes(left) or 'none at all'}"
        return
    verb = "waits" if len(retried.records) == 1 else "wait"
    counts = counted_causes(retried.records)
    yield f"{plural(len(retried.records), 'trial')} {verb} again ({counts}); `harness sweep` with the same file goes on"
    yield from (f"note: {note}" for note in retried.notes)


def _let_wait(generation: GenerationFolder, record: Record) -> None:
    folder = TrialFolder(generation.trials / record.uid)
    if record.halved:
        whole = _with_whole_batches(folder.read_spec(), generation, record)
        folder.write_spec(whole)
        write_record(folder, record.model_copy(update={"halved": 0, "fingerprint": whole.fingerprint}))
    if folder.complete:
        mending.train_again(folder)  # it finished, and its score was not a number
    else:
        mending.let_wait(folder)


def _with_whole_batches(spec: TrialSpec, generation: GenerationFolder, record: Record) -> TrialSpec:
    """The spec as the space asks for it, before its batches were cut."""
    parts = record.parameters.get("accumulate") or generation.search_space().train.accumulate
    return spec.model_copy(update={"train": spec.train.model_copy(update={"accumulate": parts})})
