"""A completed trial judged on the patients that were kept apart: as validation, with the weights of its best epoch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from harness.data.patches import open_store, patches_of, validation_cut
from harness.errors import BadInput
from harness.evaluate import evaluate
from harness.files import read_json
from harness.scores import scores_document
from harness.trial.folder import TrialFolder
from harness.trial.network import trained_network
from harness.trial.run import cohort, scheme_of, settle


def scores_held_out(folder: TrialFolder, *, stores: Path, device: str) -> dict[str, object]:
    """The content of a `scores.json` over the regions of the spec's test patients. BadInput without any."""
    spec, at = folder.read_spec(), torch.device(device)
    settle(at)
    cut, patients = validation_cut(spec.dataset.cut), spec.dataset.split.test
    store = open_store(stores, cohort(spec), cut, data_hash=spec.dataset.data_hash)
    indices = patches_of(store, patients)
    if not len(indices):
        raise BadInput(f"{folder.path}: its split keeps no test patient apart")
    network = trained_network(folder).to(at)
    scheme = scheme_of(spec)
    found = evaluate(network, store, indices, scheme, train=spec.train, loss=_no_loss, device=at)
    return scores_document(found.rois, scheme, epoch=read_json(folder.result)["best_epoch"], epochs=[])


def _no_loss(logits_NKHW: Tensor, targets_NHW: Tensor) -> Tensor:
    """Only the matrices are asked for."""
    return logits_NKHW.new_zeros(())
