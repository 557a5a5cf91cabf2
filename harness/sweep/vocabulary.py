"""What the rooms know that a search space must agree with: architectures, input sizes, and scores."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, get_args

from harness.config.base import choose_from
from harness.config.cells import DEFAULT_PATCH_PX, is_active, strata_of
from harness.config.claims import parse_claim
from harness.config.imported import ImportedPart
from harness.config.labels import BUILTIN, LabelMap
from harness.config.load import Mistake
from harness.config.space import SearchSpace
from harness.config.spec import LossName
from harness.data.augment import POLICIES
from harness.data.cohort import ids_source
from harness.errors import BadInput
from harness.models.table import RANDOM, architectures, check_choice, check_input_px, encoders, is_on_hub
from harness.scores import Scheme, metric_names, yardstick_refusal
from harness.sweep.ledger import trial_uid

LOSSES: tuple[str, ...] = get_args(LossName)
_MODEL_AXES = ("architecture", "encoder", "encoder_weights", "decoder_channels", "decoder_attention")


def check_imports(space: SearchSpace) -> Iterator[Mistake]:
    """No imported part is called like one of ours, and own losses bring their own weights."""
    ours = {*architectures(), *LOSSES, *POLICIES}
    for name in space.imports:
        if name in ours:
            yield ("imports", name), f"{name!r} is the name of a part that comes along; give yours another `name`"
    knob = "class_weights"
    if any(_weighs_own_loss(space, choice) for choice in _loss_choices(space)):
        section = _section(space, knob) if knob in space.strata or knob in space.parameters else "train"
        yield (section, knob), "an imported loss takes no class_weights; pass them as its `options`"


def check_models(space: SearchSpace) -> Iterator[Mistake]:
    """Every combination of architecture, encoder, weights and widths can make a model."""
    seen: set[str] = set()
    for choice in _choices(space, _MODEL_AXES):
        if choice["architecture"] in space.imports:
            for knob in _MODEL_AXES[1:]:
                text = f"{choice['architecture']} is imported and takes no {knob}"
                if choice[knob] not in (None, RANDOM, "none") and text not in seen:
                    seen.add(text)
                    yield (_section(space, knob), knob), f"{text}; use `when: {{architecture: [...]}}`"
            continue
        try:
            check_choice(
                choice["architecture"],
                choice["encoder"],
                choice["encoder_weights"],
                tuple(choice["decoder_channels"]) if choice["decoder_channels"] else None,
                choice["decoder_attention"] or "none",
            )
        except BadInput as error:
            for problem in error.problems:
                if problem not in seen:
                    seen.add(problem)
                    knob = _culprit(choice, problem)
                    yield (_section(space, knob), knob), problem


def check_inputs(space: SearchSpace) -> Iterator[Mistake]:
    """Every architecture takes every input size it may meet."""
    seen: set[str] = set()
    for choice in _choices(space, ("architecture", "patch_px", "input_px")):
        side = choice["input_px"] or choice["patch_px"] or DEFAULT_PATCH_PX
        if choice["architecture"] not in architectures() or not isinstance(side, int):
            continue
        try:
            check_input_px(choice["architecture"], side)
        except BadInput as error:
            if str(error) not in seen:
                seen.add(str(error))
                knob = "input_px" if choice["input_px"] else "patch_px"
                yield (_section(space, knob), knob), str(error)


def check_metrics(space: SearchSpace) -> Iterator[Mistake]:
    """Objective and monitor are scores that every label map of the sweep has."""
    watched = {("objective", "metric"): space.objective.metric}
    if space.train.monitor not in ("val/loss", space.objective.metric):
        watched["train", "monitor"] = space.train.monitor
    for path, metric in watched.items():
        for labels in labels_in_use(space):
            if (problem := _no_score(metric, labels, space)) is not None:
                yield path, problem
                break


def check_claim_metrics(space: SearchSpace) -> Iterator[Mistake]:
    """Every claim is about a score that the label maps it speaks of have."""
    for index, text in enumerate(space.claims):
        try:
            claim = parse_claim(text, space)
        except ValueError:
            continue  # named by the check of the claim itself
        fixed = {name for said in (claim.better, claim.worse, claim.where) if (name := said.get("labels"))}
        for labels in labels_in_use(space):
            if fixed and labels.name not in fixed:
                continue
            if (problem := _no_score(claim.metric, labels, space)) is not None:
                yield ("claims", index), problem
                break


def _no_score(metric: str, labels: LabelMap, space: SearchSpace) -> str | None:
    """Why a label map does not have the score, or None."""
    allowed = metric_names(labels)
    if metric not in allowed:
        more = " (it depends on the batch size, so it may be watched but not ranked by)"
        usual = [name for name in allowed if name.count("/") == 1]
        extra = more if metric == "val/loss" else ""
        return f"{metric!r} is not a score of {labels.name}{extra}; {choose_from(metric, usual)}"
    if "yardstick" in metric and (reason := yardstick_refusal(Scheme((0, 1), labels, ids_source(space.data)))):
        return f"{metric!r} is n/a under the label map {labels.name}: {reason}"
    return None


def check_builtin_labels(space: SearchSpace) -> Iterator[Mistake]:
    """A built-in label map names TIGER's ids; over other ids it would call tissue by wrong names without a word."""
    if ids_source(space.data) == "other":
        for labels in labels_in_use(space):
            if labels == BUILTIN.get(labels.name):
                yield (
                    ("labels", labels.name),
                    "this map is for TIGER's ids, and nothing says that these masks hold them; "
                    "add data.source_ids: tiger if they do, else write classes and ids under another name",
                )


