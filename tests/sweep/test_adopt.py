"""Trials of another generation kept in a new one: which, under which number, and what a kill at any step leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.config.cells import combinations, resolve, strata_of
from harness.config.load import load_space
from harness.config.space import SearchSpace
from harness.data.check import Checked
from harness.files import write_json, write_text
from harness.sweep.adopt import Adopted, adopt, fit, may_adopt
from harness.sweep.changes import change_document, change_of, plan_lines
from harness.sweep.layout import GenerationFolder, SweepFolder
from harness.sweep.ledger import Record, read_records, trial_uid, write_record
from harness.sweep.prepare import Prepared, open_generation
from harness.sweep.progress import Screen
from harness.tracking.project import CURSOR
from harness.trial.folder import TrialFolder
from tests.spaces import FACTS, written

OLD = """parameters: {architecture: {value: unet_plain}, patch_px: {values: [32, 64]},
learning_rate: {values: [0.001, 0.01]}}"""
WIDER = OLD.replace("[32, 64]", "[32, 64, 128]")
SUMMARY = {"hash": "1", "rois": 2, "patients": 2, "split": FACTS.split.model_dump(mode="json")}
PREPARED = Prepared(FACTS, Checked((), {}, (), "1"), SUMMARY)
QUIET = Screen(Console(file=StringIO()))


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    """Generation 1: the four combinations of OLD, trained."""
    return swept(tmp_path, OLD)


def swept(tmp_path: Path, lines: str) -> SweepFolder:
    """Generation 1: every combination of these lines, trained."""
    folder, old = SweepFolder(tmp_path / "sweeps" / "small"), space(tmp_path, lines)
    generation = open_generation(folder, old, PREPARED, yaml="", command=[])
    for number, cell in enumerate(combinations(old, strata_of(old)[0])):
        trained(generation, old, cell, number)
    return folder


def space(tmp_path: Path, lines: str) -> SearchSpace:
    """A space by its lines."""
    return load_space(written(tmp_path, lines))


def trained(generation: GenerationFolder, of: SearchSpace, cell: dict[str, Any], number: int, **record: Any) -> None:
    """A complete trial's folder, as a worker and the controller leave it; its score is its number."""
    folder = TrialFolder(generation.trials / trial_uid("default", number))
    folder.path.mkdir(parents=True)
    spec = resolve(of, FACTS, cell, seed=of.seed)
    folder.write_spec(spec)
    attempt = folder.new_attempt()
    attempt.append_event({"event": "epoch", "epoch": 1, "objective": number / 10})
    write_json(attempt.outputs / "result.json", {"objective": {"value": number / 10}})
    write_text(attempt.outputs / "predictions" / "roi.txt", f"{number}")
    folder.accept(attempt)
    write_json(folder.path / CURSOR, {"run_id": "of generation 1"})
    said = {
        "uid": folder.uid,
        "sweep": "small",
        "generation": generation.number,
        "stratum": "default",
        "number": number,
    }
    said |= {
        "parameters": cell,
        "seed": spec.seed,
        "fingerprint": spec.fingerprint,
        "created": "then",
        "state": "complete",
        "rung": 1,
        "rungs": (0.0, number / 10),
    }
    write_record(folder, Record.model_validate({**said, "value": number / 10, "accepted_attempt": 1, **record}))


def kept(sweep: SweepFolder, of: SearchSpace, number: int = 2) -> Adopted:
    """Adoption into generation `number`."""
    generation = open_generation(sweep, of, PREPARED, yaml="", command=[])
    assert generation.number == number
    others = [other for other in sweep.generations() if other.number != number]
    return adopt(of, generation, fit(of, FACTS, others), QUIET)


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_a_wider_space_still_has_is_kept_whole_and_costs_no_disk(sweep: SweepFolder, tmp_path: Path) -> None:
    """Same results under the same numbers with a manifest that holds; the record is its own, the run in MLflow too."""
    before = content(sweep.path / "g1")
    adopted = kept(sweep, space(tmp_path, WIDER))
    assert (adopted.newly, adopted.damaged) == (4, ())
    generation = GenerationFolder(sweep.path / "g2")
    for uid, record in read_records(generation).items():
        old, new = TrialFolder(sweep.path / "g1/trials" / uid), TrialFolder(generation.trials / uid)
        assert new.damaged() == []
        assert (record.generation, record.state, record.value) == (2, "complete", record.number / 10)
        assert record.adopted_from == f"g1/trials/{uid}"
        assert (record.rung, record.rungs) == (0, ()), "of other rungs than this generation's"
        assert new.result.samefile(old.result) and new.attempt(1).events.samefile(old.attempt(1).events)
        assert not (new.path / CURSOR).exists()
    assert content(sweep.path / "g1") == before
    assert {path.name for path in generation.path.iterdir()} == {"space.json", "split.json", "trials"}


