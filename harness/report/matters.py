"""The section on what matters: on every board the factors, their importance, all runs at a glance, and the price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.boards import Board
from harness.report.domains import Domain, domains
from harness.report.effects import effect_sentences, effects_figure, effects_table, main_effects
from harness.report.importance import MIN_RUNS, RESAMPLES, SEED, Importance, importance_figure, importances
from harness.report.parallel import BOLD, Track, parallel_figure, picked
from harness.report.queries import Sweep, Trial
from harness.report.render import Beside
from harness.report.statistics import Design, design
from harness.report.tables import Table, model_of, setting_of, trial_name
from harness.report.takeaways import factors_of, runs_of
from harness.report.tradeoff import front_table, fronts, missing_note, points, tradeoff_figure
from harness.report.wording import factor_text, listed, metric_text, plural, score_text, value_text


@dataclass(frozen=True, slots=True)
class Effects:
    """What matters on one board; empty figures are left out."""

    board: Board
    sentences: tuple[str, ...]
    table: Table
    figure: Markup
    importance: Markup
    importance_note: str  # what the figure says, or why there is none
    parallel: Markup
    parallel_note: str
    tradeoff: Markup
    tradeoff_note: str
    front: Table


def effects_of(
    sweep: Sweep, groups: Sequence[Board], yardstick: Sequence[Board], beside: Beside
) -> tuple[Effects, ...]:
    """The widest board first: by the yardstick over label maps where there are several, then every group."""
    across = [board for board in yardstick if len(board.label_maps) > 1]
    found = (_board_effects(board, sweep, beside) for board in (*across, *groups))
    return tuple(effects for effects in found if effects is not None)


def _board_effects(board: Board, sweep: Sweep, beside: Beside) -> Effects | None:
    runs = runs_of(board)
    space = domains(sweep, factors_of(sweep, board), [trial for trial, _ in runs])
    order = {name: [value_text(choice) for choice in domain.choices] for name, domain in space.items()}
    varied = design([(trial.parameters, score) for trial, score in runs], tuple(space), order)
    if not varied.levels:
        return None
    minimize = sweep.minimize and not board.by_yardstick
    metric, what = metric_text(board.metric), board.title
    found = main_effects(varied, minimize=minimize)
    svg = effects_figure(
        found,
        title=f"Differences in {metric} between levels, {what}",
        x_label=f"gain in {metric}",
    )
    weighed = importances([trial.parameters for trial, _ in runs], [s if minimize else -s for _, s in runs], space)
    bars = importance_figure(weighed, title=f"Importance of each parameter for {metric}, {what}")
    lines, lines_note = _parallel(board, sweep, runs, space, varied, minimize)
    priced = points(board)
    cheapest = fronts(priced, minimize=minimize)
    panels = tradeoff_figure(priced, cheapest, metric=board.metric, title=f"{metric} against cost, {what}")
    return Effects(
        board=board,
        sentences=(*effect_sentences(found, board.metric), *_lone(sweep, board, varied, runs), *_lost(board, sweep)),
        table=effects_table(found, what, board.metric),
        figure=beside.draw(f"effects-{board.key}.svg", svg),
        importance=beside.draw(f"importance-{board.key}.svg", bars),
        importance_note=_importance_note(weighed, len(runs), board, sweep),
        parallel=beside.draw(f"parallel-{board.key}.svg", lines),
        parallel_note=lines_note,
        tradeoff=beside.draw(f"tradeoff-{board.key}.svg", panels),
        tradeoff_note=missing_note(priced),
        front=front_table(cheapest, board, sweep),
    )


def left_out(board: Board, sweep: Sweep) -> tuple[int, int]:
    """Pruned and failed runs of the board's label maps; they have no score, and count nowhere here."""
    # A trial without a readable spec has no label map to tell.
    keys = {None, *board.label_keys}
    lost = Counter(trial.state for trial in sweep.trials if trial.labels_key in keys and trial.replicate_of is None)
    return lost["pruned"], lost["failed"]


def _lost(board: Board, sweep: Sweep) -> tuple[str, ...]:
    pruned, failed = left_out(board, sweep)
    if not pruned and not failed:
        return ()
    said = f"{pruned} pruned and {failed} failed runs are left out"
    return (f"{said}: a level that was pruned often looks better here than it is." if pruned else f"{said}.",)


def _importance_note(found: Sequence[Importance], runs: int, board: Board, sweep: Sweep) -> str:
    pruned, failed = left_out(board, sweep)
    lost = f"{pruned} pruned and {failed} failed runs"
    if runs < MIN_RUNS:
        return (
            f"No parameter importance: {plural(runs, 'completed run')}; below {MIN_RUNS} the parameter that matters "
            f"comes first too seldom. Left out: {lost}."
        )
    if not found:
        return f"No parameter importance: among {runs} runs nothing tells the best quarter from the rest."
    partly = [f"{factor_text(one.name)} ({one.active})" for one in found if one.active < runs]
    note = (
        f"PED-ANOVA over {runs} completed search runs: how far the values of the best quarter differ from those of "
        f"all, in shares of 100 %. Lines: the middle 95 % of {RESAMPLES} bootstraps over runs (seed {SEED}). "
        f"What nearly all runs share cannot stand out, however bad the rest. Left out: {lost}"
    )
    return f"{note}. Set in some runs only: {listed(partly)}." if partly else f"{note}."


def _parallel(
    board: Board, sweep: Sweep, runs: Sequence[tuple[Trial, float]], space: dict[str, Domain], varied: Design,
    minimize: bool,
) -> tuple[str, str]:  # fmt: skip
    metric = metric_text(board.metric)
    axes = [domain for name, domain in space.items() if name in varied.levels]
    ordered = sorted(runs, key=lambda run: run[1] if minimize else -run[1])
    tracks = [
        Track(tuple(trial.parameters.get(axis.name) for axis in axes), score, _hover(trial, score, board, sweep))
        for trial, score in ordered
    ]
    svg = parallel_figure(tracks, axes, score_name=metric, title=f"Parameters and {metric} of every run, {board.title}")
    drawn = len(picked(tracks))
    note = (
        f"One line a completed search run, {board.title}, from pale (the worst fifth of the drawn) to strong (the best "
        f"fifth); bold: the best {min(BOLD, drawn)}."
    )
    if drawn < len(tracks):
        note += f" {drawn} of {len(tracks)} are drawn: the best, and an even choice of the others."
    return svg, note


def _hover(trial: Trial, score: float, board: Board, sweep: Sweep) -> str:
    setting = setting_of(trial, sweep, labels=board.by_yardstick)
    return f"{trial_name(trial)} {model_of(trial)} {setting}: {score_text(score)}"


def _lone(sweep: Sweep, board: Board, varied: Design, runs: Sequence[tuple[Trial, float]]) -> tuple[str, ...]:
    """What is said of parameters that have one value where they are active, so that they are no factors here."""
    lone = []
    for name in factors_of(sweep, board):
        values = [trial.parameters.get(name) for trial, _ in runs]
        if name not in varied.levels and None in values and any(value is not None for value in values):
            lone.append(factor_text(name))
    if not lone:
        return ()
    names = listed(lone)
    return (f"One value wherever active, so part of what switches them on: {names}.",)
