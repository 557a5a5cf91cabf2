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
