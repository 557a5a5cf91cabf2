"""What a warm worker keeps between trials: networks as they are before training, and training patches on its device.

Building one is most of what comes before the first step (150 ms for a U-Net over EfficientNet-B0, with the blank patch
that tries its size); a copy takes 85 ms, both measured on a busy machine. Trials of a search share their seed, so most
find theirs here. Regions and stores are read anew by every trial: that takes 3 ms, and what is gone or was replaced is
noticed.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.config.imported import ImportedPart
from harness.config.spec import TrialSpec
from harness.device_patches import DevicePatches, fitting, free_bytes, moves_on_device
from harness.files import fingerprint
from harness.models.table import WEIGHT_FILES
from harness.train import TrialData, initial_model

# Of parameters and buffers, in all: half of what torch alone takes in a worker.
KEPT_BYTES = 200_000_000


@dataclass(frozen=True, slots=True)
class _Initial:
    model: nn.Module
    size_bytes: int
    generator: Tensor  # torch's, once the model was built: an own loss may draw from it next


class InitialModels:
    """`initial_model`, remembered: the same modules with the same weights, by what they depend on."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[str, _Initial] = OrderedDict()  # the one used last is last

    def of(self, spec: TrialSpec) -> nn.Module:
        """A network that is the caller's own; raises what `initial_model` raises."""
        key = _key(spec)
        if key is None:
            return initial_model(spec)
        if key not in self._kept:
            model = initial_model(spec)
            self._keep(key, _Initial(model, _size_bytes(model), torch.get_rng_state()))
            if key not in self._kept:
                return model
        self._kept.move_to_end(key)
        torch.set_rng_state(self._kept[key].generator)
        return copy.deepcopy(self._kept[key].model)

    def forget(self) -> None:
        """Let go of all of them."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def _keep(self, key: str, initial: _Initial) -> None:
        if initial.size_bytes > self._kept_bytes:
            return
        self._kept[key] = initial
        while sum(one.size_bytes for one in self._kept.values()) > self._kept_bytes:
            self._kept.popitem(last=False)


def _key(spec: TrialSpec) -> str | None:
    """Equal for specs with equal initial networks. None: not to be kept, since own code may hold what cannot be copied,
    or a file of weights cannot be looked at."""
    if isinstance(spec.model.architecture, ImportedPart):
        return None
    weights = spec.model.encoder_weights
    state: list[int] = []
    if weights is not None and weights.endswith(WEIGHT_FILES):
        try:
            found = Path(weights).expanduser().stat()
        except OSError:
            return None
        state = [found.st_ino, found.st_size, found.st_mtime_ns]
    return fingerprint([spec.model.model_dump(mode="json"), spec.classes, spec.dataset.cut.input_px, spec.seed, state])


def _size_bytes(model: nn.Module) -> int:
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


class KeptPatches:
    """The training patches of the last trial, on its device; at most one such copy, and none a trial does not use."""

    def __init__(self, free: Callable[[torch.device], int | None] = free_bytes) -> None:
        self._free = free
        self._kept: DevicePatches | None = None

    def of(self, spec: TrialSpec, data: TrialData, device: torch.device) -> DevicePatches | None:
        """The trial's patches there; None where its policy is done on the host or they do not fit."""
        wanted = (data.training, data.training_indices, device)
        usable = moves_on_device(spec.train.augment)
        if self._kept is not None and not (usable and self._kept.are_of(*wanted)):
            self.forget()
        if self._kept is None and usable:
            self._kept = fitting(*wanted, free=self._free)
        return self._kept

    def forget(self) -> None:
        """Let go of them."""
        self._kept = None
        torch.cuda.empty_cache()  # else torch would hold the memory, for this process alone


# One of each a process: a worker does one trial at a time.
INITIAL_MODELS = InitialModels()
KEPT_PATCHES = KeptPatches()