@pytest.mark.parametrize(
    ("lines", "patches_kept"),
    [
        (OLD.replace("[0.001, 0.01]", "[0.01]"), [(32, 0.01), (64, 0.01)]),
        (OLD.replace("{values: [0.001, 0.01]}", "{min: 0.002, max: 0.02, log: true}"), [(32, 0.01), (64, 0.01)]),
        (OLD + "\nrules: ['patch_px == 32 or learning_rate < 0.01']", [(32, 0.001), (32, 0.01), (64, 0.001)]),
        (OLD + "\ntrain: {epochs: 7}", []),
        (OLD + "\nseed: 8", []),
        (OLD.replace("}}", "}, augment: {values: [none]}}"), []),
    ],
    ids=["a value less", "a narrower range", "a rule", "other epochs", "another seed", "another fixed value"],
)
def test_only_what_the_new_space_has_is_kept_and_numbers_stay_dense(
    sweep: SweepFolder, tmp_path: Path, lines: str, patches_kept: list[tuple[int, float]]
) -> None:
    """0, 1, ... in the old order; the rest stays where it is."""
    adopted = kept(sweep, space(tmp_path, lines))
    assert [record.number for record in adopted.records] == list(range(len(patches_kept)))
    values = [(record.parameters["patch_px"], record.parameters["learning_rate"]) for record in adopted.records]
    assert values == patches_kept
    assert len(read_records(GenerationFolder(sweep.path / "g1"))) == 4


def test_only_complete_trials_with_whole_files_are_kept(sweep: SweepFolder, tmp_path: Path) -> None:
    """One is pruned, one failed, one has a flipped byte: the fourth is kept, and the damaged one is named."""
    for number, state in ((0, "pruned"), (1, "failed")):
        folder = TrialFolder(sweep.path / "g1/trials" / trial_uid("default", number))
        record = json.loads(folder.state_file.read_text())
        write_json(folder.state_file, {**record, "state": state})
    (sweep.path / "g1/trials/default.0002/predictions/roi.txt").write_text("3")
    adopted = kept(sweep, space(tmp_path, WIDER))
    assert [(record.uid, record.adopted_from) for record in adopted.records] == [
        ("default.0000", "g1/trials/default.0003")
    ]
    assert adopted.damaged == ("g1/trials/default.0002 is damaged (predictions/roi.txt) and is not kept",)


def test_a_kept_trial_takes_the_slot_of_the_baseline_that_it_is(sweep: SweepFolder, tmp_path: Path) -> None:
    """The second row names one combination, the first any with 64 px: each is filled once, by the first that is it."""
    rows = "\nbaselines: [{patch_px: 64, mark: in_paper}, {patch_px: 32, learning_rate: 0.01}, {patch_px: 128}]"
    adopted = kept(sweep, space(tmp_path, WIDER + rows))
    found = [(record.parameters["patch_px"], record.baseline_row, record.mark) for record in adopted.records]
    assert found == [(32, None, None), (32, 1, None), (64, 0, "in_paper"), (64, None, None)]


def test_a_trial_that_was_halved_for_want_of_memory_is_kept_with_its_count(sweep: SweepFolder, tmp_path: Path) -> None:
    """Its batches were trained in two parts, as they would be again; the same parts without that story fit nothing."""
    old, first = space(tmp_path, OLD), GenerationFolder(sweep.path / "g1")
    for number, times in ((0, 1), (1, 0)):
        shutil.rmtree(first.trials / trial_uid("default", number))
        cell = list(combinations(old, strata_of(old)[0]))[number]
        in_parts = old.model_copy(update={"train": old.train.model_copy(update={"accumulate": 2})})
        trained(first, in_parts, cell, number, halved=times)
    records = kept(sweep, space(tmp_path, WIDER)).records
    assert [(record.adopted_from, record.halved) for record in records] == [
        ("g1/trials/default.0000", 1), ("g1/trials/default.0002", 0), ("g1/trials/default.0003", 0)
    ]  # fmt: skip


