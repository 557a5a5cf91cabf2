"""What follows when a trial ends badly: the rules, and real sweeps whose trials do."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.config.space import OnFailure
from harness.errors import BadInput, Refused, TrialsFailed
from harness.files import is_disk_full
from harness.optimization import parts_of
from harness.sweep.failures import MAX_LOST, Breaker, action_for, halved, stopping_error
from tests.sweep.conftest import Lab, clean_environment
from tests.toy import toy_spec, write_cohort

MEMORY = '''
"""A loss that finds too little memory for more than two pictures at a time."""
import torch
from torch.nn.functional import cross_entropy


def hungry(classes, ignore_index):
    def loss(logits, masks):
        if len(masks) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory, says the test")
        return cross_entropy(logits, masks, ignore_index=ignore_index)
    return loss
'''


def test_each_cause_has_its_consequence_and_a_limit(tmp_path: Path) -> None:
    """Infrastructure resumes MAX_LOST - 1 times, memory halves down to single samples, the rest as configured."""
    spec = toy_spec(write_cohort(tmp_path))  # its batch size decides how often it can be halved
    usual = OnFailure()
    assert [action_for("lost", usual, lost=n, spec=spec) for n in (1, MAX_LOST - 1, MAX_LOST)] == [
        "resume", "resume", "record",
    ]  # fmt: skip
    assert action_for("out_of_memory", usual, lost=0, spec=spec) == "halve"
    smallest = halved(spec, 20)
    assert smallest.train.accumulate == spec.train.batch_size
    assert action_for("out_of_memory", usual, lost=0, spec=smallest) == "record"
    assert [action_for(c, usual, lost=0, spec=spec) for c in ("nan", "error", "timeout", "data", "refused")] == [
        "record", "record", "record", "stop", "stop",
    ]  # fmt: skip
    strict = OnFailure(nan="stop", out_of_memory="record")
    assert action_for("nan", strict, lost=0, spec=spec) == "stop"
    assert action_for("out_of_memory", strict, lost=0, spec=spec) == "record"


def test_a_whole_batch_keeps_the_fingerprint_that_specs_had_before_there_were_parts(tmp_path: Path) -> None:
    """`accumulate: 1` is not in the dump; 2 is, and makes another trial."""
    spec = toy_spec(write_cohort(tmp_path))
    assert "accumulate" not in spec.model_dump(mode="json")["train"]
    assert halved(spec).model_dump(mode="json")["train"]["accumulate"] == 2
    assert halved(spec).fingerprint != spec.fingerprint == halved(spec, 0).fingerprint


@pytest.mark.parametrize(("samples", "parts", "sizes"), [(8, 1, [8]), (8, 2, [4, 4]), (7, 2, [4, 3]), (2, 4, [1, 1])])
def test_parts_cover_the_batch_once(samples: int, parts: int, sizes: list[int]) -> None:
    """In order, nearly equal, none empty."""
    found = parts_of(samples, parts)
    assert sorted(found[i].stop - found[i].start for i in range(len(found))) == sorted(sizes)
    assert np.concatenate([np.arange(samples)[part] for part in found]).tolist() == list(range(samples))


def test_gradients_of_parts_add_up_to_that_of_the_batch() -> None:
    """For a loss that is a mean over samples, and a network without batch normalisation: equal to rounding."""
    torch.manual_seed(1)
    net, images, targets = torch.nn.Conv2d(3, 4, 3), torch.randn(6, 3, 8, 8), torch.randint(0, 4, (6, 6, 6))
    loss = torch.nn.CrossEntropyLoss()
    loss(net(images), targets).backward()
    whole = net.weight.grad.clone()
    net.zero_grad()
    for part in parts_of(6, 3):
        (loss(net(images[part]), targets[part]) * (len(targets[part]) / 6)).backward()
    assert torch.allclose(net.weight.grad, whole, atol=1e-7)


def test_the_same_failure_again_and_again_is_no_trials_fault(tmp_path: Path) -> None:
    """Three equal ones in a row; a completed trial in between starts the count again."""
    breaker = Breaker()
    assert [breaker.failed("error", "boom", tmp_path) for _ in range(2)] == [None, None]
    breaker.completed()
    assert [breaker.failed("error", m, tmp_path) for m in ("boom", "boom", "bang", "boom", "boom")] == [None] * 5
    tripped = breaker.failed("error", "boom", tmp_path)
    assert isinstance(tripped, TrialsFailed) and "3 trials in a row failed the same way (error: boom)" in str(tripped)


def test_what_stops_a_sweep_has_its_exit_code() -> None:
    """Data 2, refusals 3, anything else 4."""
    codes = [stopping_error(cause, "m").exit_code for cause in ("data", "refused", "nan")]
    assert codes == [BadInput.exit_code, Refused.exit_code, TrialsFailed.exit_code]


def test_a_full_disk_is_known_by_its_error_number_through_any_wrapping() -> None:
    """ENOSPC, EFBIG, SQLite's words; not a missing file."""
    inner = OSError(28, "No space left on device")
    outer = RuntimeError("writer failed")
    outer.__cause__ = inner
    assert is_disk_full(inner) and is_disk_full(outer) and is_disk_full(OSError(27, "File too large"))
    assert is_disk_full(RuntimeError("(sqlite3.OperationalError) database or disk is full"))
    assert not is_disk_full(FileNotFoundError(2, "No such file"))


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_trained_in_parts_and_says_so(lab: Lab, phantom: Path) -> None:
    """8 pictures, then 2 x 4, then 4 x 2, which fit: never the same twice, and flagged in the report."""
    (lab.path / "memory.py").write_text(MEMORY)
    text = lab.write(phantom, trials=1).read_text()
    text = text.replace("strata: {labels: [tiger7, unicorn3]}", "strata: {labels: [unicorn3]}")
    text = text.replace("augment: none", "augment: none, loss: {import: memory:hungry, name: hungry}")
    (lab.path / "small.yaml").write_text(text)
    done = lab.run("sweep", "small.yaml", "--executor", "inline")
    assert done.returncode == 0, done.stderr
    assert "again with its batch in 2 parts" in done.stderr and "again with its batch in 4 parts" in done.stderr
    ((uid, record),) = lab.records().items()
    assert (record["state"], record["halved"], record["accepted_attempt"]) == ("complete", 2, 3)
    folder = lab.home / "sweeps/small/g1/trials" / uid
    assert json.loads((folder / "spec.json").read_text())["train"]["accumulate"] == 4
    assert "batch in 4 parts" in json.loads((folder / "result.json").read_text())["flags"]
    assert "batch in 4 parts" in (lab.path / "reports/small/index.html").read_text()
    assert "0 epochs" in lab.run("sweep", "small.yaml", "--executor", "inline").stderr


