"""`harness status`: counts, best, what runs, and the forecast, from folders that somebody else is writing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from harness.cli_text import status_line, status_text
from harness.config.load import load_space
from harness.files import write_json
from harness.sweep.columns import WORTH_KEEPING
from harness.sweep.follow import FILE
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.ledger import Record, write_record
from harness.sweep.status import Status, status_of
from harness.sweep.watch import watch
from harness.trial.folder import Attempt, TrialFolder
from tests.spaces import written
from tests.tracking.sweeps import SPEC

LINES = """strata: {labels: [tiger7, unicorn3]}
parameters: {architecture: {value: unet_plain}, learning_rate: {values: [0.001, 0.003, 0.01]}}
budget: {trials: 5, wall: 100s}"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def generation(home: Home, tmp_path: Path) -> GenerationFolder:
    """Two strata of three combinations each, a budget of five: six trials in all, 60 of 100 s of wall time used."""
    folder = GenerationFolder(home.sweep("small").path / "g1")
    space = load_space(written(tmp_path, LINES, labels="{tiger7: builtin, unicorn3: builtin}"))
    write_json(folder.space_file, {"key": "k", "space": space.model_dump(mode="json")})
    write_json(folder.clock, {"wall_s": 60.0})
    return folder


def held(home: Home, pid: int | None = None) -> None:
    """This process (or another) runs the sweep, on two slots."""
    process = psutil.Process(pid)
    who = {"pid": process.pid, "started": process.create_time(), "host": "here", "since": "now"}
    write_json(home.sweep("small").holder, who)
    write_json(home.sweep("small").slots, {"devices": ["cpu", "cpu"]})


def trial(generation: GenerationFolder, number: int, stratum: str, state: str, value: float | None = None) -> Attempt:
    """A trial's folder with an attempt that has not begun."""
    folder = TrialFolder(generation.trials / f"{stratum}.{number}")
    if not folder.path.exists():
        folder.path.mkdir(parents=True)
        folder.write_spec(SPEC)
        folder.new_attempt()
    record = {"uid": folder.uid, "sweep": "small", "generation": 1, "stratum": stratum, "number": number, "seed": 1}
    record |= {"parameters": {"labels": stratum, "learning_rate": 0.001}, "fingerprint": "f", "created": "now"}
    write_record(folder, Record.model_validate({**record, "state": state, "value": value}))
    return folder.attempt(1)


def starts(attempt: Attempt, at: float) -> None:
    attempt.append_event({"event": "started", "time": at, "device": "cpu", "resumed_epoch": 0})


def trains(attempt: Attempt, epoch: int, at: float, **facts: float) -> None:
    attempt.append_event(
        {"event": "epoch", "epoch": epoch, "time": at, "seconds": 4.0, "objective": epoch / 10, **facts}
    )


def test_a_status_counts_forecasts_and_names_the_best(home: Home, generation: GenerationFolder) -> None:
    """One complete trial of 10 s, one that began now, four left for two slots: ends at 10, 10, 20, 20 and 30 s."""
    held(home)
    now = time.time()
    done = trial(generation, 0, "tiger7", "complete", 0.4)
    starts(done, now - 10)
    trains(done, 1, now - 5, data_seconds=1.0)
    trains(done, 2, now, data_seconds=3.0)
    running = trial(generation, 0, "unicorn3", "running")
    starts(running, now)
    trains(running, 1, now)  # as an older version wrote it: it says nothing about data
    document = status_of(generation, home)
    tiger, unicorn = document["strata"]
    assert (tiger["complete"], tiger["wanted"], unicorn["running"], unicorn["wanted"]) == (1, 3, 1, 3)
    assert tiger["best"]["value"] == 0.4 and tiger["best"]["number"] == 0 and unicorn["best"] is None
    assert document["slots"] == {"busy": 1, "total": 2, "devices": ["cpu", "cpu"]}
    (shown,) = document["running"]
    assert (shown["epoch"], shown["epochs"], shown["objective"]) == (1, 3, 0.1)
    assert document["data_wait_share"] == 0.5  # (1 + 3) of (4 + 4) s
    assert document["epochs_trained"] == 3
    assert document["eta_s"] == pytest.approx(30.0, abs=2.0)
    assert document["forecast"]["wall_left_s"] == 40.0 and document["forecast"]["ended"] == 6
    text = status_text(document)
    assert "all 6 trials end within the 40 s that are left (from the median time of 1 complete trials, 2 slots)" in text
    assert "1 of 2 slots busy on cpu; 50 % of the epochs' time waiting for data" in text


def test_without_a_controller_nothing_runs_and_nothing_is_foreseen(home: Home, generation: GenerationFolder) -> None:
    """After a kill, what was running waits; the epochs it trained still count."""
    starts(attempt := trial(generation, 0, "tiger7", "running"), 1.0)
    trains(attempt, 1, 5.0)
    document = status_of(generation, home)
    assert (document["strata"][0]["running"], document["strata"][0]["waiting"]) == (0, 1)
    assert (document["holder"], document["eta_s"], document["slots"], document["epochs_trained"]) == (
        None,
        None,
        None,
        1,
    )


