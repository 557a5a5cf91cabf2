"""`harness test`: the leaders of a finished sweep on the patients kept apart, and how often these were opened.

Test patients stay honest only as long as nobody picks by them. So they are opened for what validation picked, the
leader of each board, and every opening is written down before its result is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from harness.errors import Refused
from harness.execute.work import Workplace
from harness.files import read_json, write_json
from harness.report.boards import group_boards
from harness.report.held_out import openings_key, patients_apart
from harness.report.queries import Sweep, read_sweep
from harness.report.wording import plural
from harness.scoring.regions import regions_of_sweep
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.prepare import Steps
from harness.trial.folder import TrialFolder
from harness.trial.held_out import scores_held_out


@dataclass(frozen=True, slots=True)
class Opening:
    """What came of a call."""

    scored: tuple[str, ...]  # trials; none when all of them had been scored before
    times: int  # that these patients were opened by now, over all sweeps of the home


def open_test(generation: GenerationFolder, home: Home, place: Workplace, steps: Steps) -> Opening:
    """Score the leader of each board, all its fresh seeds if its score is their mean. Idempotent.

    Refused for a sweep that keeps no test patients, is not finished, or whose data are not what it was run on.
    """
    sweep = read_sweep(generation.path)
    patients = patients_apart(sweep)
    if not patients:
        raise Refused(f"{sweep.name} keeps no test patients apart; `data.split.test: 0.2` does, in a sweep of its own")
    if sweep.unfinished or not sweep.complete:
        raise Refused(f"{sweep.name} is not finished; test patients are opened once, for what validation picked")
    key = openings_key(sweep)
    missing = [uid for uid in finalists(sweep) if not (generation.held_out / f"{uid}.json").exists()]
    if missing:
        regions_of_sweep(generation, home, steps)  # refuses data that are not what they were
        _note(home, key, sweep, missing, patients)
        with steps.step(f"scoring {plural(len(missing), 'run')} on {plural(len(patients), 'test patient')}") as on_done:
            for done, uid in enumerate(missing, start=1):
                folder = TrialFolder(generation.trials / uid)
                document = scores_held_out(folder, stores=place.stores, device=place.device)
                write_json(generation.held_out / f"{uid}.json", document)
                on_done(done, len(missing))
    return Opening(tuple(missing), len(_openings(home).get(key, {}).get("openings", ())))


def finalists(sweep: Sweep) -> tuple[str, ...]:
    """The runs behind the first row of each board that was trained here."""
    leaders = [board.first_trained for board in group_boards(sweep)]
    return tuple(dict.fromkeys(trial.uid for row in leaders if row for trial in row.trials))


def _note(home: Home, key: str, sweep: Sweep, uids: Sequence[str], patients: Sequence[str]) -> None:
    """Before anything is known: a look that was cut short was a look."""
    document = _openings(home)
    known = document.setdefault(key, {"patients": list(patients), "openings": []})
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known["openings"].append({"time": now, "sweep": sweep.name, "generation": sweep.generation, "runs": list(uids)})
    write_json(home.openings, document)


def _openings(home: Home) -> dict[str, dict[str, list[object]]]:
    return dict(read_json(home.openings)) if home.openings.exists() else {}
