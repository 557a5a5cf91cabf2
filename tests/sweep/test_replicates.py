"""`replicate:` on a real sweep: the best run again with fresh seeds, beside the search and told to nobody else."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from statistics import mean

import pytest

from harness.config.cells import strata_of
from harness.config.load import load_space
from harness.errors import BadInput
from harness.files import read_json, sha256_file
from harness.report.boards import group_boards
from harness.report.queries import read_sweep
from harness.sweep.claiming import Claims
from harness.sweep.doctor import examine
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record
from harness.sweep.replication import due, settled_top, wanted_of
from tests.faults.tiny import phantom, prepared
from tests.spaces import written

SEEDS = (101, 102, 103)
SPACE = """strata: {labels: [tiger7, unicorn3]}
parameters: {architecture: {value: unet_plain}, learning_rate: {min: 1e-4, max: 1e-2}}
replicate: {top: 2, seeds: [5, 6]}
budget: {trials: 3}"""


def record(stratum: str, number: int, value: float | None, **more: object) -> Record:
    """A trial that ended."""
    state = "complete" if value is not None else "failed"
    said = {"uid": f"{stratum}.{number:04d}", "state": state, "value": value, "seed": 0} | more
    return Record(
        sweep="small", generation=1, stratum=stratum, number=number, parameters={}, fingerprint="f", created="now",
        **said,  # type: ignore[arg-type]  # pydantic checks them
    )  # fmt: skip


def test_the_best_of_each_stratum_come_first_and_none_twice(tmp_path: Path) -> None:
    """Two strata, the top two by the objective, two seeds; what is there already, and failed runs, are left out."""
    space = load_space(written(tmp_path, SPACE, labels="{tiger7: builtin, unicorn3: builtin}"))
    a, b = (stratum.name for stratum in strata_of(space))
    records = [record(a, 0, 0.5), record(a, 1, 0.7), record(a, 2, 0.6), record(b, 0, 0.1), record(b, 1, None)]
    records.append(record(a, 1, 0.9, uid=f"{a}.0001.s5", replicate_of=f"{a}.0001", seed=5))
    held = {r.uid: r for r in records}
    none = Claims(space, GenerationFolder(tmp_path), patients=8, chooses=True)
    assert [(of.uid, seed) for of, seed in due(space, held, none)] == [
        (f"{b}.0000", 5), (f"{a}.0001", 6), (f"{b}.0000", 6), (f"{a}.0002", 5), (f"{a}.0002", 6),
    ]  # fmt: skip
    assert [wanted_of(space, name, held, none, over=True) for name in (a, b)] == [4, 2]
    assert [wanted_of(space, name, held, none, over=False) for name in (a, b)] == [4, 4]


RUNGS = """parameters: {architecture: {value: unet_plain}, learning_rate: {min: 1e-4, max: 1e-2}}
train: {epochs: 9}
prune: {type: rungs, min_epochs: 1, eta: 3}
replicate: {top: TOP, seeds: [5]}
budget: {trials: 9}"""


def test_whoever_is_left_on_the_last_rung_is_known_before_the_end(tmp_path: Path) -> None:
    """Nine, three, one: that one is the top while it trains, unless it fails; with two on the way to the end and one
    place, or with somebody who still goes on to a rung, the top is open."""
    space = load_space(written(tmp_path, RUNGS.replace("TOP", "1")))

    def on(number: int, state: str, *reached: float, rung: int | None = None) -> Record:
        at = len(reached) - 1 if rung is None else rung
        return record("default", number, None, state=state, rung=at, rungs=reached)

    early = [on(number, "paused", number / 10) for number in range(6)]
    third = [on(number, "paused", number / 10, 0.8) for number in (6, 7)]
    last = on(8, "running", 0.8, 0.9, rung=2)
    assert settled_top(space, "default", [*early, *third, last]) == [last]
    assert settled_top(space, "default", [*early, *third, on(8, "running", 0.8, rung=1)]) == []
    assert settled_top(space, "default", [*early, *third, on(8, "paused", 0.8, 0.9)]) == []
    assert settled_top(space, "default", [*early, third[0], on(7, "running", 0.7, 0.8, rung=2), last]) == []
    assert settled_top(space, "default", [*early, *third, on(8, "failed", 0.8, 0.9, rung=2)]) == []
    two = load_space(written(tmp_path, RUNGS.replace("TOP", "2")))
    second = on(7, "running", 0.7, 0.85, rung=2)
    assert settled_top(two, "default", [*early, third[0], second, last]) == [second, last]


@pytest.mark.parametrize("seeds", ["[0, 1]", "[4, 4]", "[]"])
def test_replicates_need_fresh_seeds_each_once(tmp_path: Path, seeds: str) -> None:
    """The search's own seed is 0."""
    with pytest.raises(BadInput, match=r"replicate(\.seeds)?.*(own `seed`|listed twice|at least 1)"):
        load_space(written(tmp_path, SPACE.replace("[5, 6]", seeds), labels="{tiger7: builtin, unicorn3: builtin}"))


@pytest.mark.slow
def test_the_winner_is_trained_again_and_ranks_by_the_mean_of_its_fresh_seeds(tmp_path: Path) -> None:
    """Three replicates of the best of two; one that is lost is trained again, the others are not."""
    place = prepared(tmp_path / "place", phantom(tmp_path / "regions"))
    yaml = place.path / "tiny.yaml"
    yaml.write_text(yaml.read_text() + f"replicate: {{top: 1, seeds: {list(SEEDS)}}}\n")
    outcome = place.run()
    assert (outcome.complete, outcome.epochs_trained) == (5, 10)
    folders = {folder.uid: folder for folder in place.generation.trial_folders()}
    values = {uid: read_json(folder.state_file)["value"] for uid, folder in folders.items()}
    best = max(("default.0000", "default.0001"), key=lambda uid: values[uid])
    fresh = [f"{best}.s{seed}" for seed in SEEDS]
    assert sorted(folders) == sorted(["default.0000", "default.0001", *fresh])
    assert len({sha256_file(folder.weights) for folder in folders.values()}) == 5
    with closing(sqlite3.connect(place.home.path / "optuna.db")) as database:
        assert database.execute("select count(*) from trials").fetchone() == (2,)
    assert examine(place.home.sweep("tiny"), place.home).found == ()
    rows = json.loads((place.path / "reports/tiny/leaderboard.json").read_text())["rows"]
    first = next(row for row in rows if Path(row["folder"]).name == best)
    assert first["rank"] == 1
    (board,) = group_boards(read_sweep(place.generation.path))
    leader = board.leader
    assert leader is not None and leader.trial.uid == best and leader.replicated
    assert leader.score == pytest.approx(mean(values[uid] for uid in fresh))  # the search's own is not averaged in

    shutil.rmtree(folders[fresh[1]].path)
    again = place.run()
    assert (again.complete, again.epochs_trained) == (5, 2)
    assert place.run().epochs_trained == 0
