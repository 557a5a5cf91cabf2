"""What Optuna and MLflow hold of a sweep at rest, against its folders, which are the truth."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from harness.config.cells import strata_of
from harness.durable import DurableTrial, newest, studies_of
from harness.study import StratumStudy, open_storage
from harness.sweep.invariants import Finding
from harness.sweep.layout import GenerationFolder, Home, SweepFolder
from harness.sweep.ledger import Record, read_records, search_runs
from harness.sweep.past import as_past
from harness.tracking.store import client_settings, tracking_store
from harness.tracking.tracker import StoreAway, StoreDeclines
from harness.trial.folder import TrialFolder

ANEW = "told again from the folders"


def check_optuna(sweep: SweepFolder, url: str) -> Iterator[Finding]:
    """Each trial's newest durable trial says what its record says; nothing else runs. Refused without the storage."""
    studies = studies_of(open_storage(url), prefix=f"{sweep.name}/")
    for generation in sweep.generations():
        records = _searched(generation)
        for stratum in dict.fromkeys(record.stratum for record in records.values()):
            name = study_name(generation, stratum)
            members = {uid: record for uid, record in records.items() if record.stratum == stratum}
            mend = partial(tell_again, generation, stratum, url)
            for kind, uid, what in _differences(members, studies.get(name, ()), generation):
                where = generation.trials / uid
                yield Finding(kind, where, f"Optuna: {what}", ANEW, mend)


def _searched(generation: GenerationFolder) -> dict[str, Record]:
    """Optuna knows of no replicates."""
    return {record.uid: record for record in search_runs(read_records(generation).values())}


def study_name(generation: GenerationFolder, stratum: str) -> str:
    """The name of the Optuna study of a stratum in a generation."""
    return f"{generation.path.parent.name}/{stratum}/g{generation.number}"


def tell_again(generation: GenerationFolder, stratum: str, url: str) -> None:
    """Bring the study of a stratum to agree with the folders."""
    space, storage = generation.search_space(), open_storage(url)
    wanted = next((chosen for chosen in strata_of(space) if chosen.name == stratum), None)
    if wanted is not None:
        study = StratumStudy(space, wanted, name=study_name(generation, stratum), storage=storage)
        members = [record for record in _searched(generation).values() if record.stratum == stratum]
        study.restore(as_past(record, generation.trials / record.uid) for record in members)


def _differences(
    records: Mapping[str, Record], trials: Sequence[DurableTrial], generation: GenerationFolder
) -> Iterator[tuple[str, str, str]]:
    """(kind, uid, what) for everything that is not as the records say."""
    current = newest(trials)
    for uid, record in records.items():
        trial = current.get(uid)
        if trial is None:
            if record.is_final or TrialFolder(generation.trials / uid).attempts():
                yield "optuna_missing", uid, f"{record.state}, and not in the study"
        elif not trial.agrees(record.state, record.value):
            said = trial.state if trial.value is None else f"{trial.state} with {trial.value:g}"
            yield "optuna_state", uid, f"{_said(record)}, and trial {trial.number} of the study is {said}"
    for trial in trials:
        if trial is current[trial.uid] and trial.uid in records:
            continue
        if not trial.ended:
            yield "optuna_stray", trial.uid, f"trial {trial.number} of the study runs, and is nobody's"


def _said(record: Record) -> str:
    return record.state if record.value is None else f"{record.state} with {record.value:g}"


def check_mlflow(sweep: SweepFolder, home: Home) -> tuple[list[Finding], list[str]]:
    """Findings, and one line for each generation that could not be compared. Asks MLflow, which takes seconds."""
    os.environ.update(client_settings(os.environ))
    from harness.tracking.audit import Audit
    from harness.tracking.client import MlflowTracker

    store, findings, notes = tracking_store(home.path, os.environ), list[Finding](), list[str]()
    try:
        tracker = MlflowTracker(store)
        for generation in sweep.generations():
            audit = Audit(tracker, store, generation.path)
            if audit.elsewhere:
                where = f"{sweep.name} g{generation.number}"
                notes.append(
                    f"{where}: its runs are in another MLflow store than {store.printable} (MLFLOW_TRACKING_URI)"
                )
                continue
            for difference in audit.differences(_recorded(generation)):
                mend = partial(audit.mend, difference)
                kind, what = f"mlflow_{difference.kind}", f"MLflow: {difference.what}"
                findings.append(Finding(kind, difference.folder, what, "copied again from the folder", mend))
    except (StoreAway, StoreDeclines) as error:
        notes.append(f"{sweep.name}: MLflow at {store.printable} was not compared: {error}")
    return findings, notes


def _recorded(generation: GenerationFolder) -> Iterable[TrialFolder]:
    return (folder for folder in generation.trial_folders() if folder.state_file.exists())