@pytest.mark.slow
def test_no_space_is_one_line_and_the_same_command_goes_on(lab: Lab, phantom: Path) -> None:
    """Files may grow to 400 kB: the first checkpoint does not fit. Exit 3, nothing half-written, nobody failed."""
    lab.write(phantom, trials=1, epochs=2)
    command = lab.command("sweep", "small.yaml", "--executor", "inline")
    limit = 400_000
    full = subprocess.run(
        command, cwd=lab.path, env=clean_environment(), capture_output=True, text=True, timeout=200,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert full.returncode == 3, full.stderr
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("harness:")]
    assert "no space left where" in line and "run the same command" in line
    assert "Traceback" not in full.stderr
    assert {record["state"] for record in lab.records().values()} == {"waiting"}
    assert not list(lab.home.rglob(".checkpoint.pt*"))
    again = lab.run("sweep", "small.yaml", "--executor", "inline")
    assert again.returncode == 0, again.stderr
    assert {record["state"] for record in lab.records().values()} == {"complete"}


@pytest.mark.slow
def test_a_trial_that_trains_longer_than_its_timeout_is_recorded(lab: Lab, phantom: Path) -> None:
    """A second for 400 epochs: stopped, failed with its cause, the sweep ends with what it has (exit 5)."""
    lab.write(phantom, trials=1, epochs=400, more="timeout: 1s\n")
    done = lab.run("sweep", "small.yaml", "--workers", "2")
    assert done.returncode == 5, done.stderr
    assert {(r["state"], r["cause"], r["message"]) for r in lab.records().values()} == {
        ("failed", "timeout", "trained longer than 1 s")
    }
