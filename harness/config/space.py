"""SearchSpace: one sweep's YAML file, as a frozen value."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.config.base import Frozen
from harness.config.durations import Duration
from harness.config.imported import ImportedPart, without_places
from harness.config.labels import BUILTIN, LabelMap
from harness.config.pause import Pause, Unit
from harness.config.resources import Resources
from harness.config.rules import Rule, parse_rule
from harness.config.spec import KeptEpochs, Objective, TrainSpec
from harness.files import fingerprint

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _as_tuple(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


OneOrMany = Annotated[tuple[Any, ...], BeforeValidator(_as_tuple)]


class SplitRule(Frozen):
    """How patients are divided; `file` names a JSON: {"train": [...], "validation": [...], "test": [...]}."""

    by: Literal["patient"] = "patient"
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 11
    file: str | None = None


PHANTOM = "phantom"  # as `root`

# Of the space, but of no influence on what is computed: a change of these makes no generation.
NOT_COMPUTED = frozenset(
    {
        "name",
        "budget",
        "on_failure",
        "timeout",
        "replicate",
        "claims",
        "claim_seeds",
        "references",
        "reproduces",
        "export",
        "keep_epochs",
        "resources",
    }
)


class PhantomSettings(Frozen):
    """The synthetic cohort that `root: phantom` stands for; see `harness data synth`."""

    patients: Annotated[int, Field(ge=4, le=2000)] = 24
    roi_px: Annotated[int, Field(ge=128, le=4096)] = 320
    tiny_share: Annotated[float, Field(ge=0, le=1)] = 0.15
    seed: Annotated[int, Field(ge=0)] = 7


class DataSource(Frozen):
    """Where the ROIs are and how patients are split."""

    root: str
    split: SplitRule = SplitRule()
    on_defect: Literal["stop", "quarantine"] = "stop"
    patient_regex: str | None = None
    source_ids: Literal["tiger", "other"] | None = None  # whose ids the masks hold; null: other for a manifest.csv
    min_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    limit_rois: Annotated[int, Field(ge=2)] | None = None  # use this many ROIs, spread over patients
    phantom: PhantomSettings = PhantomSettings()

    @field_validator("patient_regex")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"{value!r} is not a regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"{value!r} needs exactly one group (...), the patient")
        return value


class Parameter(Frozen):
    """One knob: `values`, `value`, or `min` and `max` (with `log`, and `steps` for a grid); `when` it applies."""

    values: tuple[Any, ...] | None = None
    value: Any = None
    min: Annotated[float, Field(allow_inf_nan=False)] | None = None
    max: Annotated[float, Field(allow_inf_nan=False)] | None = None
    log: bool = False
    steps: Annotated[int, Field(ge=2, le=1000)] | None = None
    when: dict[str, OneOrMany] = {}

    @model_validator(mode="after")
    def _one_form(self) -> Parameter:
        forms = [form for form in (self.values, self.value, self.min) if form is not None]
        if len(forms) != 1 or (self.min is None) != (self.max is None):
            raise ValueError("needs one of `values: [...]`, `value: ...`, or `min: ...` with `max: ...`")
        if self.values is not None and not self.values:
            raise ValueError("`values` is empty")
        if self.min is not None and self.max is not None:
            if self.min >= self.max:
                raise ValueError(f"min {self.min:g} is not below max {self.max:g}")
            if self.log and self.min <= 0:
                raise ValueError("`log: true` needs min above 0")
        elif self.log or self.steps is not None:
            raise ValueError("`log` and `steps` belong to a range (`min`, `max`)")
        return self

    @property
    def is_range(self) -> bool:
        """Whether the parameter is a range rather than a list of choices."""
        return self.min is not None

    @property
    def choices(self) -> tuple[Any, ...]:
        """The listed values; empty for a range."""
        if self.values is not None:
            return self.values
        return () if self.is_range else (self.value,)


class Budget(Frozen):
    """`trials` per stratum; `wall` (or `gpu_hours`) for the whole sweep, added up over restarts."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    wall: Duration | None = None
    gpu_hours: Annotated[float, Field(gt=0)] | None = None

    def wall_s(self, devices: int) -> float | None:
        """The tighter of the two time limits, in seconds of wall time on so many devices."""
        limits = [self.wall, None if self.gpu_hours is None else self.gpu_hours * 3600 / devices]
        present = [limit for limit in limits if limit is not None]
        return min(present) if present else None


