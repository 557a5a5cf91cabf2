"""Pretrained weights for an encoder, from the hub, a local file or an installed package; nothing falls back to random
silently."""

import importlib.util
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from threading import Thread

import torch
from torch import Tensor, nn

from harness.errors import BadInput, Refused
from harness.files import sha256_file
from harness.models.table import PACKAGED, PACKAGED_WEIGHTS, RANDOM, WEIGHT_FILES

HUB_TIMEOUT_S = 6.0


def load_encoder_weights(encoder: nn.Module, name: str, weights: str) -> None:
    """Load `weights` (random, a name offered on the hub, imagenet-package, or a local file) into the encoder `name`.

    A file holds the encoder's tensors, a whole trial's (`encoder.` before each name), or, for `tu-` encoders,
    timm's own checkpoint; tensors beyond the encoder are left out, a missing or misshapen one is BadInput.
    """
    if weights == RANDOM:
        return
    tensors: Mapping[str, Tensor]
    if weights == PACKAGED_WEIGHTS:
        path = packaged_file()
        tensors = in_timms_names(_read(path), name.removeprefix("tu-"))
    else:
        path = Path(weights).expanduser() if weights.endswith(WEIGHT_FILES) else fetch(name, weights)
        tensors = _read(path)
    wanted = encoder.state_dict()
    offered = {_plain_name(key): tensor for key, tensor in tensors.items()}
    found = {key: offered[_plain_name(key)] for key in wanted if _plain_name(key) in offered}
    # Files from before PyTorch 0.4.1 have no batch counters; they do not change what the encoder computes.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    misshapen = [key for key in found if found[key].shape != wanted[key].shape]
    if missing or misshapen:
        example = (missing or misshapen)[0]
        raise BadInput(
            f"{path} does not fit the encoder {name}: of its {len(wanted)} tensors {len(missing)} are missing"
            f" and {len(misshapen)} have another shape, the first is {example}"
        )
    # Past the encoder's own load_state_dict: some rename or drop keys of their original checkpoints.
    nn.Module.load_state_dict(encoder, {**wanted, **found})


def packaged_file() -> Path:
    """The file of the installed package with ImageNet weights; Refused where it is missing or another than ours."""
    found = importlib.util.find_spec(PACKAGED.module)
    if found is None or found.origin is None:
        raise Refused(f"encoder_weights {PACKAGED_WEIGHTS}: {PACKAGED.remedy}")
    path = Path(found.origin).parent / PACKAGED.file
    if not path.is_file() or sha256_file(path) != PACKAGED.sha256:
        raise Refused(f"{path}: not the weights that {PACKAGED_WEIGHTS} stands for (sha256 {PACKAGED.sha256[:8]}...)")
    return path


def in_timms_names(tensors: Mapping[str, Tensor], model: str) -> dict[str, Tensor]:
    """Tensors of another implementation of timm's `model`, listed in the same order, by timm's names.

    BadInput unless every one agrees in shape, and in kind (the last part of its name), with its partner.
    """
    import timm

    with torch.device("meta"):  # names and shapes only: nothing is drawn from the global generator
        wanted = timm.create_model(model).state_dict()
    if len(tensors) != len(wanted):
        raise BadInput(f"{len(tensors)} tensors, but {model} has {len(wanted)}")
    for (theirs, tensor), (ours, place) in zip(tensors.items(), wanted.items(), strict=True):
        if tensor.shape != place.shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise BadInput(f"{theirs} {tuple(tensor.shape)} cannot be {model}'s {ours} {tuple(place.shape)}")
    return dict(zip(wanted, tensors.values(), strict=True))


def fetch(encoder: str, weights: str) -> Path:
    """The file with the hub's `weights` for `encoder`, from the local cache or by download.

    Refused, within about HUB_TIMEOUT_S when there is no network, names the two ways out.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, file_name, revision = _hub_address(encoder, weights)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, file_name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    # Asked first, because hf_hub_download retries for 23 s and prints a warning for each of 6 attempts.
    problem = _why_unreachable(huggingface_hub.hf_hub_url(repository, file_name, revision=revision))
    if problem is None:
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        try:
            return Path(huggingface_hub.hf_hub_download(repository, file_name, revision=revision))
        except Exception as error:  # requests before huggingface_hub 1.0, httpx since: no common class
            problem = _first_line(error)
    raise Refused(
        f"encoder_weights {weights} of {encoder} cannot be fetched from the hub ({problem}): set"
        f" `encoder_weights: random`, or give the path of a local {' or '.join(WEIGHT_FILES)} file"
    )


def _hub_address(encoder: str, weights: str) -> tuple[str, str, str | None]:
    """Repository, file name and revision on the hub."""
    if encoder.startswith("tu-"):
        import timm

        config = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        if config is None or not config.hf_hub_id:
            raise BadInput(
                f"encoder_weights {weights!r}: timm has no weights on the hub for {encoder}; set"
                f" `encoder_weights: random`, or give the path of a local {' or '.join(WEIGHT_FILES)} file"
            )
        return config.hf_hub_id, config.hf_hub_filename or "model.safetensors", None
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders[encoder]["pretrained_settings"][weights]
    return settings["repo_id"], "model.safetensors", settings["revision"]


def _why_unreachable(url: str) -> str | None:
    """None when a server answers at `url` within HUB_TIMEOUT_S, else the reason in one line."""
    outcome: list[str | None] = []

    def ask() -> None:
        from huggingface_hub import get_session

        try:
            get_session().head(url, timeout=HUB_TIMEOUT_S)
            outcome.append(None)
        except Exception as error:  # requests before huggingface_hub 1.0, httpx since: no common class
            outcome.append(_first_line(error))

    # A thread, because neither name look-up nor the eight addresses behind one name share a single time-out.
    thread = Thread(target=ask, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT_S)
    return outcome[0] if outcome else f"no answer within {HUB_TIMEOUT_S:.0f} s"


def _read(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name from a .safetensors or .pth file, without unpickling code."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; encoder_weights takes imagenet, random or the path of a file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path, device="cpu"))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, zip, pickle and torch each raise their own
        raise BadInput(f"{path}: cannot be read as a file of weights: {_first_line(error)}") from error
    tensors = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise BadInput(f"{path}: holds no mapping of names to tensors (a state dict)")
    return tensors


def _plain_name(key: str) -> str:
    """One spelling of a tensor's name: timm has `stages.0` in checkpoints and `stages_0` in feature nets."""
    return re.sub(r"^(encoder\.)?(model\.)*", "", key).replace(".", "_")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
