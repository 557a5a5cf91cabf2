"""The bench runner, on rows with known figures."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench.__main__ import main
from benchmarks.bench.results import Result, Results, machine
from benchmarks.bench.row import Comparison, Row, Side, entries
from benchmarks.bench.run import order, time_left
from benchmarks.bench.statistics import Estimate, estimate, ratio
from benchmarks.bench.table import Compared, compared, figure_text, inserted, table

GIVEN = "tests.benchmarks.given"
SUMS, FAILING, NOWHERE = entries(GIVEN)
POSITIVE = st.floats(0.001, 1000)


def result(
    side: str, repeat: int, *, machine: str = "a machine", failed: str | None = None, **figures: float
) -> Result:
    return Result(side, repeat, figures, failed, wall_s=10.0, date="2026-11-03T10:00:00Z", commit="c", machine=machine,
                  load=0.0)  # fmt: skip


def run(folder: Path, *arguments: str) -> int:
    return main([*arguments, "--folder", str(folder)], package=GIVEN, page=folder / "performance.md")


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the sides of row 91 note that they were started."""
    file = tmp_path / "starts"
    file.touch()
    monkeypatch.setenv("BENCH_TEST_STARTS", str(file))
    return file


def test_the_ratio_is_the_median_of_the_ratios_within_pairs() -> None:
    """Ratios 2, 3, 1. A slow minute that both sides share (x 100) changes nothing."""
    expected = Estimate(2.0, 1.0, 3.0, 3)
    assert ratio([4, 9, 10], [2, 3, 10]) == expected
    assert ratio([4, 900, 10], [2, 300, 10]) == expected


def test_the_interval_is_the_bootstrap_s() -> None:
    """Of 11 values the median of a resample is at most the k-th smallest when 6 draws are: a binomial chance."""

    def chance(k: int) -> float:
        return sum(math.comb(11, n) * (k / 11) ** n * (1 - k / 11) ** (11 - n) for n in range(6, 12))

    lowest = next(k for k in range(1, 12) if chance(k) >= 0.025)
    assert lowest == 3
    assert estimate([11, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1]) == Estimate(6.0, 3.0, 9.0, 11)


def test_a_single_repeat_has_no_interval() -> None:
    assert estimate([4.0]) == Estimate(4.0, None, None, 1)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=2, max_size=6))
def test_the_interval_holds_the_ratio_and_stays_within_the_repeats(pairs: list[tuple[float, float]]) -> None:
    found = ratio([above for above, _ in pairs], [below for _, below in pairs])
    each = [above / below for above, below in pairs]
    assert found.low is not None and found.high is not None
    assert min(each) <= found.low <= found.value <= found.high <= max(each)


def test_sides_take_turns_at_being_the_first() -> None:
    assert order(["a", "b"], 3) == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]


def test_the_time_left_is_known_when_every_waiting_side_has_run() -> None:
    assert time_left(["a", "b"], [result("a", 0)]) == "2 repeats left"
    assert time_left(["a", "b"], [result("a", 0), result("b", 0)]) == "about 20 s left"


def test_what_is_measured_is_not_measured_again(tmp_path: Path, starts: Path) -> None:
    """Two repeats, then the row's three: only the third is run; with --again all are."""
    assert run(tmp_path, "91", "--repeats", "2") == 0
    assert sorted(starts.read_text().splitlines()) == ["ours 1"] * 2 + ["theirs 1"] * 2
    assert run(tmp_path, "91") == 0
    assert len(starts.read_text().splitlines()) == 6
    assert run(tmp_path, "91") == 0
    assert len(starts.read_text().splitlines()) == 6
    assert run(tmp_path, "91_sums", "--again", "--repeats", "1") == 0
    assert len(starts.read_text().splitlines()) == 8
    found = Results(tmp_path / "91_sums.jsonl").read()
    assert [(one.side, one.repeat, one.figures) for one in found] == [
        ("ours", 0, {"seconds": 0.5, "rounds": 4.0}),
        ("theirs", 0, {"seconds": 2.0, "rounds": 2.0}),
    ]


