"""A generation's trials for the report, from one file of columns where they are finished and unchanged.

The folders are the truth: a trial counts as unchanged while no file that the report reads of it was replaced, and the
file of columns is written anew when it is missing, damaged, of another version of this code, or behind by many trials.
Trials that are not finished, or that some file could not be read of, are read from their folders every time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import harness
from harness.config.labels import LabelMap
from harness.files import fingerprint
from harness.report.queries import Epoch, Sweep, Trial, read_sweep, read_trial
from harness.report.scored import Scored
from harness.scores import METRIC_VERSION, Matrix, Scheme
from harness.sweep.columns import (
    DAMAGE,
    packed,
    read_columns,
    rows_of,
    stamp_of,
    table,
    unpacked,
    worth_writing,
    write_columns,
)
from harness.sweep.ledger import FINAL
from harness.tracking.project import CURSOR
from harness.trial.folder import TrialFolder

if TYPE_CHECKING:
    from harness.sweep.columns import Columns

FILE = "index-report.npz"
READ = ("trial.json", "spec.json", "scores.json", "result.json", "environment.json", CURSOR)
PLAIN = ("uid", "number", "stratum", "state", "cause", "message", "labels_key", "seed", "baseline", "mark",
         "replicate_of", "run_id", "experiment_id", "pruned_epoch", "epochs_trained", "seconds_trained", "external",
         "adopted_from", "rungs")  # fmt: skip
DICTIONARIES = ("parameters", "settings", "started", "environment")
# A result's own scores: the report derives them from the matrices.
DERIVED = ("scores", "support")


@dataclass(frozen=True, slots=True)
class _Kept:
    """A trial with the stamp that its files had before they were read."""

    name: str  # of its folder
    stamp: bytes
    trial: Trial


def read_indexed(generation: Path) -> Sweep:
    """As `read_sweep`, but for the epochs: they have the objective alone. Writes the columns if it may."""
    return read_sweep(generation, reader=_read)


def _read(folder: Path, document: Mapping[str, Any], problems: list[str]) -> list[Trial]:
    metric = str(((document.get("space") or {}).get("objective") or {}).get("metric", "val/iou"))
    file, key = folder.parent / FILE, _key(metric)
    known = {kept.name: kept for kept in _load(file, key, folder)}
    found: list[Trial] = []
    keep: list[_Kept] = []
    new = 0
    for name in _names(folder):
        stamp = _stamp(f"{folder}/{name}")
        kept = known.get(name)
        if kept is None or kept.stamp != stamp:
            before = len(problems)
            trial = read_trial(TrialFolder(folder / name), problems)
            if trial is None:
                continue
            kept = _Kept(name, stamp, _lean(trial, metric))
            if trial.state not in FINAL or len(problems) > before:
                found.append(kept.trial)
                continue
            new += 1
        keep.append(kept)
        found.append(kept.trial)
    if worth_writing(len(keep) - new, new):
        write_columns(file, key, _columns(keep))
    return found


def _names(folder: Path) -> list[str]:
    """Of the folders of trials with a record, in order; as `read_trials`."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if (folder / entry.name / "trial.json").is_file())
    except FileNotFoundError:
        return []


def _stamp(path: str) -> bytes:
    try:
        attempts = sorted(entry.path for entry in os.scandir(f"{path}/attempts"))
    except OSError:
        attempts = []
    return stamp_of([*(f"{path}/{name}" for name in READ), *(f"{attempt}/events.jsonl" for attempt in attempts)])


def _key(metric: str) -> str:
    """Changes with the code that makes trials of files: what another version read may mean something else."""
    package = Path(harness.__file__).parent
    sources = [*sorted((package / "config").glob("*.py")), package / "scores.py", Path(__file__)]
    sources += [Path(__file__).with_name("queries.py"), Path(__file__).with_name("scored.py")]
    return fingerprint([METRIC_VERSION, metric, stamp_of(sources).hex()])


def _lean(trial: Trial, metric: str) -> Trial:
    """Without what the report does not read: epochs have the objective alone, and results no scores."""
    epochs = tuple(
        Epoch(epoch.number, epoch.seconds, {metric: epoch.values[metric]} if metric in epoch.values else {})
        for epoch in trial.epochs
    )
    result = None if trial.result is None else {k: v for k, v in trial.result.items() if k not in DERIVED}
    return replace(trial, epochs=epochs, result=result)


