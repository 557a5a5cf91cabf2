"""Two search spaces and their data, setting by setting, as people write them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from harness.config.base import visible
from harness.config.imported import ImportedPart
from harness.config.knobs import TRAIN_KNOBS, label_of
from harness.config.space import NOT_COMPUTED, Parameter, SearchSpace
from harness.report.wording import plural

# Compared in ways of their own.
_APART = frozenset({"labels", "imports", "strata", "parameters", "rules", "baselines", "train"})
# Part of every trial's spec, whatever is searched. `min_share` may be searched.
_OF_EVERY_TRIAL = frozenset({"data", "split", "seed", "data.patient_regex", "data.min_share"})
# How two values are told apart that read the same.
_READS_THE_SAME = {"data": "other content", "split": "other patients"}
NOT_SET = "not set"
LONGEST = 60

# What to compare, and what to show.
Setting = tuple[object, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting before and after an edit, as people write it."""

    name: str
    before: str
    after: str
    every_trial: bool  # no trial of before can be kept

    def __str__(self) -> str:
        return f"{self.name}: {self.before} -> {self.after}{' (changes every trial)' if self.every_trial else ''}"


def differences(
    old: SearchSpace, old_data: Mapping[str, Any], new: SearchSpace, new_data: Mapping[str, Any]
) -> Iterator[Difference]:
    """What differs in what is computed; the data are as in `space.json`: hash, rois, patients, split."""
    searched = {*old.strata, *old.parameters, *new.strata, *new.parameters}
    before, after = dict(_settings(old, old_data, searched)), dict(_settings(new, new_data, searched))
    for name in dict.fromkeys([*after, *before]):
        (was, was_text), (is_now, now_text) = before.get(name, (None, NOT_SET)), after.get(name, (None, NOT_SET))
        if was == is_now:
            continue
        was_text, now_text = _cut(was_text), _cut(now_text)
        if was_text == now_text:
            now_text = _READS_THE_SAME.get(name, "edited")
        of_every = name.startswith(("train.", "objective.")) or name in _OF_EVERY_TRIAL - searched
        yield Difference(name, was_text, now_text, of_every)


def _settings(space: SearchSpace, data: Mapping[str, Any], searched: Set[str]) -> Iterator[tuple[str, Setting]]:
    """Every setting of a space by name; one that either side searches goes by its bare name, as under `parameters:`."""
    for axis, values in space.strata.items():
        yield axis, ([list(values), "strata"], f"{_text(values)} (strata)")
    for name, parameter in space.parameters.items():
        yield name, (parameter.model_dump(mode="json"), _parameter_text(parameter))
    for name in sorted(TRAIN_KNOBS - {*space.strata, *space.parameters}):
        value = getattr(space.train, name)
        yield (name if name in searched else f"train.{name}"), (_plain(value), _text(value))
    for label_map in space.labels.values():
        for class_name, ids in label_map.classes.items():
            yield f"labels.{label_map.name}.{class_name}", (sorted(ids), _text(sorted(ids)))
        if label_map.ignore_ids:
            ignored = sorted(label_map.ignore_ids)
            yield f"labels.{label_map.name}.ignore_ids", (ignored, _text(ignored))
    for name, part in space.imports.items():
        yield f"the source of {name}", (part.sha256, part.sha256[:8])
        yield f"imports.{name}", ([part.target, part.options], _text([part.target, *part.options.items()]))
    yield "rules", (space.rules, "; ".join(space.rules) or "none")
    yield "baselines", (space.baselines, plural(len(space.baselines), "row") if space.baselines else "none")
    yield from _flat(space.model_dump(mode="json", exclude={*NOT_COMPUTED, *_APART}))
    yield "data", (data["hash"], f"{plural(data['rois'], 'region')} of {plural(data['patients'], 'patient')}")
    roles = {role: len(patients) for role, patients in data["split"].items() if patients}
    yield "split", (data["split"], ", ".join(f"{count} {role}" for role, count in roles.items()))


def _flat(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Setting]]:
    for key, value in settings.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif name != "data.root":  # what lies there is compared, not where
            yield name, (value, _text(value))


def _parameter_text(parameter: Parameter) -> str:
    """`128, 256`, `1e-05..0.003 log`, `imagenet where architecture is unet or attention_unet`."""
    text = _text(parameter.choices)
    if parameter.is_range:
        text = f"{parameter.min:g}..{parameter.max:g}{' log' if parameter.log else ''}"
        text += f" in {parameter.steps} steps" if parameter.steps else ""
    where = " and ".join(f"{name} is {' or '.join(map(_text, values))}" for name, values in parameter.when.items())
    return f"{text} where {where}" if where else text


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(f"[{_text(item)}]" if isinstance(item, list | tuple) else _text(item) for item in value)
    label = label_of(value)
    return "none" if label is None else str(label)


def _plain(value: Any) -> Any:
    """A knob's value with imported parts by their names: their sources are settings of their own."""
    return value.name if isinstance(value, ImportedPart) else value


def _cut(text: str) -> str:
    text = visible(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
