"""Who goes on at a rung, by hand; and a real sweep on rungs, killed and continued."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.config.spec import TrainSpec
from harness.errors import BadInput
from harness.sweep.ledger import Record, State, paused
from harness.sweep.rungs import early_note, first_share, ladder, next_up, planned_epochs
from harness.trial.folder import TrialFolder
from tests.spaces import written
from tests.sweep.conftest import Lab
from tests.toy import toy_spec, write_cohort

LINES = "parameters: {architecture: {value: unet_plain}, learning_rate: {min: 1e-5, max: 1e-2, log: true}}\n"


def space(tmp_path: Path, lines: str = "") -> SearchSpace:
    """Nine trials; rungs after epochs 1 and 3, and the end at 9."""
    rungs = "prune: {type: rungs, min_epochs: 1, eta: 3}\nbudget: {trials: 9}\ntrain: {epochs: 9}\n"
    return load_space(written(tmp_path, LINES + rungs + lines))


def trial(number: int, *reached: float | None, state: State = "paused", rung: int | None = None) -> Record:
    """A trial that paused at the last of these values, unless said otherwise."""
    at = max(len(reached) - 1, 0) if rung is None else rung
    return Record(
        uid=f"t{number}", sweep="s", generation=1, stratum="default", number=number, state=state, parameters={},
        seed=0, fingerprint="", created="", rung=at, rungs=reached,
    )  # fmt: skip


def going(of: SearchSpace, records: list[Record]) -> list[str]:
    """Who goes on now."""
    return [record.uid for record in next_up(ladder(of, "default", records))]


def test_the_best_third_goes_on_once_all_are_there(tmp_path: Path) -> None:
    """Three of nine, the best first; nobody while one is on its way; of equal ones the older."""
    of = space(tmp_path)
    nine = [trial(number, number / 10) for number in range(9)]
    assert going(of, nine) == ["t8", "t7", "t6"]
    assert going(of, [*nine[:8], trial(8, state="running")]) == []
    assert going(of, [trial(number, 0.5) for number in range(9)]) == ["t0", "t1", "t2"]


def test_less_is_better_where_the_objective_is_minimized(tmp_path: Path) -> None:
    """Of .0, .1, ... .8 the smallest three."""
    of = space(tmp_path)
    less = of.model_copy(update={"objective": of.objective.model_copy(update={"goal": "minimize"})})
    assert going(less, [trial(number, number / 10) for number in range(9)]) == ["t0", "t1", "t2"]


def test_each_rung_is_judged_by_its_own_values(tmp_path: Path) -> None:
    """Three that paused at the second rung: the best there goes on, which was the last at the first."""
    low = [trial(number, 0.1) for number in range(6)]
    of, high = space(tmp_path), [trial(6, 0.9, 0.91), trial(7, 0.8, 0.92), trial(8, 0.7, 0.93)]
    assert going(of, low + high) == ["t8"]
    assert going(of, [*low, *high[:2], trial(8, 0.7, 0.93, state="running", rung=2)]) == []


def test_a_failed_trial_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    """Eight are left and three places; a trial without any value comes last."""
    of = space(tmp_path)
    nine = [trial(number, number / 10) for number in range(9)]
    assert going(of, [*nine[:8], trial(8, 0.8, state="failed")]) == ["t7", "t6", "t5"]
    assert going(of, [trial(0, None), trial(1, 0.1), trial(2, 0.2)]) == ["t2"]


def test_what_is_trained_already_takes_nobodys_place(tmp_path: Path) -> None:
    """Trials of an earlier generation are complete and were on no rung: the best of the new ones goes on."""
    of, old = space(tmp_path), [trial(number, state="complete") for number in range(6)]
    assert going(of, [*old, *(trial(number, number / 10) for number in range(6, 9))]) == ["t8"]


def test_a_rung_is_judged_though_some_of_its_best_were_pruned_before(tmp_path: Path) -> None:
    """A larger budget: twelve more trials, whose four best meet two that were pruned when six were decided."""
    of = space(tmp_path)
    decided = [trial(number, 0.8, state="pruned") for number in range(2)]
    new = [trial(number, 0.9 + number / 100, 0.9 + number / 100) for number in range(2, 6)]
    rest = [trial(number, 0.1) for number in range(6, 18)]
    (first, *_) = ladder(of, "default", decided + new + rest)
    assert first.places == 6 and first.correlation == pytest.approx(1)


def test_a_rung_counts_the_epochs_of_the_attempt_that_paused(tmp_path: Path) -> None:
    """An attempt before it, whose result was damaged, went to epoch 9; this one began anew and paused after one."""
    folder = TrialFolder(tmp_path / "t")
    old, new = folder.new_attempt(), folder.new_attempt()
    folder.write_spec(toy_spec(write_cohort(tmp_path / "cohort")))
    for epoch in range(1, 10):
        old.append_event({"event": "epoch", "epoch": epoch, "objective": epoch / 10})
    new.append_event({"event": "started", "resumed_epoch": 0})
    new.append_event({"event": "epoch", "epoch": 1, "objective": 0.1})
    found = paused(trial(0), folder)
    assert (found.rungs, found.pruned_epoch) == ((0.1,), 1)


def test_as_many_go_on_as_are_trained_again_afterwards(tmp_path: Path) -> None:
    """`replicate: {top: 2}` needs two complete trials at the end, not one."""
    three = [trial(6, 0.9, 0.9), trial(7, 0.8, 0.8), trial(8, 0.7, 0.7)]
    low = [trial(number, 0.1) for number in range(6)]
    assert going(space(tmp_path), low + three) == ["t6"]
    assert going(space(tmp_path, "replicate: {top: 2, seeds: [1]}\n"), low + three) == ["t6", "t7"]


def test_a_rung_that_misled_sends_twice_as_many(tmp_path: Path) -> None:
    """Twelve trials, four went on, and their order turned round: the next four of the first rung follow, best first."""
    of = space(tmp_path)
    stay = [trial(number, number / 100) for number in range(8)]
    turned = [trial(8, 0.5, 0.9), trial(9, 0.6, 0.8), trial(10, 0.7, 0.7), trial(11, 0.8, 0.6)]
    assert ladder(of, "default", stay + turned)[0].correlation == pytest.approx(-1)
    assert going(of, stay + turned) == ["t7", "t6", "t5", "t4"]
    held = [trial(8, 0.5, 0.6), trial(9, 0.6, 0.7), trial(10, 0.7, 0.8), trial(11, 0.8, 0.9)]
    assert going(of, stay + held) == ["t11", "t10"]


def test_epochs_that_are_planned(tmp_path: Path) -> None:
    """9 x 1, then 3 x 2, then 1 x 6: 21 instead of 81, and 9/21 of them before the first rung."""
    of = space(tmp_path)
    assert planned_epochs(of, 9) == [9, 6, 6]
    assert first_share(of) == pytest.approx(9 / 21)


def test_a_first_rung_of_few_steps_is_said_to_be_early() -> None:
    """130 patches in batches of 8 are 17 steps an epoch: 85 after five, 102 after six."""
    note = early_note(TrainSpec(batch_size=8), patches=130, epoch=5)
    assert note is not None and "after epoch 5, a trial has taken 85 optimizer steps" in note
    assert early_note(TrainSpec(batch_size=8), patches=130, epoch=6) is None


def test_three_trials_are_too_few_to_judge_a_rung_by(tmp_path: Path) -> None:
    """Of three, one order in six is right by chance: their order turned round, and nobody else goes on."""
    turned = [trial(6, 0.7, 0.9), trial(7, 0.8, 0.8), trial(8, 0.9, 0.7)]
    (first, _) = ladder(space(tmp_path), "default", [trial(number, 0.1) for number in range(6)] + turned)
    assert (first.correlation, first.places) == (None, 3)


@pytest.mark.parametrize(
    ("prune", "message"),
    [
        ("{type: hyperband, unit: samples, min: 10}", "`unit: samples` belongs to `type: rungs`"),
        ("{type: rungs, unit: samples}", "`min` is the first rung in samples or seconds"),
        ("{type: rungs, min: 10}", "`min` is the first rung in samples or seconds"),
    ],
)
def test_rungs_in_another_unit_need_their_first(tmp_path: Path, prune: str, message: str) -> None:
    """One line that says what goes with what."""
    with pytest.raises(BadInput, match=message):
        load_space(written(tmp_path, f"{LINES}prune: {prune}\n"))


RUNGS = "prune: {type: rungs, min_epochs: 1, eta: 3}\n"


@pytest.mark.slow
def test_a_sweep_on_rungs_trains_what_it_should_and_the_same_after_a_kill(phantom: Path, tmp_path: Path) -> None:
    """Three trials: all to epoch 1, one to 3, one to 4 (the end). Killed at any moment, the same trials go on, no epoch
    of a trial is trained twice but the one that a kill cut, and weights and scores are the same."""
    calm, killed = (Lab(tmp_path / name) for name in ("calm", "killed"))
    for lab in (calm, killed):
        lab.path.mkdir()
        lab.write(phantom, epochs=4, trials=3, more=RUNGS)
    assert calm.run("sweep", "small.yaml", "--set", "strata={labels: [tiger7]}").returncode == 0
    process = killed.start("sweep", "small.yaml", "--set", "strata={labels: [tiger7]}")
    deadline = time.monotonic() + 60
    while not killed.records() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    time.sleep(random.Random(5).uniform(0.0, 4.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert killed.run("sweep", "small.yaml", "--set", "strata={labels: [tiger7]}").returncode == 0
    states = {uid: record["state"] for uid, record in calm.records().items()}
    assert sorted(states.values()) == ["complete", "pruned", "pruned"]
    (best,) = [uid for uid, state in states.items() if state == "complete"]
    assert calm.epochs(best) == [1, 2, 3, 4]
    assert sorted(len(calm.epochs(uid)) for uid in states) == [1, 1, 4]
    for uid, record in calm.records().items():
        other = killed.records()[uid]
        for name in ("state", "value", "rungs", "rung", "parameters", "pruned_epoch"):
            assert other[name] == record[name], (uid, name)
        assert sorted(set(killed.epochs(uid))) == calm.epochs(uid)
