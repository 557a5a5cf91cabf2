"""Boards and trials -> tables of text, for the page, the terminal and the files. Nothing is computed here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from harness.inference.intervals import MIN_PATIENTS
from harness.report.boards import YARDSTICK, Board, Row, flags, group_boards, seeds_flag
from harness.report.notes import LEGEND, REFERENCE, notes, own_notes, shared_notes
from harness.report.queries import Sweep, Trial
from harness.report.wording import (
    ABSENT,
    MODEL_KEYS,
    difference_text,
    duration_text,
    interval_text,
    listed,
    metric_text,
    model_text,
    plural,
    score_text,
    setting_text,
)
from harness.scores import yardstick_refusal

# Of a table on the page. A browser sorts and filters 1,000 in 20 ms; 10,000 on every board would be 35 MB of page.
MOST_ROWS = 1000
MOST_END_ROWS = 8  # of a board, on the screen at a sweep's end


@dataclass(frozen=True, slots=True)
class Links:
    """Where a row's MLflow run can be seen; `ui` is the base URL of an MLflow UI."""

    ui: str

    def run(self, trial: Trial) -> str | None:
        """The run's page; None without a run, or when `ui` is not a web address."""
        if not trial.run_id or trial.experiment_id is None or not self.ui.startswith(("http://", "https://")):
            return None
        experiment, run = quote(str(trial.experiment_id), safe=""), quote(trial.run_id, safe="")
        # Otherwise MLflow files the run under its pages for language models.
        return f"{self.ui.rstrip('/')}/#/experiments/{experiment}/runs/{run}?workflowType=machine_learning"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, and how it is drawn and sorted."""

    text: str
    sort: float | str | None = None  # what sorting compares; None: the text, or last among numbers
    note: str | None = None  # small print under the text
    href: str | None = None
    note_href: str | None = None  # a link of the small print
    title: str | None = None
    tags: tuple[str, ...] = ()
    bar: float | None = None  # 0..1, drawn behind the number
    swatch: str | None = None  # a colour before the text
    shade: float | None = None  # -1..1, depth of the background; negative ones in the other colour
    numeric: bool = False
    strong: bool = False  # the best of its column


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, column heads and rows; the first `heads` cells of a row name it."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    head: int = 0  # index of the column that names the row
    sortable: bool = True


def number(value: float | None, text: str, **drawn: object) -> Cell:
    """A right-aligned number that sorts by its value."""
    return Cell(text, sort=value, numeric=True, **drawn)  # type: ignore[arg-type]  # Cell's own fields


def model_of(trial: Trial) -> str:
    """Architecture, encoder and weights of a trial; the name of a row that was not trained here."""
    if trial.external:
        return trial.external
    return model_text({key: trial.value(key) for key in MODEL_KEYS})


def setting_of(trial: Trial, sweep: Sweep, *, labels: bool) -> str:
    """What varies besides the model and the stratum, for this trial; `labels` where a board mixes them."""
    if trial.external:  # has no stratum that would say its label map
        return str(trial.parameters.get("labels") or "") if labels else ""
    said = {*MODEL_KEYS, *sweep.strata}
    keys = [key for key in sweep.varying if key not in said and (labels or key != "labels")]
    return " · ".join(setting_text(key, trial.parameters[key]) for key in keys if trial.parameters.get(key) is not None)


def shown_scores(board: Board) -> tuple[str, ...]:
    """The scores a board shows, the one that ranks first."""
    if board.by_yardstick:
        return (YARDSTICK, "val/yardstick_tumor", "val/yardstick_stroma")
    return (board.metric, "val/dice" if board.metric != "val/dice" else "val/iou")


def board_table(board: Board, sweep: Sweep, links: Links | None, out: Path) -> Table:
    """Eight columns: rank, model, setting, score, difference to the leader, seeds, cost, flags."""
    shown = shown_scores(board)
    shared = (*shared_flags(board, sweep), *shared_notes(board))
    rows = [_board_row(row, board, sweep, shared, links, out) for row in board.rows[:MOST_ROWS]]
    if not board.by_yardstick:
        rows += [_reference_row(entry, shown) for entry in reference_rows(board, sweep)]
    title = "all label maps, by the yardstick" if board.by_yardstick else board.title
    return Table(
        caption=f"Leaderboard: {title} ({_scale(board)})",
        columns=("Rank", "Model", "Setting", score_head(board.metric), "Δ leader", "Seeds", "Cost", "Flags"),
        rows=tuple(rows),
        note=board_note(board, sweep, shared),
        head=1,
    )


def board_note(board: Board, sweep: Sweep, shared: Sequence[str]) -> str:
    """What the caption of a board must not leave out; `shared` are flags and notes of all rows."""
    said = []
    if shared:
        said.append(f"All rows: {listed(shared)}.")
    absent = () if board.by_yardstick else _absent(board)
    if absent:
        said.append(f"Without a true pixel, and so left out of the means: {listed(absent)}.")
    said += rows_left_out(len(board.rows))
    if any(row.trust.interval for row in board.rows):
        said.append("Small print: 95 % intervals over patients, of the difference paired by patient.")
    if any(row.trust.interval and row.trust.told_apart is None for row in board.rows):
        said.append(f"With fewer than {MIN_PATIENTS} patients nobody can be told from the leader.")
    if any(row.tied for row in board.rows):
        said.append("Rows with exactly equal scores share a rank.")
    if any(row.score is None for row in board.rows):
        said.append(f"Rows without this score (n/a) stand unranked{_refusals(board)}.")
    if any(row.replicated for row in board.rows):
        said.append("Rows with 3 or more fresh seeds rank first, by their mean; the search run is not averaged in.")
    if len(board.devices) > 1:
        mixed = ", ".join(f"{device} ({count})" for device, count in sorted(board.devices.items()))
        said.append(f"Mixed devices: {mixed}; the same spec gives slightly different weights on each.")
    if not board.by_yardstick and reference_rows(board, sweep):
        said.append(f"Reference rows are quoted, on a split that is not known: they are not ranked ({REFERENCE}).")
    if any(notes(row.trial) for row in board.rows):
        said.append(LEGEND)
    return " ".join(said)


def rows_left_out(count: int) -> list[str]:
    """That a table on the page ends before its rows do, and where they all are."""
    if count <= MOST_ROWS:
        return []
    return [f"The first {MOST_ROWS:,} of {count:,} rows; all of them are in leaderboard.csv."]


def shared_flags(board: Board, sweep: Sweep) -> tuple[str, ...]:
    """Flags of every row, said once below the board; how many seeds has a column of its own."""
    every = [flags(row, sweep) for row in board.rows]
    seeds = {seeds_flag(row) for row in board.rows}
    return tuple(
        flag for flag in every[0] if flag not in seeds and len(every) > 1 and all(flag in found for found in every)
    )


def _absent(board: Board) -> list[str]:
    """Classes without a pixel in the truth, the same for every row of a group."""
    return [name for name, pixels in board.rows[0].scored.support.items() if not pixels]


def no_yardstick_note(board: Board) -> str:
    """Why a board by the yardstick has no ranked row."""
    return f"No run can be ranked by the yardstick{_refusals(board)}."


def reference_rows(board: Board, sweep: Sweep) -> list[dict[str, object]]:
    """Quoted results for this board's label maps: `{"name", "labels", "scores": {"iou", "dice"}, "note"}`."""
    entries = [dict(entry) for entry in sweep.document.get("reference_rows") or () if isinstance(entry, dict)]
    return [entry for entry in entries if entry.get("labels") in board.label_maps]


