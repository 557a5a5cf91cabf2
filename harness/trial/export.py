"""A finished trial's network as a model that plain `mlflow` loads: no pickle, none of our code, any batch."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.config.knobs import label_of
from harness.config.spec import TrialSpec
from harness.data.batches import IMAGENET_MEAN, IMAGENET_STD
from harness.files import fsync_folder
from harness.tracking.model import save_pt2
from harness.trial.folder import TrialFolder
from harness.trial.network import trained_network

_README = """\
# {title}

A segmentation network as an MLflow model (`torch.export`, no pickle). It needs `torch` and `mlflow` only:

```python
import mlflow.pytorch, numpy as np, torch
model = mlflow.pytorch.load_model("{folder}")          # or "models:/<model id>"
images = torch.from_numpy(patches_NHWC).permute(0, 3, 1, 2).float()   # uint8 RGB, 0..255: do not normalise
with torch.inference_mode():
    probabilities = model(images)                       # (N, {outputs}, {input_px}, {input_px}), sums to 1
classes = probabilities.argmax(1){plus_one}
```

- Input: float32 `images_NCHW`, N x 3 x {input_px} x {input_px}, RGB, values 0..255. N is free, height and
  width are not. Normalisation (`{normalize}`) is inside.
- Output: float32 `probabilities_NKHW`, channels in this order: {channels}.
- A patch covers {patch_px} x {patch_px} pixels {mpp};
  it is resized to {input_px} x {input_px} before it goes in.
- A whole region as `predictions/` holds it: patches every {patch_px} pixels, the last one moved back to the
  edge; probabilities resized bilinearly to the region's own pixels, averaged where patches overlap; argmax.
- The graph was traced in float32 on a CPU; scores of a GPU or of bfloat16 may differ in single pixels.
"""


class ScoredNetwork(nn.Module):
    """images_NCHW, float32 RGB 0..255 -> probabilities_NKHW: normalisation and softmax around a network."""

    def __init__(self, network: nn.Module, normalize: str) -> None:
        super().__init__()
        self.network = network
        # The same float32 operations as data.batches.normalized, so that the last bit agrees.
        scale, shift = np.full(3, 1 / 255, np.float32), np.zeros(3, np.float32)
        if normalize == "imagenet":
            scale, shift = scale / IMAGENET_STD, -IMAGENET_MEAN / IMAGENET_STD
        self.scale_C11: Tensor
        self.shift_C11: Tensor
        self.register_buffer("scale_C11", torch.from_numpy(scale).reshape(3, 1, 1))
        self.register_buffer("shift_C11", torch.from_numpy(shift).reshape(3, 1, 1))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        # A copy: images from NHWC arrays are laid out so, which picks other kernels and other last bits.
        images_NCHW = images_NCHW.clone(memory_format=torch.contiguous_format)
        return torch.softmax(self.network(images_NCHW * self.scale_C11 + self.shift_C11), dim=1)


def export_model(folder: TrialFolder) -> Path:
    """Write `mlflow_model/` from the trial's spec and best weights, whole or not at all; returns its path.

    An existing one is kept. BadInput when the trial has no weights. About a second of one core, and 2 s more
    for MLflow's import the first time in a process.
    """
    if folder.mlflow_model.is_dir():
        return folder.mlflow_model
    spec = folder.read_spec()
    aside = Path(tempfile.mkdtemp(prefix=".mlflow_model.", dir=folder.path))
    try:
        _write(spec, folder, aside / "model")
        for file in (path for path in (aside / "model").rglob("*") if path.is_file()):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        (aside / "model").replace(folder.mlflow_model)
        fsync_folder(folder.path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder.mlflow_model


def _write(spec: TrialSpec, folder: TrialFolder, target: Path) -> None:
    module = ScoredNetwork(trained_network(folder), spec.train.normalize).eval()
    input_px = spec.dataset.cut.input_px
    save_pt2(
        module,
        target,
        input_px=input_px,
        outputs=spec.classes,
        requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("mlflow", "torch", "numpy")],
        metadata=_metadata(spec, folder),
    )
    (target / "README.md").write_text(_readme(spec, folder), encoding="utf-8")


def _metadata(spec: TrialSpec, folder: TrialFolder) -> dict[str, Any]:
    data = spec.dataset
    return {
        "channels": _channels(spec),
        "labels": {name: list(ids) for name, ids in data.labels.classes.items()},
        "undefined": spec.train.undefined,
        "normalize": f"{spec.train.normalize}, inside the model",
        "input": "float32 RGB, 0..255, NCHW",
        "output": "softmax probabilities, NKHW",
        "input_px": data.cut.input_px,
        "patch_px": data.cut.patch_px,
        "mpp": data.cut.mpp,
        "architecture": label_of(spec.model.architecture),
        "encoder": spec.model.encoder,
        "trial": folder.uid,
        "fingerprint": spec.fingerprint,
    }


def _channels(spec: TrialSpec) -> list[str]:
    first = ["undefined"] if spec.train.undefined == "as_paper" else []
    return [*first, *spec.dataset.labels.class_names]


def _readme(spec: TrialSpec, folder: TrialFolder) -> str:
    cut = spec.dataset.cut
    as_paper = spec.train.undefined == "as_paper"
    return _README.format(
        title=f"{label_of(spec.model.architecture)} {spec.model.encoder or ''}, trial {folder.uid}".replace(" ,", ","),
        folder=folder.mlflow_model.name,
        outputs=spec.classes,
        input_px=cut.input_px,
        patch_px=cut.patch_px,
        mpp="of the image as it is" if cut.mpp is None else f"at {cut.mpp} um per pixel",
        normalize=spec.train.normalize,
        plus_one="  # 0 is undefined, 1..K the classes" if as_paper else " + 1   # 1..K, as in predictions/*.png",
        channels=", ".join(f"`{name}`" for name in _channels(spec)),
    )
