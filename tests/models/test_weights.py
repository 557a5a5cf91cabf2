"""Encoder weights: local files load exactly or not at all; the hub out of reach is one line."""

import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import timm
import torch
from safetensors.torch import save, save_file

from harness.config.spec import ModelSpec
from harness.errors import BadInput, Refused
from harness.models.build import build_model
from harness.models.table import PACKAGED
from harness.models.weights import in_timms_names, packaged_file

torch.set_num_threads(1)

NARROW = (32, 24, 16, 16, 8)
ENCODER = "tu-test_resnet.r160_in1k"


def _model(weights, encoder=ENCODER, architecture="unet"):
    spec = ModelSpec(architecture=architecture, encoder=encoder, encoder_weights=str(weights), decoder_channels=NARROW)
    return build_model(spec, classes=2)


def _encoder_tensors(model):
    return model.get_submodule("encoder").state_dict()


def _same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_an_encoders_state_dict_loads_from_both_kinds_of_file(tmp_path):
    """What was saved is what the new model's encoder holds, whatever the folder is called."""
    tensors = _encoder_tensors(_model("random"))
    folder = tmp_path / "my weights; 'quoted'"
    folder.mkdir()
    save_file(tensors, folder / "encoder.safetensors")
    torch.save(tensors, folder / "encoder.pth")
    for name in ("encoder.safetensors", "encoder.pth"):
        for architecture in ("unet", "attention_unet"):
            assert _same(_encoder_tensors(_model(folder / name, architecture=architecture)), tensors)


def test_a_trials_weights_give_their_encoder(tmp_path):
    """A whole network's file works too; its decoder is left out."""
    donor = _model("random", architecture="attention_unet")
    save_file(donor.state_dict(), tmp_path / "weights.safetensors")
    assert _same(_encoder_tensors(_model(tmp_path / "weights.safetensors")), _encoder_tensors(donor))


def test_timms_own_checkpoint_loads_into_a_timm_encoder(tmp_path):
    """timm's classifier and our encoder then compute the same deepest features."""
    for name in ("test_resnet", "test_efficientnet", "test_convnext"):
        classifier = timm.create_model(name).eval()
        torch.save(classifier.state_dict(), tmp_path / f"{name}.pth")
        encoder = _model(tmp_path / f"{name}.pth", encoder=f"tu-{name}").get_submodule("encoder").eval()
        images_NCHW = torch.rand(1, 3, 64, 64)
        with torch.inference_mode():
            expected = classifier.forward_intermediates(images_NCHW, intermediates_only=True)[-1]
            assert torch.allclose(encoder(images_NCHW)[-1], expected, atol=1e-5)


def test_a_native_encoder_loads_its_own_state_dict(tmp_path):
    """An encoder of smp itself, by its own names."""
    tensors = _encoder_tensors(_model("random", encoder="mobilenet_v2"))
    save_file(tensors, tmp_path / "encoder.safetensors")
    assert _same(_encoder_tensors(_model(tmp_path / "encoder.safetensors", encoder="mobilenet_v2")), tensors)


def test_pretrained_and_random_encoders_get_the_same_decoder(tmp_path):
    """One seed, one decoder: a comparison of encoder weights compares nothing else."""
    save_file(_encoder_tensors(_model("random")), tmp_path / "encoder.safetensors")
    decoders = []
    for weights in ("random", tmp_path / "encoder.safetensors"):
        torch.manual_seed(3)
        decoders.append(_model(weights).get_submodule("decoder").state_dict())
    assert _same(*decoders)