def test_a_second_look_takes_in_what_was_appended_and_a_torn_line_waits(
    home: Home, generation: GenerationFolder
) -> None:
    """An event cut in the middle of its line is read once, when it is whole; a later attempt counts from its own."""
    held(home)
    attempt = trial(generation, 0, "tiger7", "running")
    starts(attempt, 1.0)
    status = Status(generation, home)
    assert status.document()["running"][0]["epoch"] == 0
    line = json.dumps({"event": "epoch", "epoch": 1, "time": 5.0, "seconds": 4.0, "objective": 0.2}) + "\n"
    with attempt.events.open("a") as stream:
        stream.write(line[:30])
        stream.flush()
        assert status.document()["running"][0]["epoch"] == 0
        stream.write(line[30:])
    assert status.document()["running"][0]["epoch"] == 1
    assert status.document()["epochs_trained"] == 1
    second = TrialFolder(generation.trials / "tiger7.0").new_attempt()
    second.append_event({"event": "started", "time": 9.0, "device": "cpu", "resumed_epoch": 1})
    assert status.document()["running"][0]["epoch"] == 1
    trial(generation, 0, "tiger7", "complete", 0.3)
    assert status.document()["strata"][0]["complete"] == 1


def test_a_report_is_found_where_it_was_written(
    home: Home, generation: GenerationFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noted by whoever wrote it; without a note under ./reports; a report that was deleted is none."""
    monkeypatch.chdir(tmp_path)
    assert status_of(generation, home)["report"] is None
    elsewhere, usual = tmp_path / "else where" / "index.html", tmp_path / "reports/small/index.html"
    for page in (elsewhere, usual):
        page.parent.mkdir(parents=True)
        page.touch()
    assert status_of(generation, home)["report"] == str(usual)
    write_json(generation.report_note, {"page": str(elsewhere)})
    assert status_of(generation, home)["report"] == str(elsewhere)
    elsewhere.unlink()
    assert status_of(generation, home)["report"] is None


def test_watching_prints_a_line_per_change_and_ends_with_the_sweep(home: Home, generation: GenerationFolder) -> None:
    """Not on a terminal: nothing while nothing changes, and the last line says that nobody runs it any more."""
    controller = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    held(home, controller.pid)
    starts(trial(generation, 0, "tiger7", "running"), time.time())

    def end() -> None:
        trial(generation, 0, "tiger7", "complete", 0.25)
        time.sleep(0.3)
        controller.communicate()

    said = StringIO()
    later = threading.Timer(0.3, end)
    later.start()
    watch(
        home.sweep("small"), home, console=Console(file=said), shown=status_text, line=status_line, every_s=0.05
    )  # fmt: skip
    later.join()
    lines: list[Any] = [line.partition("; ends")[0] for line in said.getvalue().splitlines()]
    assert lines == [
        "small g1: 0 of 6 ended, 1 running",
        "small g1: 1 of 6 ended, 0 running; best val/iou tiger7 0.250",
        "small g1: 1 of 6 ended, not running; best val/iou tiger7 0.250",
    ]


def test_status_loads_neither_torch_nor_mlflow_nor_optuna(home: Home, generation: GenerationFolder) -> None:
    """So that it answers in less than a second beside a sweep that needs the machine."""
    code = "import sys; from harness.cli import main; sys.argv[1:] = ['status', '--home', sys.argv[1]]\n"
    code += "try: main()\nexcept SystemExit as end: assert not end.code\n"
    code += "print([m for m in ('torch', 'mlflow', 'optuna', 'pandas') if m in sys.modules])"
    write_json(home.sweep("small").last, {"generation": 1})
    done = subprocess.run(
        [sys.executable, "-c", code, str(home.path)], capture_output=True, text=True, env=dict(os.environ), check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def ended(generation: GenerationFolder, count: int) -> None:
    """Trials of two strata that completed, were pruned or failed, after an attempt of two epochs."""
    for number in range(count):
        stratum, state = ("tiger7", "unicorn3")[number % 2], ("complete", "pruned", "failed")[number % 3]
        attempt = trial(generation, number, stratum, state, number / 100 if state == "complete" else None)
        starts(attempt, at=1000.0)
        trains(attempt, 1, at=1004.0 + number, data_seconds=0.5)
        trains(attempt, 2, at=1009.0)


def test_a_new_process_finds_what_an_earlier_one_read(home: Home, generation: GenerationFolder) -> None:
    """The status from the columns is that of the folders; a trial that changed, came or went is seen."""
    ended(generation, WORTH_KEEPING)
    columns = generation.path / FILE
    expected = status_of(generation, home)
    assert columns.exists()
    content = columns.read_bytes()
    assert status_of(generation, home) == expected
    assert columns.read_bytes() == content
    trial(generation, 3, "unicorn3", "running")
    trial(generation, 50, "tiger7", "complete", 0.9)
    shutil.rmtree(generation.trials / "tiger7.0")
    changed = status_of(generation, home)
    columns.unlink()
    assert status_of(generation, home) == changed
    assert changed["strata"][0]["best"]["number"] == 50
    assert changed["strata"][1]["waiting"] == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"[1]"])
def test_damaged_columns_are_no_harm(home: Home, generation: GenerationFolder, content: bytes) -> None:
    """The status is that of the folders, and the file is made anew."""
    ended(generation, WORTH_KEEPING)
    expected = status_of(generation, home)
    (generation.path / FILE).write_bytes(content)
    assert status_of(generation, home) == expected
    assert (generation.path / FILE).stat().st_size > 1000


def test_a_status_of_few_trials_loads_no_library_it_does_not_need(home: Home, generation: GenerationFolder) -> None:
    """Neither numpy nor what stands on it: half of the time was theirs."""
    trial(generation, 0, "tiger7", "complete", 0.5)
    heavy = ("numpy", "scipy", "cv2", "pandas", "torch", "mlflow", "optuna", "jinja2")
    code = (
        "import sys\nfrom harness.cli import main\ntry:\n main(['status', 'small', '--json', '--home', sys.argv[1]])\n"
        f"except SystemExit as end:\n sys.exit(end.code or [n for n in {heavy!r} if n in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(home.path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
