"""The report: one page that opens alone, the leaderboard as files, and figures beside it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.files import safe_name, write_json, write_text
from harness.report import details, exports, figures, tables
from harness.report.advice import advice
from harness.report.answer import answer, caution_line, cost_line, status_line
from harness.report.boards import Board, group_boards, yardstick_boards
from harness.report.claims import findings
from harness.report.finalists import finalists
from harness.report.held_out import held_out
from harness.report.latex import leaderboard_tex, pivot_tex
from harness.report.matters import effects_of
from harness.report.pictures import Picture, sweep_pictures, trial_pictures
from harness.report.pivot import pivot_table, pivots_of
from harness.report.queries import Sweep, Trial
from harness.report.render import Beside, render_page
from harness.report.rungs import rungs_table
from harness.report.source import reproduced, source_document, source_table
from harness.report.tables import Links, Table, model_of, trial_name
from harness.report.takeaways import takeaways
from harness.report.wording import metric_text

# Curves that stand out in a figure; more would need more colours than stay apart.
NAMED_CURVES = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Everything the page says about one comparability group."""

    board: Board
    table: Table
    curves: Markup
    curves_note: str  # what is not drawn
    per_class: Table | None = None
    per_centre: Table | None = None
    confusion: Table | None = None
    best: str = ""
    pictures: tuple[Picture, ...] = ()
    not_drawn: tuple[str, ...] = ()  # why a picture of the best run is missing


def write_report(sweep: Sweep, out: Path, *, links: Links | None = None) -> Path:
    """Write `<out>/<sweep>/`: index.html, leaderboard.{csv,md,tex,json}, pivot.{csv,tex}, figures/. Returns the page.

    Works on finished and running sweeps alike; every file is replaced in one step, the page last. None is forced to
    disk: after a loss of power the same command writes them again.
    """
    folder = out / safe_name(sweep.name)
    folder.mkdir(parents=True, exist_ok=True)
    beside = Beside()
    html = render(sweep, folder, beside, links)
    beside.write(folder)
    items = reproduced(sweep, folder, beside.files)
    if items:
        write_json(folder / "source.json", source_document(items), settle=False)
    pivots = pivots_of(sweep)
    document = exports.leaderboard(sweep, folder)
    boards = (*yardstick_boards(sweep), *group_boards(sweep))
    texts = {
        "leaderboard.json": exports.leaderboard_json(document),
        "leaderboard.csv": exports.leaderboard_csv(document),
        "leaderboard.md": exports.leaderboard_markdown(sweep),
        "leaderboard.tex": leaderboard_tex(sweep, boards),
        "pivot.csv": exports.pivot_csv(pivots),
        "pivot.tex": pivot_tex(pivots),
        "index.html": html,
    }
    for name, text in texts.items():
        write_text(folder / name, text, settle=False)
    return folder / "index.html"


def render(sweep: Sweep, folder: Path, beside: Beside, links: Links | None) -> str:
    """The page's HTML, to be placed in `folder`; fills `beside`."""
    groups, yardstick = group_boards(sweep), yardstick_boards(sweep)
    shown_yardstick = [board for board in yardstick if board.leader is not None]
    mattering = effects_of(sweep, groups, shown_yardstick, beside)
    shown_groups = [_group(board, sweep, links, folder, beside) for board in groups]
    pictures = sweep_pictures(sweep.folder)
    beside.copied.extend(pictures)
    return render_page(
        "report.html.j2",
        {
            "sweep": sweep,
            "claims": findings(sweep),
            "held_out": held_out(sweep, groups),
            "answer": answer(sweep, yardstick, groups),
            "why": mattering[0].sentences[0] if mattering else "",
            "cost": cost_line(sweep, [*shown_yardstick, *groups]),
            "advice": advice(sweep, groups),
            "status": status_line(sweep),
            "caution": caution_line(sweep),
            "overview": beside.draw("scores.svg", _overview(sweep, groups, shown_yardstick)),
            "overview_note": figures.left_out(sum(len(board.ranked) for board in [*shown_yardstick, *groups][:1])),
            "unmeasured": [tables.no_yardstick_note(board) for board in yardstick if board.leader is None],
            "yardstick": [(board, tables.board_table(board, sweep, links, folder)) for board in shown_yardstick],
            "pivots": [pivot_table(found) for found in pivots_of(sweep)],
            "groups": shown_groups,
            "finalists": finalists(sweep, groups, beside),
            "source": source_table(reproduced(sweep, folder, beside.files)),
            "effects": mattering[:1],
            "more_effects": mattering[1:],
            "takeaways": takeaways(sweep, groups, shown_yardstick),
            "pictures": pictures,
            "strata": details.strata_table(sweep),
            "rungs": rungs_table(sweep),
            "models": details.models_table(sweep),
            "unranked": details.unranked_table(sweep),
            "paper": details.paper_table(sweep),
            "every": details.trials_table(sweep, links, folder),
            "facts": _facts(sweep),
            "provenance": _provenance(sweep),
            "patients": _patients(sweep),
            "checkout": str(sweep.document.get("revision") or "").removesuffix("+changes"),
            "command": shlex.join(str(part) for part in sweep.document.get("command") or ()),
            "yaml": str(sweep.document.get("yaml") or ""),
        },
    )