def test_a_file_that_does_not_fit_is_refused_and_never_half_loaded(tmp_path):
    """Missing, misshapen, foreign, broken and absent files each name the file."""
    tensors = _encoder_tensors(_model("random"))
    first = next(iter(tensors))
    files = {
        "missing": {key: tensor for key, tensor in tensors.items() if key != first},
        "misshapen": {**tensors, first: torch.zeros(1)},
        "foreign": {"somewhere.else": torch.zeros(3)},
    }
    for name, content in files.items():
        save_file(content, tmp_path / f"{name}.safetensors")
        with pytest.raises(BadInput, match=f"{name}.safetensors does not fit the encoder {ENCODER}"):
            _model(tmp_path / f"{name}.safetensors")
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    for name in ("broken.pth", "broken.safetensors"):
        with pytest.raises(BadInput, match=f"{name}: cannot be read as a file of weights"):
            _model(tmp_path / name)
    with pytest.raises(BadInput, match=r"absent\.pth: no such file"):
        _model(tmp_path / "absent.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(BadInput, match=r"list\.pth: holds no mapping"):
        _model(tmp_path / "list.pth")


def test_a_file_with_code_in_it_is_not_run(tmp_path):
    """A .pth may hold a pickle that runs code; only tensors are read."""
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"weight": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(BadInput, match="cannot be read"):
        _model(tmp_path / "evil.pth")
    assert not marker.exists()


def _point_hub_at(monkeypatch, tmp_path, port):
    """An empty cache, and the hub's address on a port of this machine."""
    from huggingface_hub import constants

    endpoint = f"http://127.0.0.1:{port}"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.mark.parametrize(
    ("encoder", "hangs"),
    [("efficientnet-b0", False), (ENCODER, False), pytest.param(ENCODER, True, marks=pytest.mark.slow)],
)
def test_a_hub_out_of_reach_is_one_line_with_both_ways_out(monkeypatch, tmp_path, capfd, encoder, hangs):
    """Within 10 s, with nothing else on the screen, and never random weights: refusing or never answering."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        if hangs:
            held.listen()
        _point_hub_at(monkeypatch, tmp_path, held.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(Refused) as caught:
            _model("imagenet", encoder=encoder)
        assert time.monotonic() - started < 10
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in (encoder, "`encoder_weights: random`", ".safetensors or .pth"))
    assert capfd.readouterr() == ("", "")


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download of one file needs."""

    content = b""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("ETag", '"0123456789abcdef"')
        revision = self.path.split("/resolve/")[1].split("/")[0]
        self.send_header("X-Repo-Commit", "a" * 40 if revision == "main" else revision)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *args):
        """Quiet."""


@pytest.mark.parametrize("encoder", ["mobilenet_v2", ENCODER])
def test_weights_come_from_the_hub_once_and_then_from_the_cache(monkeypatch, tmp_path, encoder):
    """The second model is built after the hub has gone."""
    tensors = _encoder_tensors(_model("random", encoder=encoder))
    _Hub.content = save(tensors)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        _point_hub_at(monkeypatch, tmp_path, hub.server_address[1])
        assert _same(_encoder_tensors(_model("imagenet", encoder=encoder)), tensors)
        hub.shutdown()
    assert _same(_encoder_tensors(_model("imagenet", encoder=encoder)), tensors)


def test_an_encoder_without_weights_on_the_hub_says_so():
    """timm has some encoders that nobody trained."""
    with pytest.raises(BadInput, match="timm has no weights on the hub for tu-test_mambaout"):
        _model("imagenet", encoder="tu-test_mambaout")