def test_a_lost_repeat_is_the_only_one_run_again(tmp_path: Path, starts: Path) -> None:
    file = tmp_path / "91_sums.jsonl"
    run(tmp_path, "91")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2] + lines[3:]))
    before = len(starts.read_text().splitlines())
    run(tmp_path, "91")
    assert len(starts.read_text().splitlines()) == before + 1
    assert len(Results(file).read()) == 6


def test_a_side_that_fails_says_why_and_the_others_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "92") == 0
    found = Results(tmp_path / "92_failing.jsonl").read()
    assert {one.side: one.failed for one in found} == {
        "good": None,
        "raising": "RuntimeError: no such device",
        "killed": "the process ended by signal SIGKILL",
        "infinite": "not finite: seconds",
        "hanging": "took more than 2 s",
    }
    assert sorted((one.side, one.repeat) for one in found if one.side in ("good", "raising")) == [
        ("good", 0),
        ("good", 1),
        ("raising", 0),
    ]
    assert "unmeasured: raising: RuntimeError: no such device" in capsys.readouterr().out
    assert "RuntimeError: no such device\nand more" in (tmp_path / "92_failing.log").read_text()


def test_what_failed_is_tried_again_and_a_success_takes_its_place(tmp_path: Path, starts: Path) -> None:
    results = Results(tmp_path / "91_sums.jsonl")
    results.append(result("ours", 0, failed="was broken"))
    run(tmp_path, "91", "--repeats", "1")
    assert [(one.side, one.failed) for one in results.read()] == [("ours", None), ("theirs", None)]


def test_ctrl_c_leaves_whole_lines_and_no_process(tmp_path: Path) -> None:
    code = f"import sys; from benchmarks.bench.__main__ import main; sys.exit(main(package={GIVEN!r}))"
    command = [sys.executable, "-c", code, "92", "--folder", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    file = tmp_path / "92_failing.jsonl"
    deadline = time.monotonic() + 60
    while not (file.exists() and len(file.read_text().splitlines()) == 4):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    while not (sides := psutil.Process(process.pid).children()):
        time.sleep(0.05)  # between the fourth side and the fifth, which hangs
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.endswith("interrupted; the same command goes on\n")
    assert not any(side.is_running() for side in sides)
    text = file.read_text()
    assert text.endswith("\n") and [json.loads(line)["side"] for line in text.splitlines()] == [
        "good", "raising", "killed", "infinite"]  # fmt: skip


def test_a_row_that_cannot_run_here_is_listed_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "93") == 0
    assert "| 93 | elsewhere | ours | theirs | unmeasured: needs a Mac | 2x |" in capsys.readouterr().out
    assert not (tmp_path / "93_nowhere.jsonl").exists()
    assert run(tmp_path, "--list") == 0
    assert "needs a Mac" in capsys.readouterr().out


def test_results_from_elsewhere_are_shown_of_a_row_that_cannot_run_here(tmp_path: Path) -> None:
    """Their file is all that the table needs; the machine's letter says where."""
    results = Results(tmp_path / "93_nowhere.jsonl")
    for side, seconds in (("ours", 1.0), ("theirs", 3.0)):
        results.append(result(side, 0, machine="a Mac", seconds=seconds))
    line = "| 93 | elsewhere | ours: 1 s | theirs: 3 s | 3x | 2x | yes | 1 | 2026-11-03 | A |"
    assert line in table([NOWHERE], tmp_path)


