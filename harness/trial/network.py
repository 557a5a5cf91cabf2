"""A completed trial's network, with the weights of its best epoch."""

from __future__ import annotations

from safetensors.torch import load_file
from torch import nn

from harness.errors import BadInput
from harness.models.build import build_model
from harness.trial.folder import TrialFolder


def trained_network(folder: TrialFolder) -> nn.Module:
    """On the CPU, ready to be evaluated. BadInput when the trial has no weights."""
    if not folder.weights.is_file():
        raise BadInput(f"{folder.path}: has no weights.safetensors; only a complete trial has them")
    spec = folder.read_spec()
    # Random: whatever the training started from is overwritten, and the hub need not be asked.
    random = spec.model.encoder and "random"
    network = build_model(spec.model.model_copy(update={"encoder_weights": random}), classes=spec.classes)
    network.load_state_dict(load_file(folder.weights))
    return network.eval()
