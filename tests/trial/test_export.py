"""An exported model answers like the network it came from, and needs nothing of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from harness.config.labels import BUILTIN
from harness.config.spec import Cut, DatasetVariant, ModelSpec, Split, TrainSpec, TrialSpec
from harness.data.batches import normalized
from harness.errors import BadInput
from harness.models.build import build_model
from harness.trial.export import ScoredNetwork, export_model
from harness.trial.folder import TrialFolder

PX = 64
torch.set_num_threads(1)  # as every worker; two threads sum in another order
NETWORKS = {
    "unet_plain": ModelSpec(architecture="unet_plain", decoder_channels=(16, 12, 8, 8, 4)),
    "unet": ModelSpec(architecture="unet", encoder="tu-test_resnet", decoder_channels=(16, 12, 8, 8, 4)),
    "attention_unet": ModelSpec(
        architecture="attention_unet", encoder="tu-test_resnet", decoder_channels=(16, 12, 8, 8, 4)
    ),
}


def make_spec(network: str, *, normalize: str = "imagenet", undefined: str = "ignore") -> TrialSpec:
    """A trial of three classes at 64 px."""
    return TrialSpec(
        dataset=DatasetVariant(
            root="data",
            data_hash="0" * 64,
            source_ids=tuple(range(8)),
            labels=BUILTIN["unicorn3"],
            cut=Cut(patch_px=PX, input_px=PX, stride=PX),
            split=Split(train=("P1",), validation=("P2",)),
        ),
        model=NETWORKS[network].model_copy(update={"encoder_weights": "imagenet"}),
        train=TrainSpec.model_validate({"normalize": normalize, "undefined": undefined}),
        seed=1,
    )


def make_trial(path: Path, spec: TrialSpec) -> tuple[TrialFolder, torch.nn.Module]:
    """A trial's folder with weights whose BatchNorm has seen data, and the network that they belong to."""
    folder = TrialFolder(path)
    folder.path.mkdir(parents=True)
    folder.write_spec(spec)
    torch.manual_seed(3)
    random = spec.model.encoder and "random"
    network = build_model(spec.model.model_copy(update={"encoder_weights": random}), classes=spec.classes)
    for _ in range(3):
        network(torch.rand(4, 3, PX, PX))
    save_file(network.state_dict(), folder.weights)
    return folder, network.eval()


def patches(count: int) -> np.ndarray:
    """uint8 images_NHWC in which every value occurs."""
    return np.random.default_rng(1).integers(0, 256, (count, PX, PX, 3), dtype=np.uint8)


def raw(images_NHWC: np.ndarray) -> torch.Tensor:
    """What an outsider sends: uint8 values as float32, channels first."""
    return torch.from_numpy(images_NHWC).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("normalize", ["unit", "imagenet"])
def test_normalisation_inside_the_model_is_that_of_training(normalize: str) -> None:
    """To the last bit, for every value a pixel can have."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    wrapped = ScoredNetwork(torch.nn.Identity(), normalize)
    expected = torch.softmax(torch.from_numpy(normalized(ramp, normalize)), dim=1)  # type: ignore[arg-type]
    assert torch.equal(wrapped(raw(ramp)), expected)


@pytest.mark.slow
@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_an_exported_model_gives_the_networks_probabilities(tmp_path: Path, network: str) -> None:
    """Equal to the last bit after a reload, for any batch size; asked for without pickle."""
    import mlflow.pytorch

    spec = make_spec(network)
    folder, module = make_trial(tmp_path / "trial", spec)
    model = mlflow.pytorch.load_model(str(export_model(folder)))
    for count in (1, 2, 5):
        images = patches(count)
        with torch.inference_mode():
            expected = torch.softmax(module(torch.from_numpy(normalized(images, spec.train.normalize))), dim=1)
            found = model(raw(images))
        assert found.shape == (count, 3, PX, PX)
        assert torch.equal(found, expected)


OUTSIDER = """
import json, sys
import mlflow.pyfunc, mlflow.pytorch, numpy as np, torch
images = np.load(sys.argv[2])
batch = torch.from_numpy(images).permute(0, 3, 1, 2).float()
model = mlflow.pytorch.load_model(sys.argv[1])
with torch.inference_mode():
    mask = model(batch).argmax(1).numpy() + 1
generic = mlflow.pyfunc.load_model(sys.argv[1], model_config={"device": "cpu"})
again = generic.predict(batch.numpy()).argmax(1) + 1
card = mlflow.models.Model.load(sys.argv[1])
loaded = {"harness", "segmentation_models_pytorch", "timm"} & set(sys.modules)
np.save(sys.argv[3], mask)
print(json.dumps({
    "same": bool((mask == again).all()), "loaded": sorted(loaded), "metadata": card.metadata,
    "inputs": [[list(x.shape), str(x.type)] for x in card.signature.inputs.inputs],
}))
"""


@pytest.mark.slow
def test_plain_mlflow_reloads_the_model_and_gets_the_same_mask(tmp_path: Path) -> None:
    """Another process, pickle forbidden, with neither this package nor a model library in it."""
    spec = make_spec("attention_unet")
    folder, module = make_trial(tmp_path / "trial", spec)
    exported = export_model(folder)
    images = patches(3)
    with torch.inference_mode():
        mask = module(torch.from_numpy(normalized(images, spec.train.normalize))).argmax(1).numpy() + 1
    np.save(tmp_path / "images.npy", images)
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            OUTSIDER,
            str(exported),
            str(tmp_path / "images.npy"),
            str(tmp_path / "mask.npy"),
        ],
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    facts = json.loads(answer.stdout.splitlines()[-1])
    assert np.array_equal(np.load(tmp_path / "mask.npy"), mask)
    assert facts["same"]
    assert facts["loaded"] == []
    assert facts["inputs"] == [[[-1, 3, PX, PX], "float32"]]
    assert facts["metadata"]["channels"] == ["tumor", "stroma", "rest"]


@pytest.mark.slow
def test_as_paper_adds_a_first_channel(tmp_path: Path) -> None:
    """K + 1 channels, `undefined` first, and the model's own page says so."""
    folder, _ = make_trial(tmp_path / "trial", make_spec("unet_plain", normalize="unit", undefined="as_paper"))
    text = (export_model(folder) / "README.md").read_text()
    assert "`undefined`, `tumor`, `stroma`, `rest`" in text
    assert "(N, 4, 64, 64)" in text


def test_without_weights_there_is_nothing_to_export(tmp_path: Path) -> None:
    """Named, and nothing is left in the folder."""
    folder, _ = make_trial(tmp_path / "trial", make_spec("unet_plain"))
    folder.weights.unlink()
    with pytest.raises(BadInput, match=r"has no weights\.safetensors"):
        export_model(folder)
    assert [path.name for path in folder.path.iterdir()] == ["spec.json"]


def test_a_failed_export_leaves_no_model(tmp_path: Path) -> None:
    """Weights of another network do not fit; the folder is as before."""
    folder, _ = make_trial(tmp_path / "trial", make_spec("unet_plain"))
    save_file({"stem.0.weight": torch.zeros(1)}, folder.weights)
    with pytest.raises(RuntimeError, match="Error\\(s\\) in loading state_dict"):
        export_model(folder)
    assert sorted(path.name for path in folder.path.iterdir()) == ["spec.json", "weights.safetensors"]