def _efficientnet_lite0(tensors, images_NCHW):
    """Logits of EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation) by the package's own names.

    Written from the architecture's description with torch's functions: ReLU6, TensorFlow's `SAME` padding, epsilon
    1e-3. (The author's own module, efficientnet_lite_pytorch 0.1.0, and timm's give the same logits to the last bit.)
    """
    F = torch.nn.functional

    def convolve(x, name, stride=1, depthwise=False):
        weight = tensors[f"{name}.weight"]
        lacking = [max((-(-side // stride) - 1) * stride + weight.shape[-1] - side, 0) for side in x.shape[2:]]
        (top, left), (height, width) = [side // 2 for side in lacking], lacking
        padded = F.pad(x, (left, width - left, top, height - top))
        return F.conv2d(padded, weight, stride=stride, groups=x.shape[1] if depthwise else 1)

    def normalize(x, name):
        values = [tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *values, eps=1e-3)

    x = F.relu6(normalize(convolve(images_NCHW, "_conv_stem", stride=2), "_bn0"))
    stages = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))  # blocks, stride of the first
    strides = [stride if first == 0 else 1 for blocks, stride in stages for first in range(blocks)]
    for number, stride in enumerate(strides):
        block, before = f"_blocks.{number}.", x
        if number > 0:
            x = F.relu6(normalize(convolve(x, f"{block}_expand_conv"), f"{block}_bn0"))
        x = F.relu6(normalize(convolve(x, f"{block}_depthwise_conv", stride, depthwise=True), f"{block}_bn1"))
        x = normalize(convolve(x, f"{block}_project_conv"), f"{block}_bn2")
        x = x + before if x.shape == before.shape else x
    x = F.relu6(normalize(convolve(x, "_conv_head"), "_bn1"))
    return F.linear(x.mean((2, 3)), tensors["_fc.weight"], tensors["_fc.bias"])


def test_the_packages_weights_compute_in_timms_network_what_they_were_trained_to():
    """The same logits as an implementation by the package's own names; on squares and other shapes, odd ones too."""
    tensors = torch.load(packaged_file(), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(in_timms_names(tensors, "tf_efficientnet_lite0"))
    torch.manual_seed(0)
    for height, width in ((64, 64), (96, 75)):
        images_NCHW = torch.rand(2, 3, height, width) * 2 - 1
        with torch.inference_mode():
            expected = _efficientnet_lite0(tensors, images_NCHW)
            assert expected.std() > 0.5  # far from a constant answer
            assert torch.allclose(network(images_NCHW), expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["unet", "attention_unet"])
def test_an_encoder_with_the_packages_weights_gives_their_features_at_every_level(architecture):
    """Those of timm's classifier; the decoder is the one that random weights would have got."""
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(in_timms_names(torch.load(packaged_file(), weights_only=True), "tf_efficientnet_lite0"))
    models = []
    for weights in ("imagenet-package", "random"):
        torch.manual_seed(3)
        models.append(_model(weights, PACKAGED.encoder, architecture).eval())
    images_NCHW = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        levels = network.forward_intermediates(images_NCHW, intermediates_only=True)
        found = models[0].get_submodule("encoder")(images_NCHW)[1:]
    assert [level.shape for level in found] == [level.shape for level in levels]
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(found, levels, strict=True))
    assert _same(*(model.get_submodule("decoder").state_dict() for model in models))


def test_tensors_that_are_not_the_networks_are_not_taken_for_it():
    """Order alone does not do: number, shape and kind of every tensor are compared."""
    tensors = torch.load(packaged_file(), weights_only=True)
    names = list(tensors)
    swapped = {**tensors, "_conv_stem.weight": tensors["_conv_head.weight"]}
    another_kind = {name.replace("_bn0.bias", "_bn0.weights"): tensor for name, tensor in tensors.items()}
    for wrong, message in (
        ({name: tensors[name] for name in names[:-1]}, "295 tensors, but tf_efficientnet_lite0 has 296"),
        (swapped, r"_conv_stem.weight .* cannot be tf_efficientnet_lite0's conv_stem.weight \(32, 3, 3, 3\)"),
        (another_kind, "_bn0.weights .* cannot be"),
    ):
        with pytest.raises(BadInput, match=message):
            in_timms_names(wrong, "tf_efficientnet_lite0")


def test_another_release_of_the_package_is_refused(monkeypatch, tmp_path):
    """The name of the weights stands for one file: a package with other content would silently change a trial."""
    module = tmp_path / PACKAGED.module
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Refused, match="not the weights that imagenet-package stands for"):
        packaged_file()
    (module / PACKAGED.file).write_bytes(b"other weights")
    with pytest.raises(Refused, match="not the weights that imagenet-package stands for"):
        packaged_file()
