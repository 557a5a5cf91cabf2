"""The result in sentences: what won, by how much, and what the reader must not forget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.config.space import PHANTOM
from harness.report.boards import FEW_PATIENTS, Board, Row
from harness.report.queries import STATES, Sweep, Trial
from harness.report.tables import model_of, setting_of, trial_name
from harness.report.trust import selection_of
from harness.report.wording import duration_text, interval_text, listed, metric_text, million_text, plural, score_text


def answer(sweep: Sweep, yardstick: Sequence[Board], groups: Sequence[Board]) -> tuple[str, ...]:
    """At most three sentences."""
    if not sweep.complete:
        return (_nothing(sweep),)
    across = len(yardstick) == 1 and len(groups) > 1 and yardstick[0].leader is not None
    boards = [*(yardstick if across else ()), *groups]
    first = _winner(boards[0], sweep, across=across)
    sentences = [f"{first[0].upper()}{first[1:]}."]
    if boards[1:]:
        told = boards[0].leader.trial.uid if across and boards[0].leader else None
        clauses = "; ".join(_winner(board, sweep, across=False, told=told) for board in boards[1:5])
        sentences.append(f"{clauses[0].upper()}{clauses[1:]}.")
    return (*sentences, *_qualifier(sweep, groups))


def cost_line(sweep: Sweep, boards: Sequence[Board]) -> str:
    """What this generation cost, and what the first board's leader did; empty when nothing was trained.

    Runs kept from an earlier generation are counted apart: they were paid for there.
    """
    own = [trial for trial in sweep.trials if trial.adopted_from is None]
    epochs = sum(trial.epochs_trained for trial in own)
    kept = len(sweep.trials) - len(own)
    if not epochs:
        return ""
    seconds = sum(trial.seconds_trained for trial in own)
    devices = sorted({trial.device for trial in sweep.complete if trial.device})
    where = f" on {listed(devices)}" if devices else ""
    total = (
        f"{plural(len(own), 'run')}, {plural(epochs, 'epoch')}, {duration_text(seconds)} of training{where}"
        f"{f' ({kept} more kept from an earlier generation)' if kept else ''}"
    )
    leader = next((board.leader for board in boards if board.leader and board.leader.trial.external is None), None)
    if leader is None:
        return f"{total}."
    size = leader.trial.started.get("parameters")
    network = f", {million_text(float(size))} parameters" if size else ""
    return f"{total}; {trial_name(leader.trial)} took {duration_text(leader.trial.seconds_trained)}{network}."


def status_line(sweep: Sweep) -> str | None:
    """How far an unfinished sweep is; None for a finished one."""
    if not sweep.unfinished:
        return None
    counts = Counter(trial.state for trial in sweep.trials)
    parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
    return f"The sweep is not finished: {', '.join(parts)}. This page shows what was on disk by then."


def caution_line(sweep: Sweep) -> str | None:
    """What the numbers of a sweep on synthetic tissue, or of a shrunk one, are good for; None for any other."""
    data = sweep.space.get("data") or {}
    synthetic = data.get("root") == PHANTOM
    smoke = "--smoke" in (sweep.document.get("command") or ())
    if smoke:
        tissue = "synthetic tissue" if synthetic else "a few regions"
        return f"A smoke run: every part of the sweep once, shrunk, on {tissue}. Its numbers mean nothing."
    return "Synthetic tissue: the numbers speak of the phantom and not of histology." if synthetic else None


def _winner(board: Board, sweep: Sweep, *, across: bool, told: str | None = None) -> str:
    """A clause; `told` is the leader of the sentence before, named only once."""
    ranked = board.ranked
    name = metric_text(board.metric)
    where = "on the yardstick, over all label maps" if across else f"for {board.title}"
    if not ranked:
        return f"{where}, no run has the score {name}"
    first = [row for row in ranked if row.rank == 1]
    score = score_text(ranked[0].score)
    if len(first) > 1:
        names = listed([_name(row, sweep, across) for row in first[:4]])
        return f"{where}, {len(first)} runs tie at {name} {score}: {names}{' and others' if first[4:] else ''}"
    leader = "the same run" if first[0].trial.uid == told else _name(first[0], sweep, across)
    known = first[0].trust.interval
    interval = "" if known is None else f" (95 % interval {interval_text(known.low, known.high)})"
    said = f"{where}, {leader} leads with {name} {score}{interval}"
    rest = ranked[1:]
    if not rest:
        return f"{said} (no other completed run to compare it with)"
    second = rest[0]
    assert second.behind is not None
    short = trial_name(second.trial) if second.trial.external is None else second.trial.external
    next_best = _name(second, sweep, across) if told is None else short
    gap = score_text(abs(second.behind)) if abs(second.behind) >= 0.0005 else "less than 0.001"
    # A mean over fresh seeds ranks before a single run, whichever number is larger.
    before = second.replicated != first[0].replicated and (second.behind > 0) != sweep.minimize
    return f"{said}, {gap} {'below the single run' if before else 'ahead of'} {next_best}{_equals(rest)}"


def _equals(rest: Sequence[Row]) -> str:
    """How many others cannot be told from the leader; empty where too few patients allow no verdict."""
    judged = [row for row in rest if row.trust.told_apart is not None]
    same = [row for row in judged if not row.trust.told_apart]
    if not judged:
        return ""
    if not same:
        return "; all others can be told from it"
    if len(rest) == 1:
        return ", which cannot be told from it"
    return f"; {len(same)} of {len(rest)} others cannot be told from it"


def _name(row: Row, sweep: Sweep, across: bool) -> str:
    setting = setting_of(row.trial, sweep, labels=across)
    return f"{model_of(row.trial)} ({trial_name(row.trial)}{f': {setting}' if setting else ''})"


def _qualifier(sweep: Sweep, groups: Sequence[Board]) -> tuple[str, ...]:
    """What the numbers stand on; nothing where no run has a number."""
    leaders = [board.leader for board in groups if board.leader]
    if not leaders:
        return ()
    patients = min(len(board.rows[0].scored.patients) for board in groups)
    replicated = all(row.replicated for row in leaders)
    shrunk = [text for board in groups if (text := _without_luck(board)) is not None]
    seeds = "each leader is a mean over fresh seeds" if replicated else "one seed a run"
    few = f", which is few (below {FEW_PATIENTS})" if patients < FEW_PATIENTS else ""
    runs = sum(trial.replicate_of is None for trial in sweep.complete)
    picked = f", the best of {runs} completed runs picked on the same patients" if runs > 1 else ""
    luck = f"; without the luck of the pick {listed(shrunk)} would be expected" if shrunk else ""
    known = all(row.trust.interval for row in leaders)
    silent = "" if known else ", and no interval, which needs every class in two patients"
    return (f"Read with care: {seeds}, {plural(patients, 'validation patient')}{few}{picked}{luck}{silent}.",)


def _without_luck(board: Board) -> str | None:
    """`IoU 0.583 on unicorn3`: the winner's score on patients that it was not picked on."""
    trained = [row for row in board.ranked if row.trial.external is None]
    if len(trained) < 2 or any(row.replicated for row in trained):
        return None
    found = selection_of([row.trial for row in trained], board.metric, minimize=board.minimize)
    return None if found is None else f"{metric_text(board.metric)} {score_text(found.corrected)} on {board.title}"


def _nothing(sweep: Sweep) -> str:
    if not sweep.trials:
        return "No trial has started yet."
    counts = Counter(trial.state for trial in sweep.trials)
    parts = listed([f"{counts[state]} {state}" for state in STATES if counts[state]])
    causes = Counter(_cause(trial) for trial in sweep.trials if trial.state == "failed")
    named = listed([f"{cause} ({number})" for cause, number in causes.most_common()])
    why = f" Failures: {named}." if causes else ""
    yet = "yet " if sweep.unfinished else ""
    return f"No trial has completed {yet}({parts}), so nothing can be ranked.{why}"


def _cause(trial: Trial) -> str:
    return (trial.cause or "unknown").replace("_", " ")
