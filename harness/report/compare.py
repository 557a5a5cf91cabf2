"""Trials side by side: what differs in settings, scores, confusions, patients and cost. Computed here, drawn elsewhere.

The first trial, A, is what the others are compared with: a difference is B minus A. Within one comparability group
everything may be compared; otherwise only settings, and the yardstick where the validation pixels are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.errors import BadInput
from harness.report.boards import YARDSTICK
from harness.report.moves import Move, moves
from harness.report.queries import Trial, Value, canonical
from harness.report.scored import Scored
from harness.report.sides import Side
from harness.report.tables import model_of
from harness.report.wording import metric_text
from harness.scores import RoiMatrices, score_rois

SAME_BELOW = 0.0005  # nobody is better by less than what three digits show


@dataclass(frozen=True, slots=True)
class Setting:
    """One name whose values differ: a value for each trial."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs, and how many names have equal values."""

    different: tuple[Setting, ...]
    equal: int
    unknown: tuple[str, ...] = ()  # letters of trials whose settings nobody here knows


@dataclass(frozen=True, slots=True)
class ScoreLine:
    """One score of every trial, its difference to A's, and the letter of the best (None: none or no difference)."""

    name: str
    text: str
    values: tuple[float | None, ...]
    differences: tuple[float | None, ...]  # of B, C, ...
    better: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a comparison says; without the parts that its trials may not be compared in."""

    sides: tuple[Side, ...]
    refusal: str | None  # why only settings, or settings and yardstick, are here
    metric: str  # of A's sweep
    minimize: bool
    parameters: Settings
    environment: Settings
    cost: tuple[Setting, ...]
    scores: tuple[ScoreLine, ...]
    moved: Mapping[str, tuple[Move, ...]]  # letter -> which confusions moved from A to it, largest first
    patients: tuple[ScoreLine, ...]  # the objective of every validation patient

    @property
    def comparable(self) -> bool:
        """Whether all trials lie in one comparability group."""
        return self.refusal is None

    @property
    def objective(self) -> ScoreLine | None:
        """The first score: the objective, or across groups the yardstick."""
        return self.scores[0] if self.scores else None


def compare(sides: Sequence[Side]) -> Comparison:
    """Compare trials with the first of them. BadInput when a comparison would have no trial."""
    if len(sides) < 2:
        raise BadInput("a comparison needs two trials")
    sweep = sides[0].sweep
    refusal = refusal_of(sides)
    metric, minimize = sweep.metric, sweep.minimize
    lines = _score_lines(sides, metric, minimize) if refusal is None else _yardstick_lines(sides)
    first, *others = sides
    return Comparison(
        sides=tuple(sides),
        refusal=refusal,
        metric=metric,
        minimize=minimize,
        parameters=_settings(sides, [_parameters(side) for side in sides]),
        environment=_settings(sides, [None if refusal else _environment(side) for side in sides]),
        cost=() if refusal else _cost(sides),
        scores=lines,
        moved={} if refusal else {side.letter: moves(scored_of(first), scored_of(side)) for side in others},
        patients=() if refusal else _patients(sides, metric, minimize),
    )


def refusal_of(sides: Sequence[Side]) -> str | None:
    """Why scores may not be compared, in one line that says what may; None within one comparability group."""
    without = [f"{side.letter} has no scores ({_state(side)})" for side in sides if side.trial.scored is None]
    if without:
        return f"only settings are compared: {'; '.join(without)}"
    first = scored_of(sides[0])
    reasons = []
    for side in sides[1:]:
        other = scored_of(side)
        if other.pixels != first.pixels:
            reasons.append(f"A and {side.letter} were judged on {_other_pixels(first, other)}")
        elif other.group != first.group:
            reasons.append(f"A has label map {first.label_map}, {side.letter} has {other.label_map}")
    if not reasons:
        return None
    what = "settings and the yardstick are" if _yardstick_lines(sides) else "settings are"
    return f"only {what} compared: {'; '.join(reasons)}"


def scored_of(side: Side) -> Scored:
    """Its matrices; only asked of trials that have them."""
    assert side.trial.scored is not None
    return side.trial.scored


def document(found: Comparison) -> dict[str, Any]:
    """The same for scripts: `harness.compare/1`."""
    metric = found.objective.name if found.objective else None
    return {
        "schema": "harness.compare/1",
        "comparable": found.comparable,
        "reason": found.refusal,
        "trials": [_trial_document(side) for side in found.sides],
        "objective": {"metric": found.metric, "goal": "minimize" if found.minimize else "maximize"},
        "parameters": asdict(found.parameters),
        "environment": asdict(found.environment),
        "cost": {line.name: list(line.values) for line in found.cost},
        "scores": [asdict(line) for line in found.scores],
        "moved_confusions": {letter: [asdict(move) for move in moved] for letter, moved in found.moved.items()},
        "patients": {"metric": metric if found.patients else None, "rows": [asdict(line) for line in found.patients]},
    }


def better_of(values: Sequence[float | None], letters: Sequence[str], *, minimize: bool = False) -> str | None:
    """The letter of the one best value; None when one is missing, or two are the same to three digits."""
    present = [value for value in values if value is not None]
    if len(present) < len(values):
        return None
    order = sorted(range(len(present)), key=lambda index: present[index] if minimize else -present[index])
    first, second = order[:2]
    return letters[first] if abs(present[first] - present[second]) >= SAME_BELOW else None


def _score_lines(sides: Sequence[Side], metric: str, minimize: bool) -> tuple[ScoreLine, ...]:
    """The objective, then pooled, by class, in mixed cells, by centre, without enlarged regions."""
    # The classes of one group have the same ids in the same order, whatever a map calls them.
    names = [scored_of(side).scheme.labels.class_names for side in sides]
    centres = sorted({roi.centre for roi in scored_of(sides[0]).rois})
    parts = [("val", ""), ("val/non_homogeneous", "mixed cells: ")]
    parts += [(f"val/centre/{centre}", f"centre {centre}: ") for centre in centres]
    parts.append(("val/not_resized", "without enlarged ROIs: "))
    found: dict[str, ScoreLine] = {}

    def add(keys: Sequence[str], said: str) -> None:
        values = tuple(scored_of(side).scores.get(key) for side, key in zip(sides, keys, strict=True))
        if keys[0] in scored_of(sides[0]).scores and keys[0] not in found:
            down = minimize and keys[0] == metric
            found[keys[0]] = _line(keys[0], said + _score_name(keys[0]), values, sides, minimize=down)

    add([metric] * len(sides), "mixed cells: " if "/non_homogeneous/" in metric else "")
    for name in ("iou", "dice", "yardstick", "yardstick_tumor", "yardstick_stroma"):
        add([f"val/{name}"] * len(sides), "")
    for kind in ("iou", "dice"):
        for index in range(len(names[0])):
            add([f"val/{kind}_{own[index]}" for own in names], "")
    for prefix, said in parts[1:]:
        for name in ("iou", "dice", "yardstick"):
            add([f"{prefix}/{name}"] * len(sides), said)
    return tuple(found.values())


def _yardstick_lines(sides: Sequence[Side]) -> tuple[ScoreLine, ...]:
    """The yardstick and its parts, where all have it on the same pixels."""
    if len({scored_of(side).pixels for side in sides if side.trial.scored}) != 1 or not all(
        side.trial.scored is not None and side.trial.scored.scores.get(YARDSTICK) is not None for side in sides
    ):
        return ()
    keys = (YARDSTICK, f"{YARDSTICK}_tumor", f"{YARDSTICK}_stroma")
    return tuple(
        _line(key, metric_text(key), tuple(scored_of(side).scores.get(key) for side in sides), sides) for key in keys
    )


def _patients(sides: Sequence[Side], metric: str, minimize: bool) -> tuple[ScoreLine, ...]:
    """The objective of each validation patient's pooled pixels, A's worst loss first."""
    lines = []
    for patient in scored_of(sides[0]).patients:
        values = tuple(score_rois(_rois_of(patient, side), scored_of(side).scheme).get(metric) for side in sides)
        lines.append(_line(patient, patient, values, sides, minimize=minimize))
    return tuple(sorted(lines, key=lambda line: (line.differences[0] is None, -(line.differences[0] or 0), line.name)))


def _rois_of(patient: str, side: Side) -> list[RoiMatrices]:
    return [roi for roi in scored_of(side).rois if roi.patient == patient]


def _line(
    name: str, text: str, values: tuple[float | None, ...], sides: Sequence[Side], *, minimize: bool = False
) -> ScoreLine:
    first, *others = values
    differences = tuple(None if first is None or other is None else other - first for other in others)
    better = better_of(values, [side.letter for side in sides], minimize=minimize)
    return ScoreLine(name, text, values, differences, better)


def _score_name(key: str) -> str:
    """Without the part it is of, which stands before it."""
    return metric_text(f"val/{key.rpartition('/')[2]}")


def _parameters(side: Side) -> Mapping[str, Value] | None:
    """Every setting of a trial; None where nobody here knows them."""
    trial = side.trial
    return None if trial.external else {**trial.parameters, **trial.settings, "seed": trial.seed}


def _environment(side: Side) -> Mapping[str, Value] | None:
    """Device, threads, versions, and the revision its sweep ran at."""
    around = dict(side.trial.environment)
    if side.trial.external or not around:
        return None
    versions = around.pop("versions", None)
    facts = {**around, **(versions if isinstance(versions, dict) else {})}
    facts["revision"] = side.sweep.document.get("revision")
    return {str(key): value if _plain(value) else str(value) for key, value in facts.items()}


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _settings(sides: Sequence[Side], every: Sequence[Mapping[str, Value] | None]) -> Settings:
    """The names whose values differ among the trials that have them; the others' values are None."""
    known = [values for values in every if values is not None]
    unknown = tuple(side.letter for side, values in zip(sides, every, strict=True) if values is None)
    if len(known) < 2:
        return Settings((), 0, unknown)
    names = list(dict.fromkeys(name for values in known for name in values))
    different = [name for name in names if len({canonical(values.get(name)) for values in known}) > 1]
    lines = (Setting(name, tuple((values or {}).get(name) for values in every)) for name in different)
    return Settings(tuple(lines), len(names) - len(different), unknown)