@dataclass(frozen=True, slots=True)
class EndRow:
    """One line of the table a sweep ends with; plain text, in need of escaping where markup is read."""

    board: str
    rank: str
    model: str
    setting: str
    score: str
    behind: str
    yardstick: str
    flags: str


def end_table(sweep: Sweep, *, top: int = 3) -> list[EndRow]:
    """The best rows of every comparability group, best first: the first `top` ranks, ties not cut in the middle."""
    rows: list[EndRow] = []
    for board in group_boards(sweep):
        best = [row for row in board.ranked if row.rank is not None and row.rank <= top]
        rows += [_end_row(board, row, sweep) for row in best[:MOST_END_ROWS]]
        if len(best) > MOST_END_ROWS:
            rows.append(EndRow(board.title, "", f"{len(best) - MOST_END_ROWS} more tie", "", "", "", "", ""))
    return rows


def _end_row(board: Board, row: Row, sweep: Sweep) -> EndRow:
    return EndRow(
        board=board.title,
        rank=rank_text(row),
        model=model_of(row.trial),
        setting=setting_of(row.trial, sweep, labels=False),
        score=score_text(row.score),
        behind=difference_text(row.behind) if row.behind else "",
        yardstick=score_text(row.scores.get(YARDSTICK)),
        flags=", ".join(flags(row, sweep)),
    )


def rank_text(row: Row) -> str:
    """`2`, `2=` where others share the rank; n/a without one."""
    return ABSENT if row.rank is None else f"{row.rank}{'=' if row.tied else ''}"


def trial_name(trial: Trial) -> str:
    """`unicorn3/all #12`: numbers count within a stratum."""
    if trial.external:
        return "masks of another tool"
    name = f"#{trial.number}" if trial.stratum == "default" else f"{trial.stratum} #{trial.number}"
    return f"{name} (replicate)" if trial.replicate_of else name