def test_a_generation_with_trials_of_its_own_takes_no_others(sweep: SweepFolder, tmp_path: Path) -> None:
    """So what the sampler knew when it proposed them stays what it was; a copy of a copy names the first folder."""
    wider, second = space(tmp_path, WIDER), GenerationFolder(sweep.path / "g2")
    kept(sweep, wider)
    assert may_adopt(second) and kept(sweep, wider).newly == 0
    cell = {"architecture": "unet_plain", "patch_px": 128, "learning_rate": 0.01}
    trained(second, wider, cell, 4)
    assert not may_adopt(second)
    third = kept(sweep, space(tmp_path, WIDER.replace("0.001, ", "")), number=3)
    assert [record.adopted_from for record in third.records] == [
        "g1/trials/default.0001", "g1/trials/default.0003", "g2/trials/default.0004"
    ]  # fmt: skip


def test_a_plan_says_what_an_edit_changes_and_writes_nothing(sweep: SweepFolder, tmp_path: Path) -> None:
    """Two of four fit; of the stratum's two combinations none is left to train; without an edit there is no change."""
    before = content(sweep.path)
    change = change_of(sweep, space(tmp_path, OLD.replace("[0.001, 0.01]", "[0.01]")), PREPARED)
    document = change_document(change)
    assert document is not None
    assert plan_lines(document) == [
        "generation 2 differs from generation 1, which ran last:",
        "  learning_rate: 0.001, 0.01 -> 0.01",
        "of 4 finished trials 2 still fit and are kept, 2 are set aside (in generation 1)",
    ]
    assert change.done == {"default": 2}
    unchanged = change_of(sweep, space(tmp_path, OLD), PREPARED)
    assert (change_document(unchanged), unchanged.done) == (None, {"default": 4})
    assert content(sweep.path) == before


def test_a_changed_source_sets_only_the_trials_with_it_aside(tmp_path: Path) -> None:
    """One network of one's own beside one of the table, under two rates: the table's two trials are kept."""
    (tmp_path / "lab.py").write_text("def build():\n    return 1\n")
    lines = "parameters:\n  architecture: {values: [unet_plain, {import: 'lab:build', name: tiny}]}\n"
    lines += "  learning_rate: {values: [0.001, 0.01]}"
    sweep = swept(tmp_path, lines)
    (tmp_path / "lab.py").write_text("def build():\n    return 2\n")
    records = kept(sweep, space(tmp_path, lines)).records
    assert [record.parameters["architecture"] for record in records] == ["unet_plain"] * 2


# Each numbered step: what changes or opens files.
STEPS = frozenset({"open", "os.link", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "tempfile.mkstemp"})


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Do the work in a child that is SIGKILLed at that step; whether it came so far."""
    child = os.fork()
    if not child:
        seen = 0

        def count(event: str, _: tuple[object, ...]) -> None:
            nonlocal seen
            if event in STEPS:
                seen += 1
                if seen == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(count)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def all_whole(generation: GenerationFolder) -> bool:
    """Whether every folder under `trials/` is a complete trial with the files of its manifest."""
    folders = [TrialFolder(path) for path in generation.trials.glob("*")]
    return all(folder.state_file.exists() and folder.complete and not folder.damaged() for folder in folders)


def test_a_kill_at_any_step_leaves_whole_trials_and_the_next_call_the_same_end(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    """Every step in turn, until the child comes through; nothing is kept twice, no number is left out."""
    other, second = space(tmp_path, WIDER.replace("0.001, ", "")), GenerationFolder(sweep.path / "g2")
    assert kept(sweep, other).newly == 2
    undisturbed, step = content(second.trials), 1
    shutil.rmtree(second.path)
    # Also the steps before: a generation that was killed before its space was written is none, and is made again.
    while killed_at(step, lambda: kept(sweep, other)):
        assert all_whole(second), step
        kept(sweep, other)
        assert content(second.trials) == undisturbed, step
        shutil.rmtree(second.path)
        step += 1
    assert step > 60


def test_folders_made_in_place_would_be_found_half_made(sweep: SweepFolder, tmp_path: Path) -> None:
    """The check above can fail: a plain copy into `trials/`, killed in the middle, is not whole."""
    second = GenerationFolder(sweep.path / "g2")
    second.trials.mkdir(parents=True)
    source = sweep.path / "g1/trials/default.0000"
    assert killed_at(12, lambda: shutil.copytree(source, second.trials / source.name))
    assert not all_whole(second)


def test_without_links_files_are_copied(sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on exFAT: whole, and two files instead of one."""

    def refuse(*_: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    kept(sweep, space(tmp_path, WIDER))
    assert all_whole(GenerationFolder(sweep.path / "g2"))
    results = [sweep.path / f"g{number}/trials/default.0000/result.json" for number in (1, 2)]
    assert not results[0].samefile(results[1])
