"""Going back into a trial: the same numbers from any kept epoch, the batch that broke it, another way from there."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from harness.cli import main
from harness.config.imported import ImportedPart
from harness.config.spec import TrialSpec
from harness.data.batches import training_batches
from harness.data.targets import target_table
from harness.files import read_json, sha256_file
from harness.trial.folder import TrialFolder
from harness.trial.run import cohort, open_data, run_trial
from harness.trial.travel import logged_epochs
from tests.toy import toy_spec, write_cohort

EPOCHS = 4
NAN = '''
"""Cross-entropy, but NaN for the one batch whose targets add up to `total`."""
from torch.nn.functional import cross_entropy


def make(classes, ignore_index, total):
    def loss(logits, masks):
        value = cross_entropy(logits, masks, ignore_index=ignore_index)
        return value * float("nan") if int(masks.sum()) == total else value
    return loss
'''


def made(path: Path, spec: TrialSpec, home: Path) -> TrialFolder:
    """A trial that was trained to its end, however that was."""
    folder = TrialFolder(path)
    folder.write_spec(spec)
    run_trial(folder, 1, stores=home / "stores", device="cpu", emit=lambda event: None, should_stop=lambda: False)
    if folder.attempt(1).ended_complete:
        folder.accept(folder.attempt(1))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a home")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def kept(root: Path, home: Path) -> TrialFolder:
    """A complete trial that kept every second epoch, with a plateau that cuts the rate."""
    spec = toy_spec(root, epochs=EPOCHS, stop_patience=None, plateau_patience=0, learning_rate=0.03)
    return made(home / "kept.0000", spec.model_copy(update={"keep_epochs": 2}), home)


def trial(home: Path, folder: TrialFolder | Path, *arguments: str) -> Result:
    """`harness trial` in this process; the trial's own folder must be as it was."""
    path = folder.path if isinstance(folder, TrialFolder) else folder
    before = hashes(path)
    done = CliRunner().invoke(main, ["trial", str(path), "--home", str(home), "--device", "cpu", *arguments])
    assert hashes(path) == before
    return done