def test_a_machine_is_named_with_its_nvidia_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of a kind as one, without their numbers."""
    listed = [f"GPU {n}: NVIDIA H100 80GB HBM3 (UUID: GPU-{n})" for n in range(2)]
    monkeypatch.setattr("benchmarks.bench.results.nvidia_devices", list)
    without = machine()
    monkeypatch.setattr("benchmarks.bench.results.nvidia_devices", lambda: listed)
    assert machine() == f"{without}, 2 x NVIDIA H100 80GB HBM3"


def test_a_row_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path, "9")
    assert "no row 9; choose from 91_sums, 92_failing, 93_nowhere" in capsys.readouterr().err


def test_the_table_of_given_results(tmp_path: Path) -> None:
    """Ratios of seconds 4, 4, 2: median 4, from 2 to 4, and the goal of 3 lies between."""
    results = Results(tmp_path / "91_sums.jsonl")
    for repeat, (ours, theirs) in enumerate([(0.5, 2.0), (0.25, 1.0), (0.5, 1.0)]):
        results.append(result("ours", repeat, seconds=ours))
        results.append(result("theirs", repeat, machine="another", seconds=theirs))
    results.append(result("theirs", 3, seconds=9.0))  # without its pair: not counted
    assert table([SUMS, NOWHERE], tmp_path).splitlines() == [
        "| # | work | ours | against | ratio (95 %) | goal | reached | repeats | date | machine |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| 91 | sums | ours: 0.5 s | theirs: 1 s | 4x (2 to 4) | 3x | open | 3 | 2026-11-03 | A, B |",
        "| 93 | elsewhere | ours | theirs | unmeasured: needs a Mac | 2x |  |  |  |  |",
        "",
        "- Machine A: a machine",
        "- Machine B: another",
    ]


def of(comparison: Comparison, ours: list[float], theirs: list[float]) -> Compared:
    row = Row(1, "work", sides=(Side("ours", dict), Side("theirs", dict)), comparisons=(comparison,))
    results = [result(side, number, rate=value)
               for side, values in (("ours", ours), ("theirs", theirs))
               for number, value in enumerate(values)]  # fmt: skip
    return compared(row, comparison, results)


def test_of_rates_more_is_better() -> None:
    found = of(Comparison("ours", "theirs", "rate", goal=2.0, better="more"), [40, 50], [10, 10])
    assert (found.result, found.reached) == (Estimate(4.5, 4.0, 5.0, 2), "yes")
    assert of(Comparison("ours", "theirs", "rate", goal=6.0, better="more"), [40, 50], [10, 10]).reached == "no"


def test_a_figure_itself_has_a_goal_that_it_may_not_exceed() -> None:
    found = of(Comparison("ours", None, "rate", goal=1.05), [1.0, 1.02], [])
    assert (found.result, found.reached) == (Estimate(1.01, 1.0, 1.02, 2), "yes")
    assert of(Comparison("ours", None, "rate", goal=1.05), [1.0, 1.2], []).reached == "open"
    assert of(Comparison("ours", None, "rate", goal=1.05, better="more"), [1.0, 1.02], []).reached == "no"


def test_a_figure_that_older_results_lack_is_named() -> None:
    found = of(Comparison("ours", "theirs", "epochs"), [1.0], [1.0])
    assert (found.result, found.missing) == (None, "ours has no epochs; measure it with --again")


def test_a_row_refuses_comparisons_of_sides_that_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="compares \\['ours', 'them'\\]"):
        Row(1, "work", sides=(Side("ours", dict),), comparisons=(Comparison("ours", "them"),))


@pytest.mark.parametrize(
    ("value", "figure", "text"),
    [
        (0.00312, "seconds", "3.12 ms"),
        (11.04, "seconds", "11 s"),
        (0.991, "cpu_seconds", "0.991 s cpu"),
        (7.24, "memory_gb", "7.24 GB memory"),
        (4800.4, "images_per_s", "4800 images per s"),
        (0.0, "epochs", "0 epochs"),
        (2.0, "epochs", "2 epochs"),
    ],
)
def test_a_value_has_the_unit_of_its_figure(value: float, figure: str, text: str) -> None:
    assert figure_text(value, figure) == text


def test_the_table_goes_between_the_markers_and_nothing_else_changes(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    assert run(tmp_path, "91", "--table") == 0
    lines = page.read_text().splitlines()
    assert (lines[:2], lines[-2:]) == (["before", "<!-- bench -->"], ["<!-- /bench -->", "after"])
    assert [line[:5] for line in lines[4:-2]] == ["| 91 ", *["| 92 "] * 4, "| 93 "]
    again = page.read_text()
    assert run(tmp_path, "--table") == 0
    assert page.read_text() == again
    with pytest.raises(ValueError, match="has no <!-- bench -->"):
        inserted("nothing here", "table")


def test_every_row_of_the_package_is_numbered_as_its_module_and_can_be_compared() -> None:
    found = entries()
    assert len({entry.number for entry in found}) == len(found)
    assert all(entry.row.compared for entry in found)