def _group(board: Board, sweep: Sweep, links: Links | None, folder: Path, beside: Beside) -> Group:
    table = tables.board_table(board, sweep, links, folder)
    drawn, left_out = _curves(board, sweep)
    curves = beside.draw(f"curves-{board.key}.svg", drawn)
    best = board.leader
    if best is None:
        return Group(board, table, curves, left_out)
    pictures = trial_pictures(best.trial.folder, board.key)
    beside.copied.extend(pictures)
    return Group(
        board=board,
        table=table,
        curves=curves,
        curves_note=left_out,
        per_class=details.per_class_table(board, best),
        per_centre=details.per_centre_table(board, best),
        confusion=details.confusion_table(board, best),
        best=f"{model_of(best.trial)} ({trial_name(best.trial)})",
        pictures=pictures,
        not_drawn=tuple(str(note) for note in (best.trial.result or {}).get("figure_notes") or ()),
    )


def _curves(board: Board, sweep: Sweep) -> tuple[str, str]:
    """Learning curves of every run with this label map, finished or not, and what is not drawn.

    The first rows stand out.
    """
    named = {row.trial.uid: place for place, row in enumerate(board.ranked[:NAMED_CURVES], start=1)}
    keys = board.label_keys
    inside = {row.trial.uid for row in board.rows}
    lines: list[figures.Line] = []
    of_board = []
    for trial in sweep.trials:
        if trial.uid not in inside and (trial.scored is not None or trial.labels_key not in keys):
            continue
        of_board.append(trial)
    # The named ones first: they are drawn whatever else is.
    of_board.sort(key=lambda trial: trial.uid not in named)
    for trial in figures.evenly(of_board):
        points = tuple((float(e.number), e.values[sweep.metric]) for e in trial.epochs if sweep.metric in e.values)
        label = f"{trial_name(trial)} {model_of(trial)}"
        place = named.get(trial.uid, 0)
        name = f"{place}. {_architecture(trial)}"
        lines.append(figures.Line(label, points, place, name, trial.state in ("pruned", "failed")))
    title = f"Learning curves of {board.title}: {metric_text(sweep.metric)} on validation against epoch"
    return figures.curves(lines, title=title, y_label=metric_text(sweep.metric)), figures.left_out(len(of_board))


def _overview(sweep: Sweep, groups: Sequence[Board], yardstick: Sequence[Board]) -> str:
    """Every completed run's yardstick (its objective where there is none), by stratum and architecture."""
    boards = yardstick[:1] or groups[:1]
    if not boards or len(boards[0].ranked) < 2:
        return ""
    names = sorted({_architecture(row.trial) for row in boards[0].ranked})
    legend = {name: index % figures.SERIES + 1 for index, name in enumerate(names[: figures.SERIES])}
    rows: dict[str, list[figures.Dot]] = {}
    for row in figures.evenly(boards[0].ranked):
        assert row.score is not None
        label = f"{trial_name(row.trial)} {model_of(row.trial)}: {row.score:.3f}"
        series = legend.get(_architecture(row.trial), figures.SERIES)
        where = "other tools" if row.trial.external else row.trial.stratum
        rows.setdefault(where, []).append(figures.Dot(row.score, series, label, row.rank == 1))
    metric = metric_text(boards[0].metric)
    return figures.strips(dict(sorted(rows.items())), legend, title=f"{metric} of every completed run", x_label=metric)


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    data = sweep.data
    pairs = [
        ("ROIs", _count(data.get("rois"))),
        ("Patients", _count(data.get("patients"))),
        ("Centres", ", ".join(f"{name} ({_count(n)})" for name, n in _mapping(data.get("centres")).items())),
        ("Data hash", str(data.get("hash") or "")),
        ("Remarks", "; ".join(str(flag) for flag in data.get("flags") or ())),
    ]
    labels = _mapping(sweep.space.get("labels"))
    for name, body in labels.items():
        classes = _mapping(body).get("classes", body)
        text = "; ".join(f"{key} = {', '.join(map(str, ids))}" for key, ids in _mapping(classes).items() if ids)
        pairs.append((f"Label map {name}", text))
    return [(name, text) for name, text in pairs if text]


def _patients(sweep: Sweep) -> list[tuple[str, tuple[str, ...]]]:
    split = _mapping(sweep.data.get("split"))
    return [(role, tuple(str(p) for p in split[role])) for role in ("train", "validation", "test") if split.get(role)]


def _provenance(sweep: Sweep) -> list[tuple[str, str]]:
    document = sweep.document
    versions = {json.dumps(t.environment.get("versions"), sort_keys=True) for t in sweep.complete} - {"null"}
    known = [", ".join(f"{k} {v}" for k, v in sorted(_mapping(json.loads(text)).items())) for text in sorted(versions)]
    devices = sorted({trial.device for trial in sweep.complete if trial.device})
    pairs = [
        ("Sweep", f"{sweep.name}, generation {sweep.generation}"),
        ("Revision", str(document.get("revision") or "not a checkout")),
        ("Harness", str(document.get("harness_version") or "")),
        ("Constraints (sha256)", str(document.get("constraints_sha256") or "")),
        ("Data hash", str(sweep.data.get("hash") or "")),
        ("Sweep seed", str(sweep.space.get("seed", ""))),
        ("Devices", ", ".join(devices)),
        *(("Versions", text) for text in known),
    ]
    return [(name, text) for name, text in pairs if text]


def _architecture(trial: Trial) -> str:
    return trial.external or str(trial.value("architecture") or "model")


def _count(value: Any) -> str:
    if value is None:
        return ""
    return str(len(value)) if isinstance(value, list | dict | tuple) else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
