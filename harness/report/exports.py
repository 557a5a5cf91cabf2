"""The leaderboard as files: JSON and CSV have a row per trial, Markdown (and latex.py) a table per board."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.report.boards import Board, Row, flags, group_boards, yardstick_boards
from harness.report.claims import claims_document
from harness.report.held_out import held_out
from harness.report.notes import notes
from harness.report.pivot import Pivot, pivot_rows
from harness.report.queries import Sweep
from harness.report.tables import model_of, relative_path, score_head, setting_of, shown_scores, trial_name
from harness.report.trust import intervals_of
from harness.report.wording import ABSENT, difference_text, metric_text, score_text

SCHEMA = "harness.leaderboard/1"
# A spreadsheet takes text that starts like this for a formula; some take the full-width forms of = + - @ too.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
# What Markdown does not show as it is. Most cells are numbers, and have none of it.
_CONTROL, _MARKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+"), re.compile(r"[\\`*_{}\[\]<>()#|~!&$]")
_MARKED = re.compile(f"{_CONTROL.pattern}|{_MARKS.pattern}")


def leaderboard(sweep: Sweep, out: Path) -> dict[str, Any]:
    """`leaderboard.json`: one row per trial, replicates, pruned and failed ones too (their rank is null).

    `folder` is relative to `out`, the report's folder, so that both can be moved together.
    """
    placed = {row.trial.uid: (board, row) for board in group_boards(sweep) for row in board.rows}
    groups = {trial.uid: board.key for board in group_boards(sweep) for row in board.rows
              for trial in (row.trial, *row.replicates)}  # fmt: skip
    rows = []
    trials = (*sweep.trials, *sweep.external)
    intervals = iter(intervals_of([trial.scored for trial in trials if trial.scored]))
    for trial in trials:
        own = placed.get(trial.uid)
        scores = trial.scored.scores if trial.scored else {}
        rows.append(
            {
                "group": groups.get(trial.uid),
                "rank": own[1].rank if own else None,
                "trial": trial.uid,
                "replicate_of": trial.replicate_of,
                "external": trial.external,
                "adopted_from": trial.adopted_from,
                "stratum": trial.stratum,
                "seed": trial.seed,
                "parameters": dict(trial.parameters),
                "scores": {name.removeprefix("val/"): value for name, value in scores.items()},
                "intervals": next(intervals) if trial.scored else None,
                "trust": asdict(own[1].trust) if own else None,
                "support": dict(trial.scored.support) if trial.scored else None,
                "state": trial.state,
                "flags": list(flags(own[1], sweep)) if own else [trial.cause] if trial.cause else [],
                "notes": list(notes(trial)),
                "lr_cuts": (trial.result or {}).get("lr_cuts"),
                "folder": relative_path(trial.folder, out),
                "run_id": trial.run_id,
            }
        )
    tested = [asdict(one) for one in held_out(sweep, group_boards(sweep))]
    document = {"schema": SCHEMA, "name": sweep.name, "generation": sweep.generation, "rows": rows}
    return {**document, "claims": claims_document(sweep), "test": tested}


def leaderboard_json(document: Mapping[str, Any]) -> str:
    """Strict JSON with a line per trial: Python's encoder is five times as fast as with an indent."""
    lines = ",\n  ".join(json.dumps(row, allow_nan=False) for row in document["rows"])
    rest = {key: value for key, value in document.items() if key != "rows"}
    head = json.dumps(rest, indent=1, allow_nan=False).removesuffix("\n}")
    return f'{head},\n "rows": [\n  {lines}\n ]\n}}\n'


def leaderboard_csv(document: Mapping[str, Any]) -> str:
    """The rows of `leaderboard`, with a column for each parameter and each score; n/a is empty."""
    rows = document["rows"]
    parameters = dict.fromkeys(key for row in rows for key in row["parameters"])
    scores = dict.fromkeys(key for row in rows for key in row["scores"])
    plain = ("group", "rank", "trial", "replicate_of", "stratum", "seed", "state")
    last = ("folder", "run_id")
    stream = io.StringIO()
    writer = csv.writer(stream)  # RFC 4180 line ends; with "\n" alone a lone "\r" in a name would go unquoted
    named = (*(f"parameters.{key}" for key in parameters), *(f"scores.{key}" for key in scores))
    heads = [*plain, *named, "flags", *last]
    writer.writerow([_safe(head) for head in heads])
    for row in rows:
        cells = [
            *(row[key] for key in plain),
            *map(row["parameters"].get, parameters),
            *map(row["scores"].get, scores),
            "; ".join(row["flags"]),
            *(row[key] for key in last),
        ]
        # csv writes None as nothing; a quarter of the time is saved where most cells are numbers.
        writer.writerow([_safe(cell) if isinstance(cell, str) else cell for cell in cells])
    return stream.getvalue()


def pivot_csv(pivots: Sequence[Pivot]) -> str:
    """The rows of `pivot_rows`."""
    rows = [row for found in pivots for row in pivot_rows(found)]
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["model", "labels", "patches", "metric", "score", "low", "high", "n", "seeds"])
    writer.writerows([_safe(value) for value in row.values()] for row in rows)
    return stream.getvalue()


def leaderboard_markdown(sweep: Sweep) -> str:
    """One table per board."""
    parts = [f"# {_markdown(sweep.name)}, generation {sweep.generation}\n"]
    for board in (*yardstick_boards(sweep), *group_boards(sweep)):
        heads, rows = plain_board(board, sweep)
        lines = [f"## {_markdown(board_title(board))}\n", _pipes(heads), _pipes(["---"] * len(heads))]
        lines += [_pipes([_markdown(cell) for cell in row]) for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line, in a table cell or a heading."""
    if not _MARKED.search(text):
        return text
    return _MARKS.sub(r"\\\g<0>", _CONTROL.sub(" ", text))


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def board_title(board: Board) -> str:
    """The board and what it ranks by."""
    return f"{board.title}, by {metric_text(board.metric)}"


def plain_board(board: Board, sweep: Sweep, *, most: int | None = None) -> tuple[list[str], list[list[str]]]:
    """A board's heads and rows (the first `most` of them) as plain text, for Markdown and LaTeX."""
    shown = shown_scores(board)
    heads = ["Rank", "Model", "Run", "Setting", score_head(shown[0]), "95 %", *map(score_head, shown[1:]), "Δ", "Seeds"]
    rows = [
        [
            ABSENT if row.rank is None else str(row.rank),
            model_of(row.trial),
            trial_name(row.trial),
            setting_of(row.trial, sweep, labels=board.by_yardstick) or ABSENT,
            score_text(row.scores.get(shown[0])),
            _interval(row),
            *(score_text(row.scores.get(name)) for name in shown[1:]),
            difference_text(row.behind) if row.behind else ABSENT,
            ABSENT if row.trial.external else str(len(row.replicates)) if row.replicated else "1",
        ]
        for row in board.rows[:most]
    ]
    return heads, rows


def _interval(row: Row) -> str:
    found = row.trust.interval
    return ABSENT if found is None else f"{found.low:.3f}{ABSENT}{found.high:.3f}"


def _safe(cell: object) -> object:
    if cell is None:
        return ""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