def _columns(kept: Sequence[_Kept]) -> Columns:
    trials = [one.trial for one in kept]
    scored = [trial.scored for trial in trials if trial.scored is not None]
    columns: Columns = {
        "names": packed([one.name for one in kept]),
        "stamps": np.frombuffer(b"".join(one.stamp for one in kept), dtype=np.uint8).reshape(-1, 16),
        "epochs.of": np.array([len(trial.epochs) for trial in trials], dtype=np.int32),
        "epochs.number": np.array([e.number for trial in trials for e in trial.epochs], dtype=np.int32),
        "epochs.seconds": np.array([e.seconds for trial in trials for e in trial.epochs], dtype=np.float64),
        **table([dict(epoch.values) for trial in trials for epoch in trial.epochs], "epochs.values"),
        **table([{name: getattr(trial, name) for name in PLAIN} for trial in trials], "plain"),
        **table([{} if trial.result is None else {"result": 0, **trial.result} for trial in trials], "result"),
        "scored": np.array([trial.scored is not None for trial in trials], dtype=bool),
        **table([_facts(one) for one in scored], "facts"),
        **table([dict(one.scores) for one in scored], "scores"),
        "counts": np.concatenate([one.counts_2PSC.ravel() for one in scored] or [np.zeros(0, dtype=np.int64)]),
    }
    for name in DICTIONARIES:
        columns |= table([getattr(trial, name) for trial in trials], name)
    return columns


def _facts(scored: Scored) -> dict[str, Any]:
    scheme = scored.scheme
    labels = scheme.labels.model_dump(mode="json")
    return {
        "scheme": [list(scheme.source_ids), labels, scheme.source, scheme.undefined_column],
        "patients": list(scored.patients),
        "regions": scored.regions,
        "resized": scored.resized,
        "support": dict(scored.support),
        "pixels": scored.pixels,
        "group": scored.group,
    }


def _load(file: Path, key: str, folder: Path) -> Iterator[_Kept]:
    columns = read_columns(file, key)
    if columns is None:
        return
    try:
        yield from list(_kept(columns, folder))
    except DAMAGE:
        return


def _kept(columns: Columns, folder: Path) -> Iterator[_Kept]:
    stamps = columns["stamps"].tobytes()
    names, has_scores = unpacked(columns["names"]), columns["scored"].tolist()
    scored = _scored(columns, [name for name, has in zip(names, has_scores, strict=True) if has], folder)
    plain, result = rows_of(columns, "plain"), rows_of(columns, "result")
    dictionaries = zip(*(rows_of(columns, name) for name in DICTIONARIES), strict=True)
    epochs = zip(columns["epochs.number"].tolist(), columns["epochs.seconds"].tolist(),
                 rows_of(columns, "epochs.values"), strict=True)  # fmt: skip
    rows = zip(plain, result, dictionaries, columns["epochs.of"].tolist(), has_scores, strict=True)
    for index, (name, row) in enumerate(zip(names, rows, strict=True)):
        values, ended, named, count, has = row
        trial = Trial(
            **values,
            **dict(zip(DICTIONARIES, named, strict=True)),
            folder=folder / name,
            epochs=tuple(Epoch(*next(epochs)) for _ in range(count)),
            result={k: v for k, v in ended.items() if k != "result"} if ended else None,
            scored=next(scored) if has else None,
        )
        yield _Kept(name, stamps[16 * index : 16 * index + 16], trial)


def _scored(columns: Columns, names: Sequence[str], folder: Path) -> Iterator[Scored]:
    """In turn those of the trials that have scores, by the names of their folders."""
    counts, start = columns["counts"], 0
    schemes: dict[int, Scheme] = {}  # rows share what was equal
    for name, facts, scores in zip(names, rows_of(columns, "facts"), rows_of(columns, "scores"), strict=True):
        place = id(facts["scheme"])
        if place not in schemes:
            schemes[place] = _scheme(facts["scheme"])
        scheme = schemes[place]
        shape = (2, len(facts["patients"]), len(scheme.source_ids), len(scheme.columns))
        end = start + math.prod(shape)
        own: Matrix = counts[start:end].reshape(shape)
        start = end
        yield Scored(
            file=folder / name / "scores.json",
            patients=tuple(facts["patients"]),
            counts_2PSC=own,
            regions=facts["regions"],
            resized=facts["resized"],
            scheme=scheme,
            matrix=own[0].sum(axis=0),
            scores=scores,
            support=facts["support"],
            pixels=facts["pixels"],
            group=facts["group"],
        )


def _scheme(facts: Sequence[Any]) -> Scheme:
    source_ids, labels, source, undefined_column = facts
    return Scheme(tuple(source_ids), LabelMap.model_validate(labels), source, undefined_column)