class Prune(Frozen):
    """How hopeless trials end early: `rungs` pauses trials and continues the best (harness/sweep/rungs.py); the other
    types are Optuna's pruners, which stop a trial for good while it runs.
    """

    type: Literal["rungs", "hyperband", "halving", "median", "none"] = "none"
    min_epochs: Annotated[int, Field(ge=1)] = 3
    eta: Annotated[int, Field(ge=2)] = 3
    unit: Unit = "epochs"  # in which rungs are counted; training patches and seconds level out epochs of unlike length
    min: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None  # the first rung, where `unit` is not epochs

    @model_validator(mode="after")
    def _first_rung_is_given(self) -> Prune:
        if self.unit != "epochs" and self.type != "rungs":
            raise ValueError(f"`unit: {self.unit}` belongs to `type: rungs`")
        if (self.unit != "epochs") != (self.min is not None):
            raise ValueError("`min` is the first rung in samples or seconds, and goes with that `unit`")
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without a unit where rungs are epochs: a sweep keeps the generation it had before there were units."""
        dumped: dict[str, Any] = dump(self)
        return {name: value for name, value in dumped.items() if self.unit != "epochs" or name not in ("unit", "min")}

    def rung(self, number: int) -> Pause:
        """Where the trials pause that go on to rung 0, 1, ...: the first one times `eta` each time."""
        first = self.min_epochs if self.min is None else self.min
        return Pause(self.unit, first * self.eta**number)


DEFAULT_SEEDS = (101, 102, 103)


class Replicate(Frozen):
    """Train the top of each stratum again with fresh seeds, after the search; a mean needs three of them."""

    top: Annotated[int, Field(ge=1)] = 3
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**32)], ...], Field(min_length=1)] = DEFAULT_SEEDS

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a seed is listed twice")
        return value


class OnFailure(Frozen):
    """What follows when a trial ends badly, by cause. `record`: it counts as failed, the sweep goes on."""

    lost: Literal["resume", "record", "stop"] = "resume"  # its worker died or fell silent
    out_of_memory: Literal["halve", "record", "stop"] = "halve"  # trained again with its batch in twice as many parts
    nan: Literal["record", "stop"] = "record"
    error: Literal["record", "stop"] = "record"
    timeout: Literal["record", "stop"] = "record"
    data: Literal["record", "stop"] = "stop"
    refused: Literal["record", "stop"] = "stop"


class Reference(Frozen):
    """A published result: printed beside ours, never ranked."""

    name: str
    labels: str  # the label map whose boards show it
    scores: dict[Literal["iou", "dice", "loss"], Annotated[float, Field(allow_inf_nan=False)]]
    note: str = "split unknown"


class SourceItem(Frozen):
    """A figure or table of the publication that a space reproduces, and the file that holds ours.

    `file` lies in the report's folder; with `trial`, in the folder of the first completed trial with these settings.
    """

    item: str
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]
    trial: dict[str, Any] = {}


class SearchSpace(Frozen):
    """Everything a sweep is: data, labels, strata, parameters, rules, training, budget."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataSource
    labels: dict[Annotated[str, Field(pattern=NAME_PATTERN)], LabelMap]
    imports: dict[str, ImportedPart] = {}  # your own parts by name; `config/load.py` gathers them from the file
    strata: dict[str, tuple[Any, ...]] = {}
    parameters: dict[str, Parameter] = {}
    rules: tuple[str, ...] = ()
    baselines: tuple[dict[str, Any], ...] = ()
    train: TrainSpec = TrainSpec()
    objective: Objective = Objective()
    method: Literal["tpe", "random", "grid"] = "tpe"
    budget: Budget = Budget()
    prune: Prune = Prune()
    on_failure: OnFailure = OnFailure()
    resources: Resources = Resources()  # of one slot on a cluster
    timeout: Duration | None = None  # of training, per trial, added up over its attempts
    replicate: Replicate | None = None
    claims: tuple[str, ...] = ()  # `A > B on METRIC by MARGIN`; harness/config/claims.py reads them
    claim_seeds: Annotated[int, Field(ge=3, le=1000)] = 12  # a side of a claim is trained with at most so many seeds
    references: tuple[Reference, ...] = ()
    reproduces: tuple[SourceItem, ...] = ()
    keep_epochs: KeptEpochs = "none"  # whose checkpoints stay, for `harness trial FOLDER --at-epoch`
    export: Annotated[str, Field(pattern=r"^(all|none|top:[1-9][0-9]{0,3})$")] = "none"

    @field_validator("labels", mode="before")
    @classmethod
    def _maps_by_name(cls, value: object) -> object:
        return {name: _label_map(name, body) for name, body in value.items()} if isinstance(value, dict) else value

    @field_validator("labels")
    @classmethod
    def _some_labels(cls, value: dict[str, LabelMap]) -> dict[str, LabelMap]:
        if not value:
            raise ValueError("needs at least one label map, such as `tiger7: builtin`")
        return value

    @model_validator(mode="after")
    def _monitor_follows_objective(self) -> SearchSpace:
        if "monitor" not in self.train.model_fields_set:
            train = self.train.model_copy(update={"monitor": self.objective.metric})
            object.__setattr__(self, "train", train)  # frozen: set once, while the value is being made
        return self

    @property
    def parsed_rules(self) -> tuple[Rule, ...]:
        """The rules, parsed."""
        return tuple(parse_rule(text) for text in self.rules)

    @property
    def key(self) -> str:
        """Hash of what is computed: equal keys belong to one generation. Names and budgets are not part of it."""
        dumped = self.model_dump(mode="json", exclude=set(NOT_COMPUTED))
        rows = [{name: value for name, value in row.items() if name != "name"} for row in dumped["baselines"]]
        return fingerprint(without_places({**dumped, "baselines": rows, "data": {**dumped["data"], "root": None}}))


def _label_map(name: str, body: object) -> object:
    """`builtin`, or classes with their ids (and `ignore_ids`), as the fields of a LabelMap."""
    if body == "builtin" and name in BUILTIN:
        return BUILTIN[name]
    if isinstance(body, dict) and "classes" not in body:
        classes = {key: ids for key, ids in body.items() if key not in ("ignore_ids", "name")}
        return {"name": name, "classes": classes, "ignore_ids": body.get("ignore_ids", ())}
    return {**body, "name": name} if isinstance(body, dict) else {"name": name, "classes": body}