def _cost(sides: Sequence[Side]) -> tuple[Setting, ...]:
    """What each trial cost, all attempts counted; None where it was not trained here."""
    every = [_cost_of(side.trial) for side in sides]
    lines = (Setting(name, tuple(values[name] for values in every)) for name in every[0])
    return tuple(line for line in lines if any(value is not None for value in line.values))


def _cost_of(trial: Trial) -> dict[str, Value]:
    here, seconds = not trial.external, [epoch.seconds for epoch in trial.epochs]
    return {
        "training_seconds": trial.seconds_trained if here else None,
        "epochs_trained": trial.epochs_trained if here else None,
        "seconds_per_epoch": float(np.median(seconds)) if seconds else None,
        "parameters": trial.started.get("parameters"),
        "peak_memory_bytes": (trial.result or {}).get("peak_memory_bytes"),
    }


def _state(side: Side) -> str:
    trial = side.trial
    if trial.state == "complete":
        return "its scores.json cannot be read"
    if trial.state == "pruned" and trial.pruned_epoch:
        return f"pruned at epoch {trial.pruned_epoch}"
    return f"{trial.state}: {trial.cause}".replace("_", " ") if trial.cause else trial.state


def _other_pixels(first: Scored, other: Scored) -> str:
    """What about the validation pixels differs, as far as the matrices tell."""
    ours, theirs = ({roi.name: roi.matrix.sum(axis=1).tolist() for roi in one.rois} for one in (first, other))
    if ours.keys() != theirs.keys():
        shared = len(ours.keys() & theirs.keys())
        return f"other validation regions ({len(ours)} and {len(theirs)}, {shared} of them the same)"
    if ours != theirs or first.scheme.source_ids != other.scheme.source_ids:
        return "the same regions, but other masks"
    return "other data, another split or another version of the metrics"


def _trial_document(side: Side) -> dict[str, Any]:
    trial = side.trial
    return {
        "letter": side.letter,
        "uid": trial.uid,
        "sweep": side.sweep.name,
        "generation": side.sweep.generation,
        "model": model_of(trial),
        "stratum": trial.stratum,
        "number": trial.number,
        "external": trial.external,
        "state": trial.state,
        "label_map": None if trial.scored is None else trial.scored.label_map,
        "group": None if trial.scored is None else trial.scored.group,
        "validation_pixels": None if trial.scored is None else trial.scored.pixels,
        "run_id": trial.run_id,
        "folder": str(trial.folder),
    }