def relative_url(path: Path, out: Path) -> str:
    """A link from the page in `out` to `path`, as a relative URL."""
    return quote(relative_path(path, out)) + ("/" if path.is_dir() else "")


def relative_path(path: Path, out: Path) -> str:
    """`path` as seen from the folder `out`, with forward slashes."""
    way = _way(path.parent, out, os.getcwd())  # noqa: PTH109  # as text: it is a key
    return path.name if way == "." else f"{way}/{path.name}"


@lru_cache(maxsize=64)  # a page has three links to each of 1,000 folders that lie side by side
def _way(folder: Path, out: Path, here: str) -> str:
    """From `out` to `folder`, both as seen from `here`."""
    return Path(os.path.relpath(Path(here, folder), Path(here, out))).as_posix()


def _board_row(
    row: Row, board: Board, sweep: Sweep, shared: Sequence[str], links: Links | None, out: Path
) -> tuple[Cell, ...]:
    trial = row.trial
    own = tuple(flag for flag in flags(row, sweep) if flag not in shared and flag != seeds_flag(row))
    run = links.run(trial) if links else None
    folder = relative_url(trial.folder, out)
    seconds, epochs = trial.seconds_trained, plural(len(trial.epochs), "epoch")
    return (
        number(row.rank, rank_text(row)),
        Cell(model_of(trial), note=trial_name(trial), href=run or folder, note_href=folder),
        Cell(setting_of(trial, sweep, labels=board.by_yardstick) or ABSENT),
        number(row.score, score_text(row.score), note=_beside_score(row, board)),
        number(row.behind, difference_text(row.behind) if row.rank != 1 else ABSENT, note=_gap_text(row)),
        _seeds_cell(row),
        number(None, ABSENT) if trial.external else number(seconds, duration_text(seconds), note=epochs),
        Cell("", tags=own, note=own_notes(trial, shared)),
    )


def _beside_score(row: Row, board: Board) -> str:
    """The small print under a score: its interval, its spread over seeds, and the scores that go with it."""
    known = row.trust.interval
    spread = [] if known is None else [interval_text(known.low, known.high)]
    spread += [] if row.seed_sd is None else [f"± {row.seed_sd:.3f} SD"]
    others = [f"{score_head(name)} {score_text(row.scores.get(name))}" for name in shown_scores(board)[1:]]
    return ", ".join([*spread, *others])


def _gap_text(row: Row) -> str | None:
    gap = row.trust.gap
    return None if gap is None or row.rank == 1 else interval_text(gap.low, gap.high, signed=True)


def _seeds_cell(row: Row) -> Cell:
    if row.trial.external:
        return number(None, ABSENT)
    seeds = len(row.replicates) if row.replicated else 1
    return number(seeds, str(seeds))


def _reference_row(entry: dict[str, object], shown: Sequence[str]) -> tuple[Cell, ...]:
    given = entry.get("scores")
    found = given if isinstance(given, dict) else {}
    first, *rest = (found.get(name.removeprefix("val/")) for name in shown)
    beside = [f"{score_head(name)} {score_text(v)}" for name, v in zip(shown[1:], rest, strict=True) if v is not None]
    score = number(first, score_text(first), note=", ".join(beside) or None) if isinstance(first, float) else None
    note = str(entry.get("note") or "split unknown")
    unknown = number(None, ABSENT)
    name = Cell(str(entry.get("name", "reference")), note="reference, quoted")
    # The note may be long: it wraps.
    return (unknown, name, Cell(ABSENT), score or unknown, unknown, unknown, unknown, Cell("", note=note))


def _refusals(board: Board) -> str:
    """`: <label map>: <reason>; ...` for the rows whose label map cannot have a yardstick."""
    if not board.by_yardstick:
        return ""
    schemes = [row.scored.scheme for row in board.rows if row.score is None]
    reasons = {scheme.labels.name: yardstick_refusal(scheme) or "no tumor or no stroma" for scheme in schemes}
    return ": " + "; ".join(f"{name}: {reason}" for name, reason in sorted(reasons.items()))


def score_head(metric: str) -> str:
    """A score's name as a column's head: the yardstick's parts stand beside it, and need not repeat its name."""
    heads = {
        YARDSTICK: "Yardstick",
        "val/yardstick_tumor": "tumor",
        "val/yardstick_stroma": "stroma",
    }
    return heads.get(metric, metric_text(metric))


def _scale(board: Board) -> str:
    scored = board.rows[0].scored
    return f"{plural(scored.regions, 'ROI')} of {plural(len(scored.patients), 'patient')}"