def check_class_weights(space: SearchSpace) -> Iterator[Mistake]:
    """Listed class weights have one entry per class of every label map in use."""
    listed = [(("train", "class_weights"), space.train.class_weights)]
    if "class_weights" in space.parameters:
        listed = [(("parameters", "class_weights"), w) for w in space.parameters["class_weights"].choices]
    for path, weights in listed:
        for labels in labels_in_use(space):
            if isinstance(weights, list | tuple) and len(weights) != len(labels.classes):
                yield path, f"{len(weights)} weights, but {labels.name} has {len(labels.classes)} classes"


def check_folders(space: SearchSpace) -> Iterator[Mistake]:
    """No two strata share the folder names of their trials, on file systems that ignore case either."""
    names: dict[str, str] = {}
    for stratum in strata_of(space):
        stem = trial_uid(stratum.name, 0).casefold()
        if stem in names:
            yield ("strata",), f"{names[stem]} and {stratum.name} would share the folder {stem}; rename one"
        names[stem] = stratum.name


CHECKS = (
    check_imports,
    check_models,
    check_inputs,
    check_metrics,
    check_claim_metrics,
    check_builtin_labels,
    check_class_weights,
    check_folders,
)


def hub_weights(space: SearchSpace) -> list[tuple[str, str]]:
    """Every (encoder, weights) that trials may ask of the hub."""
    asked = [(choice["encoder"], choice["encoder_weights"]) for choice in _choices(space, _MODEL_AXES)]
    return list(dict.fromkeys((e, w) for e, w in asked if e and is_on_hub(w)))


def labels_in_use(space: SearchSpace) -> list[LabelMap]:
    """The label maps that trials may use."""
    if "labels" in space.strata:
        names = list(space.strata["labels"])
    elif "labels" in space.parameters:
        names = list(space.parameters["labels"].choices)
    else:
        names = [next(iter(space.labels))]
    return [space.labels[name] for name in names if name in space.labels]


def _loss_choices(space: SearchSpace) -> list[dict[str, Any]]:
    """Every loss with the class weights it may meet; knobs that the space does not search are left out."""
    return [*_choices(space, ("loss", "class_weights"))] or [*_choices(space, ("class_weights",))] or [{}]


def _weighs_own_loss(space: SearchSpace, choice: dict[str, Any]) -> bool:
    loss = choice.get("loss", space.train.loss)
    own = isinstance(loss, ImportedPart) or (isinstance(loss, str) and loss in space.imports)
    return own and (choice.get("class_weights") or space.train.class_weights) != "none"


def _choices(space: SearchSpace, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every combination of these knobs' values as the space allows it; None where a knob is absent or inactive."""
    values: list[tuple[Any, ...]] = []
    for name in names:
        listed = space.strata.get(name) or (space.parameters[name].choices if name in space.parameters else ())
        values.append(tuple(listed) or (None,))
    for combination in itertools.product(*values):
        choice = dict(zip(names, combination, strict=True))
        for name in names:
            parameter = space.parameters.get(name)
            known = {other: choice[other] for other in (parameter.when if parameter else {}) if other in choice}
            relevant = (
                parameter.model_copy(update={"when": {o: parameter.when[o] for o in known}}) if parameter else None
            )
            if relevant is not None and not is_active(relevant, known):
                choice[name] = None
        if choice[names[0]] is not None:
            yield choice


def _culprit(choice: dict[str, Any], problem: str) -> str:
    """The knob a model's problem is about: the one it begins with, or the first one that is unknown, or the weights."""
    if (knob := problem.partition(" ")[0]).startswith("decoder_"):
        return knob
    if choice["architecture"] not in architectures():
        return "architecture"
    encoder = choice["encoder"]
    if not encoder or not architectures()[choice["architecture"]].needs_encoder:
        return "encoder"
    if encoder not in encoders() and not str(encoder).startswith("tu-"):
        return "encoder"
    return "encoder_weights"


def _section(space: SearchSpace, knob: str) -> str:
    return "strata" if knob in space.strata else "parameters"