def hashes(folder: Path) -> dict[str, str]:
    return {str(path): sha256_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_kept_is_no_part_of_the_fingerprint(root: Path) -> None:
    """`keep_epochs` takes none, all, every n-th, or a list; the trial stays the same trial."""
    spec = toy_spec(root, epochs=6)
    kept = {
        str(value): [epoch for epoch in range(1, 7) if spec.model_copy(update={"keep_epochs": value}).keeps(epoch)]
        for value in ("none", "all", 2, (1, 5))
    }
    assert kept == {"none": [], "all": [1, 2, 3, 4, 5, 6], "2": [2, 4, 6], "(1, 5)": [1, 5]}
    assert spec.model_copy(update={"keep_epochs": "all"}).fingerprint == spec.fingerprint


@pytest.mark.slow
def test_an_epoch_is_the_same_from_a_kept_state_and_from_the_beginning(kept: TrialFolder, home: Path) -> None:
    """Epoch 3 from the state after 2; epoch 2 from scratch; all to the last bit, and nothing is written."""
    assert [file.name for file in kept.attempt(1).kept_epochs()] == ["2.pt", "4.pt"]
    third = trial(home, kept, "--at-epoch", "3")
    numbers = len(logged_epochs(kept)[3])
    assert third.exit_code == 0, third.output
    assert third.stdout.splitlines() == [
        "starts after epoch 2, from attempts/1/epochs/2.pt",
        f"epoch 3: {numbers} numbers, identical to the trial's",
    ]
    second = trial(home, kept, "--at-epoch", "2", "--to-epoch", "4").stdout
    assert "starts from the beginning: no earlier state is stored" in second
    assert second.count("identical to the trial's") == EPOCHS


@pytest.mark.slow
def test_a_number_that_differs_is_named_and_ends_with_code_4(kept: TrialFolder, home: Path, tmp_path: Path) -> None:
    """As when a library changed in between: here the trial's own word is edited."""
    import shutil

    shutil.copytree(kept.path, tmp_path / "edited")
    events = tmp_path / "edited/attempts/1/events.jsonl"
    logged = logged_epochs(kept)[3]["val/loss"]
    events.write_text(events.read_text().replace(f'"val/loss": {logged}', '"val/loss": 0.125'))
    done = trial(home, tmp_path / "edited", "--at-epoch", "3")
    assert done.exit_code == 4
    assert f"epoch 3: differs from the trial: val/loss {logged} here, 0.125 there" in done.stdout


@pytest.mark.slow
def test_a_fork_goes_another_way_from_its_epoch_on_and_not_before(kept: TrialFolder, home: Path) -> None:
    """Curves are equal up to epoch 2; the new rate holds from 3; running it again trains nothing."""
    done = trial(home, kept, "--at-epoch", "3", "--set", "train.learning_rate=0.0007", "--set", "epochs=5")
    assert done.exit_code == 0, done.output
    assert "learning_rate: 0.03 -> 0.0007" in done.stdout and "epochs: 4 -> 5" in done.stdout
    (fork,) = [TrialFolder(path) for path in (home / "single").glob("*-from-kept.0000-3")]
    ours, theirs = logged_epochs(fork), logged_epochs(kept)
    assert sorted(ours) == [3, 4, 5]
    assert (ours[3]["lr"], theirs[3]["lr"] == ours[3]["lr"]) == (0.0007, False)
    assert ours[3]["train/loss"] != theirs[3]["train/loss"]
    matrices = [entry["patients"] for entry in read_json(fork.scores)["epochs"]]
    before = [entry["patients"] for entry in read_json(kept.scores)["epochs"]]
    assert matrices[:2] == before[:2] and len(matrices) == 5
    assert read_json(fork.result)["best_epoch"] >= 3
    assert read_json(fork.path / "fork.json") == {"of": str(kept.path), "from_epoch": 3}
    again = trial(home, kept, "--at-epoch", "3", "--set", "learning_rate=0.0007", "--set", "epochs=5")
    assert again.exit_code == 0 and [attempt.number for attempt in fork.attempts()] == [0, 1]


@pytest.mark.slow
def test_a_fork_that_changes_nothing_of_the_rate_goes_on_with_moments_and_rate(kept: TrialFolder, home: Path) -> None:
    """Longer patience of stopping alone: its epochs 3 and 4 are the trial's own, to the last bit."""
    done = trial(home, kept, "--at-epoch", "3", "--set", "stop_patience=50", "--out", str(home / "patient"))
    assert done.exit_code == 0, done.output
    ours, theirs = logged_epochs(TrialFolder(home / "patient")), logged_epochs(kept)
    assert {epoch: theirs[epoch] for epoch in (3, 4)} == ours


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--at-epoch", "9"), "--at-epoch 9: kept.0000 has the epochs 1 to 4"),
        (("--set", "patch_px=64"), "a fork changes settings of training; "),
        (("--set", "learning_rate=fast"), "--set train.learning_rate: "),
        (("--set", "undefined=as_paper"), "it changes the number of classes"),
        (("--set", "learning_rate=0.03"), "nothing is changed by it"),
        (("--at-epoch", "4", "--set", "epochs=2"), "2 is before epoch 4, where the fork begins"),
        (("--at-epoch", "2", "--pdb"), "--pdb needs a terminal to type in"),
        (("--until-nan", "--set", "seed=3"), "--set makes a trial of its own"),
    ],
)
@pytest.mark.slow
def test_what_cannot_be_done_is_one_line(kept: TrialFolder, home: Path, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2, or 3 where it is a refusal."""
    done = trial(home, kept, *arguments)
    assert done.exit_code in (2, 3)
    (line,) = done.stderr.splitlines()
    assert said in line


@pytest.fixture(scope="module")
def broken(root: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialFolder, np.ndarray]:
    """A trial that failed by NaN in the third batch of epoch 3, and the targets of that batch."""
    code = tmp_path_factory.mktemp("code")
    (code / "nanny.py").write_text(NAN)
    plain = toy_spec(root, epochs=EPOCHS)
    data = open_data(plain, cohort(plain), home / "stores")
    table, labels = target_table(plain.dataset.labels, "ignore"), plain.dataset.labels
    sums = {
        (epoch, number): int(targets.sum())
        for epoch in range(1, 4)
        for number, (_, targets) in enumerate(
            training_batches(data.training, data.training_indices, spec=plain.train, table=table, labels=labels,
                             seed=plain.seed, epoch=epoch), start=1)
    }  # fmt: skip
    total = sums[3, 3]
    assert list(sums.values()).count(total) == 1
    part = ImportedPart(target="nanny:make", name="nanny", folder=str(code), options={"total": total})
    return made(home / "broken.0000", toy_spec(root, epochs=EPOCHS, loss=part), home), np.array(total)


@pytest.mark.slow
def test_the_batch_that_broke_a_trial_is_named_and_written(broken: tuple[TrialFolder, np.ndarray], home: Path) -> None:
    """From the failed trial's own last checkpoint; its patches are those of that batch, its tensors load safely."""
    folder, total = broken
    done = trial(home, folder, "--until-nan", "--out", str(home / "nan"))
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "starts after epoch 2, from attempts/1/checkpoint.pt"
    assert lines[1] == "epoch 3, batch 3: not finite first in the loss, from finite logits"
    batch = torch.load(home / "nan/batch.pt", weights_only=True)
    assert int(batch["targets_NHW"].sum()) == int(total)
    document = read_json(home / "nan/batch.json")
    assert (document["epoch"], document["batch"], len(document["patches"])) == (3, 3, len(batch["images_NCHW"]))
    assert len(list((home / "nan").glob("patch-*.png"))) == len(document["patches"])
    named = {patch["roi"] for patch in document["patches"]}
    assert named <= {roi.name for roi in cohort(folder.read_spec())}


@pytest.mark.slow
def test_weights_that_explode_are_told_from_a_loss_that_does(root: Path, home: Path) -> None:
    """SGD with rate 99 and decay 10 overflows: the first thing not finite is in the network, and has a name."""
    spec = toy_spec(root, epochs=30, optimizer="sgd", learning_rate=99.0, weight_decay=10.0, loss="cross_entropy")
    folder = made(home / "exploding.0000", spec, home)
    done = trial(home, folder, "--until-nan", "--at-epoch", "1", "--out", str(home / "exploded"))
    assert "not finite first in " in done.stdout, done.stdout
    assert "finite logits" not in done.stdout and "finite weights" not in done.stdout
    healthy = toy_spec(root, epochs=1)
    fine = trial(home, made(home / "fine.0000", healthy, home), "--until-nan", "--at-epoch", "1")
    assert (fine.exit_code, fine.stdout.splitlines()[-1]) == (0, "everything was finite to the end")


@pytest.mark.slow
def test_the_debugger_stops_at_the_first_batch_with_its_names(kept: TrialFolder, home: Path) -> None:
    """In a terminal of its own: a name is printed, `c` goes on to the end of the epoch."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "harness.cli", "trial", str(kept.path), "--at-epoch", "3", "--pdb"]
    visit = subprocess.Popen(
        [*command, "--home", str(home), "--device", "cpu"], stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    said = _until(ours, b"(Pdb)")
    assert "epoch 3, batch 1: loss " in said and "gradients are there" in said
    os.write(ours, b"p tuple(logits_NKHW.shape), model.training\n")
    assert "True)" in _until(ours, b"(Pdb)")
    os.write(ours, b"c\n")
    assert "identical to the trial's" in _until(ours, b"trial's")
    assert visit.wait(60) == 0
    os.close(ours)


def _until(descriptor: int, end: bytes, timeout_s: float = 90) -> str:
    said, deadline = b"", time.monotonic() + timeout_s
    while end not in said:
        assert time.monotonic() < deadline, said.decode()
        if select.select([descriptor], [], [], 0.2)[0]:
            said += os.read(descriptor, 4096)
    return said.decode()
