"""Optuna's storage and MLflow's store of a home are told of a whole sweep at once, while no controller works on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from harness.durable import studies_of
from harness.study import open_storage
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import read_records
from harness.sweep.progress import Screen
from harness.sweep.projections import tell_again
from harness.tracking.content import ENDED
from harness.tracking.outbox import Projector
from harness.tracking.project import read_cursor, store_key
from harness.tracking.store import Store
from harness.trial.folder import TrialFolder

# A store that has not answered for so long is left to the next call.
AWAY_S = 60.0


def tell_optuna(generations: Sequence[GenerationFolder], url: str, screen: Screen) -> int:
    """Bring the studies of a sweep to agree with its folders; how many trials the storage did not have."""
    prefix = f"{generations[0].path.parent.name}/"
    strata = [
        (generation, stratum)
        for generation in generations
        for stratum in dict.fromkeys(record.stratum for record in read_records(generation).values())
    ]
    with screen.step("telling Optuna") as on_progress:
        before = _known(url, prefix)
        for number, (generation, stratum) in enumerate(strata, start=1):
            tell_again(generation, stratum, url)
            on_progress(number, len(strata))
        return _known(url, prefix) - before


def _known(url: str, prefix: str) -> int:
    return sum(len(trials) for trials in studies_of(open_storage(url), prefix=prefix).values())


def tell_mlflow(generation: GenerationFolder, store: Store, screen: Screen) -> tuple[int, list[str]]:
    """Copy a generation's runs; how many were not there as they are now, and one line for each that is not yet."""
    states = {uid: record.state for uid, record in read_records(generation).items()}
    folders = {uid: TrialFolder(generation.trials / uid) for uid in states}

    def copied() -> int:
        return sum(_is_copied(folders[uid], state, store) for uid, state in states.items())

    before = copied()
    projector = Projector(generation.path, store)
    try:
        projector.sweep_changed("finished" if set(states.values()) <= ENDED else "stopped")
        for folder in folders.values():
            projector.touch(folder)
        with screen.step(f"copying {generation.path.name} to MLflow") as on_progress:
            away = _drained(projector, lambda: on_progress(copied(), len(states)))
        problems = [f"MLflow: {failure}" for failure in projector.failures]
    finally:
        projector.close()
    if away is not None:
        problems.append(f"MLflow is not up to date ({away}); the same command goes on, nothing is lost")
    return copied() - before, problems


def _is_copied(folder: TrialFolder, state: str, store: Store) -> bool:
    cursor = read_cursor(folder.path)
    return cursor is not None and cursor.store == store_key(store.uri) and cursor.state == state


def _drained(projector: Projector, on_progress: Callable[[], None]) -> str | None:
    """Wait until all is copied; why it is not, when the store has not answered for a while."""
    answered = time.monotonic()
    while not projector.drain(1.0):
        on_progress()
        status = projector.status
        if status is None:
            answered = time.monotonic()
        elif time.monotonic() - answered > AWAY_S:
            return status
    return None
