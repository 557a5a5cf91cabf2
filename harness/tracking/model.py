"""Exported models in MLflow's format: a traced graph (`pt2`), no pickle, no code of ours to load it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tracking.store import client_settings

if TYPE_CHECKING:
    from torch import nn


def save_pt2(
    module: nn.Module,
    folder: Path,
    *,
    input_px: int,
    outputs: int,
    requirements: Sequence[str],
    metadata: Mapping[str, Any],
) -> None:
    """Save `module` (float32 images_NCHW -> probabilities_NKHW, in eval mode) as an MLflow model in `folder`.

    The batch is free, height and width are `input_px`. `folder` must not exist. Its signature holds both
    shapes; `mlflow.pytorch.load_model` and `mlflow.pyfunc.load_model` both read it.
    """
    os.environ.update(client_settings(os.environ))
    # MLflow warns of a type hint in its own module for agents.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred", category=UserWarning)
    import mlflow.pyfunc
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    # Without names: pyfunc's predict would turn an array into a dictionary, which this flavour declines.
    images_NCHW, probabilities_NKHW = (
        Schema([TensorSpec(np.dtype(np.float32), (-1, channels, input_px, input_px))]) for channels in (3, outputs)
    )
    model = Model()
    # save_model adds this flavour only for a numpy example, which it would also write as 10 MB of JSON.
    mlflow.pyfunc.add_to_model(
        model,
        loader_module="mlflow.pytorch",
        data="data",
        conda_env="conda.yaml",
        python_env="python_env.yaml",
        model_config={"device": None},
    )
    mlflow.pytorch.save_model(
        module,
        str(folder),
        mlflow_model=model,
        signature=ModelSignature(inputs=images_NCHW, outputs=probabilities_NKHW),
        # Two images: with one the batch would be frozen at 1.
        input_example=torch.zeros(2, 3, input_px, input_px),
        # Given, because inferring them starts a process that loads the model: 17 s instead of 1.
        pip_requirements=list(requirements),
        metadata=dict(metadata),
        serialization_format="pt2",
    )
