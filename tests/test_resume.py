"""fit() interrupted and continued: exact, and never from a file that is not whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.checkpoint import CheckpointUnreadable, load_checkpoint
from harness.config.pause import Pause
from harness.train import EpochReport, Paused, Stopped, initial_model
from tests.toy import toy_spec, write_cohort
from tests.training import sha_of, tiny_net, trained


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


RESUMED = {
    "plateau": {"plateau_patience": 0, "plateau_factor": 0.5, "learning_rate": 0.1},
    "cosine": {"schedule": "cosine", "optimizer": "adamw", "weight_decay": 0.01},
    "sgd": {"schedule": "constant", "optimizer": "sgd", "sampling": "balanced", "augment": "histology"},
    "average": {"average": 0.9, "learning_rate": 0.05},
}


@pytest.mark.parametrize("recipe", RESUMED)
def test_interrupted_after_any_epoch_ends_the_same(root: Path, tmp_path: Path, recipe: str) -> None:
    """Weights, every logged number and the final state equal those of the uninterrupted run, bit by bit."""
    spec = toy_spec(root, epochs=4, stop_patience=None, **RESUMED[recipe])
    reports: list[EpochReport] = []
    whole = trained(spec, tmp_path / "whole.pt", reports=reports)
    for last in range(1, 5):
        first, second = [], []

        def enough(seen: list[EpochReport] = first, last: int = last) -> bool:
            return len(seen) >= last

        path = tmp_path / f"{last}.pt"
        if last < 4:
            with pytest.raises(Stopped):
                trained(spec, path, reports=first, should_stop=enough)
        else:
            trained(spec, path, reports=first)
        torch.manual_seed(99)  # whatever a new process starts with
        resumed = trained(
            spec,
            tmp_path / "b.pt",
            reports=second,
            resume_from=load_checkpoint(path, fingerprint=spec.fingerprint),
        )
        assert sha_of(resumed.weights) == sha_of(whole.weights)
        assert [r.values for r in first + second] == [r.values for r in reports]
        assert replace(resumed.progress, seconds=[]) == replace(whole.progress, seconds=[])
        assert [r.matrix.tolist() for r in resumed.evaluation.rois] == [
            r.matrix.tolist() for r in whole.evaluation.rois
        ]
        assert resumed.evaluation.predictions.keys() == whole.evaluation.predictions.keys()
    assert recipe != "plateau" or whole.progress.lr_cuts > 0


@pytest.mark.parametrize(
    ("pause", "epochs"), [(Pause("epochs", 2), 2), (Pause("samples", 1), 1), (Pause("seconds", 1e-9), 1)]
)
def test_a_trial_pauses_after_a_whole_epoch_and_goes_on_to_the_same_end(
    root: Path, tmp_path: Path, pause: Pause, epochs: int
) -> None:
    """At its first epoch at or beyond the pause; told to pause there again, it trains nothing."""
    spec = toy_spec(root, epochs=3, stop_patience=None)
    whole, seen = trained(spec, tmp_path / "whole.pt"), []
    with pytest.raises(Paused):
        trained(spec, tmp_path / "part.pt", reports=seen, pause=pause)
    assert [report.epoch for report in seen] == list(range(1, epochs + 1))
    part = load_checkpoint(tmp_path / "part.pt", fingerprint=spec.fingerprint)
    with pytest.raises(Paused):
        trained(spec, tmp_path / "part.pt", reports=seen, resume_from=part, pause=pause)
    assert len(seen) == epochs
    resumed = trained(spec, tmp_path / "rest.pt", reports=seen, resume_from=part, pause=Pause("epochs", 3))
    assert [report.epoch for report in seen] == [1, 2, 3]
    assert sha_of(resumed.weights) == sha_of(whole.weights)


def test_last_weights_are_exact_too(root: Path, tmp_path: Path) -> None:
    """The last checkpoints hold the same weights and optimiser state, not only the same best weights."""
    spec = toy_spec(root, epochs=3, stop_patience=None)
    trained(spec, tmp_path / "whole.pt")
    seen: list[EpochReport] = []
    with pytest.raises(Stopped):
        trained(spec, tmp_path / "part.pt", reports=seen, should_stop=lambda: len(seen) >= 1)
    trained(
        spec,
        tmp_path / "rest.pt",
        resume_from=load_checkpoint(tmp_path / "part.pt", fingerprint=spec.fingerprint),
    )
    whole, rest = (load_checkpoint(tmp_path / name, fingerprint=spec.fingerprint) for name in ("whole.pt", "rest.pt"))
    assert sha_of(whole.model) == sha_of(rest.model)
    for index, state in whole.optimizer["state"].items():
        for name, value in state.items():
            assert torch.equal(value, rest.optimizer["state"][index][name])
    assert torch.equal(whole.rng["cpu"], rest.rng["cpu"])


def test_weights_do_not_depend_on_what_ran_before(root: Path, tmp_path: Path) -> None:
    """First, second, or after another trial in the same process: the same network to the last bit."""
    spec = toy_spec(root, epochs=2)
    first = trained(spec, tmp_path / "1.pt", model=initial_model(spec))
    second = trained(spec, tmp_path / "2.pt", model=initial_model(spec))
    other = toy_spec(root, epochs=1, seed=6, undefined="as_paper", loss="focal", batch_size=5)
    trained(other, tmp_path / "other.pt", model=initial_model(other))
    third = trained(spec, tmp_path / "3.pt", model=initial_model(spec))
    assert sha_of(first.weights) == sha_of(second.weights) == sha_of(third.weights)
    assert first.progress.history == second.progress.history == third.progress.history


def test_a_byte_flipped_at_rest_never_changes_what_is_loaded(root: Path, tmp_path: Path) -> None:
    """Wherever the byte lies: the checkpoint is refused, or it was padding and the state is the same."""
    spec, path = toy_spec(root, epochs=1), tmp_path / "c.pt"
    trained(spec, path)
    content, refused = path.read_bytes(), 0
    weights = sha_of(load_checkpoint(path, fingerprint=spec.fingerprint).model)
    for place in range(0, len(content), len(content) // 60):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            assert sha_of(load_checkpoint(path, fingerprint=spec.fingerprint).model) == weights
        except CheckpointUnreadable:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("damage", ["cut", "other spec", "absent"])
def test_a_damaged_or_foreign_checkpoint_is_unreadable(root: Path, tmp_path: Path, damage: str) -> None:
    """Never half a state, never another trial's."""
    spec, path = toy_spec(root, epochs=1), tmp_path / "c.pt"
    trained(spec, path)
    content = path.read_bytes()
    fingerprint = spec.fingerprint
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "absent":
        path.unlink()
    else:
        fingerprint = toy_spec(root, epochs=2).fingerprint
    with pytest.raises(CheckpointUnreadable):
        load_checkpoint(path, fingerprint=fingerprint)


@pytest.mark.parametrize("forgets", [False, True], ids=["restored", "forgotten"])
def test_without_the_states_of_the_generators_training_goes_another_way(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgets: bool
) -> None:
    """Where epochs do not seed themselves, dropout goes on from the checkpoint's states: forgotten, weights differ."""
    spec = toy_spec(root, epochs=3, stop_patience=None)
    model, other, seed = tiny_net(spec), tiny_net(spec), torch.manual_seed
    monkeypatch.setattr("harness.train.torch.manual_seed", lambda seed: None)
    seed(1)
    whole = trained(spec, tmp_path / "whole.pt", model=model)
    seed(1)
    seen: list[EpochReport] = []
    with pytest.raises(Stopped):
        trained(spec, tmp_path / "part.pt", model=other, reports=seen, should_stop=lambda: len(seen) >= 1)
    if forgets:
        monkeypatch.setattr("harness.train.restore_rng", lambda states, device: None)
    seed(99)  # whatever a new process starts with
    stored = load_checkpoint(tmp_path / "part.pt", fingerprint=spec.fingerprint)
    resumed = trained(spec, tmp_path / "rest.pt", model=other, resume_from=stored)
    assert (sha_of(resumed.weights) == sha_of(whole.weights)) is not forgets
