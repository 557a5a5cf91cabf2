"""TrialSpec: the one fully resolved, hashable input of a trial. Same spec, same machine type: same weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from harness.config.base import Frozen
from harness.config.imported import ImportedPart, is_import, without_places
from harness.config.labels import LabelMap
from harness.files import fingerprint

Positive = Annotated[int, Field(ge=1)]
LossName = Literal["jaccard", "dice", "cross_entropy", "focal"]
Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
KeptEpochs = Literal["none", "all"] | Positive | tuple[Positive, ...]
Rate = Annotated[float, Field(gt=0, lt=100, allow_inf_nan=False)]


class Cut(Frozen):
    """How ROIs become patches. Lengths are pixels at `mpp` um per pixel (None: the ROI's own resolution)."""

    mpp: Annotated[float, Field(gt=0.05, lt=50)] | None = None
    patch_px: Annotated[int, Field(ge=16, le=8192)] = 256
    input_px: Annotated[int, Field(ge=16, le=8192)]  # what the network sees; a patch is resized to it
    stride: Annotated[int, Field(ge=8, le=8192)]
    remainder: Literal["shift", "drop", "pad"] = "shift"


class Split(Frozen):
    """Patients by role; a patient is in exactly one of them."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()


class DatasetVariant(Frozen):
    """The data of a trial: which ROIs, in which roles, cut and labelled how."""

    root: str  # where they lie; not part of the fingerprint, `data_hash` is
    data_hash: str  # of every ROI's name, patient, centre, image and mask bytes
    source: Literal["tiger", "other"] = "tiger"  # whether source ids are TIGER's 0..7
    source_ids: tuple[int, ...]
    patient_regex: str | None = None
    quarantined: tuple[str, ...] = ()  # names of ROIs left out because of a defect
    labels: LabelMap
    patches: Literal["all", "non_homogeneous"] = "all"  # filter of training patches; validation keeps all
    min_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    cut: Cut
    split: Split


class ModelSpec(Frozen):
    """The network, by the names of `harness models`."""

    architecture: str | ImportedPart
    encoder: str | None = None
    encoder_weights: str | None = None  # a name that `harness models` offers, random, or the path of a file
    decoder_channels: tuple[Positive, ...] | None = None  # None: the architecture's own
    decoder_attention: Literal["none", "scse"] = "none"


class TrainSpec(Frozen):
    """Everything about training except data and network."""

    epochs: Positive = 50
    batch_size: Positive = 32
    learning_rate: Rate = 1e-3
    loss: LossName | ImportedPart | dict[LossName, Weight] = "jaccard"  # a mapping is a weighted sum
    class_weights: Literal["none", "balanced"] | tuple[Weight, ...] = "none"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    plateau_patience: Annotated[int, Field(ge=0)] = 5
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    stop_patience: Positive | None = 10  # epochs without a better monitor; null trains to the end
    augment: Literal["paper", "paper_one_warp", "none", "histology"] | ImportedPart = "paper"
    normalize: Literal["unit", "imagenet"] = "unit"
    undefined: Literal["ignore", "as_paper"] = "ignore"
    sampling: Literal["uniform", "balanced"] = "uniform"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    monitor: str = "val/iou"  # what plateau and early stopping watch
    # Decay, per optimizer step, of the running mean of the weights, which then is what is scored and kept.
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    accumulate: Positive = 1  # parts that a batch is trained in, one after the other, for one optimiser step

    @model_serializer(mode="wrap")
    def _as_ever(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `accumulate` and `average` where they do nothing: a spec keeps the fingerprint it had before them."""
        dumped: dict[str, Any] = dump(self)
        idle = {"accumulate": 1, "average": None}
        return {name: value for name, value in dumped.items() if name not in idle or value != idle[name]}

    @property
    def loss_terms(self) -> dict[str, float] | ImportedPart:
        """The loss as weighted terms: `jaccard` is `{"jaccard": 1.0}`; an imported one as it is."""
        if isinstance(self.loss, ImportedPart):
            return self.loss
        return {self.loss: 1.0} if isinstance(self.loss, str) else {str(name): w for name, w in self.loss.items()}


class Objective(Frozen):
    """What picks the best epoch, ranks trials and prunes."""

    metric: str = "val/iou"
    goal: Literal["maximize", "minimize"] = "maximize"

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than` (None: nothing yet)."""
        if than is None:
            return True
        return value > than if self.goal == "maximize" else value < than


class TrialSpec(Frozen):
    """One training run."""

    dataset: DatasetVariant
    model: ModelSpec
    train: TrainSpec
    objective: Objective = Objective()
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    keep_epochs: KeptEpochs = "none"  # whose checkpoints stay: all, every n-th, or these

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the weights: the spec without the data's location, and what is kept."""
        dumped = self.model_dump(mode="json", exclude={"dataset": {"root"}, "keep_epochs": True})
        return fingerprint(without_places(dumped))

    def keeps(self, epoch: int) -> bool:
        """Whether the state after this epoch stays, to be stepped into."""
        if isinstance(self.keep_epochs, int):
            return epoch % self.keep_epochs == 0
        return self.keep_epochs == "all" or (self.keep_epochs != "none" and epoch in self.keep_epochs)

    @property
    def imported_parts(self) -> tuple[ImportedPart, ...]:
        """The parts of the training that come from somebody's own Python files."""
        parts = (self.model.architecture, self.train.loss, self.train.augment)
        return tuple(part for part in parts if isinstance(part, ImportedPart))

    @property
    def classes(self) -> int:
        """Number of logits: K, or K + 1 with `undefined` first under `as_paper`."""
        return len(self.dataset.labels.classes) + (self.train.undefined == "as_paper")

    def parameters(self) -> dict[str, Any]:
        """The spec as one flat dictionary of names as people write them in YAML."""
        dumped = self.model_dump(mode="json")
        flat = {
            "labels": self.dataset.labels.name,
            "patches": self.dataset.patches,
            "min_share": self.dataset.min_share,
        }
        values = {**flat, **dumped["dataset"]["cut"], **dumped["model"], **dumped["train"], "seed": self.seed}
        return {key: value["name"] if is_import(value) else value for key, value in values.items()}
