"""A ModelSpec becomes a torch module that maps images_NCHW to logits_NKHW of the same height and width."""

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import nn

from harness.config.imported import ImportedPart, call_part, load_part
from harness.config.spec import ModelSpec
from harness.errors import BadInput
from harness.models.table import RANDOM, check_choice, check_input_px, nearest
from harness.models.weights import load_encoder_weights

IN_CHANNELS = 3
DECODER_CHANNELS = (256, 128, 64, 32, 16)  # smp's default, deepest level first
PLAIN_CHANNELS = (512, 256, 128, 64, 32)  # half of Ronneberger's, in the same order


def build_model(spec: ModelSpec, *, classes: int, input_px: int | None = None) -> nn.Module:
    """The network of `spec` with `classes` logits; initial weights come from torch's global generator.

    `spec.decoder_channels` are five widths from the deepest level to full resolution; for `unet_plain`, which
    has no encoder, they are the widths of its levels. With `input_px` one blank patch is sent through, so
    that an encoder of fixed input size is found now. BadInput for what cannot work, Refused when the hub is
    out of reach.
    """
    if isinstance(spec.architecture, ImportedPart):
        return _imported_model(spec.architecture, classes, input_px)
    check_choice(spec.architecture, spec.encoder, spec.encoder_weights, spec.decoder_channels, spec.decoder_attention)
    if input_px is not None:
        check_input_px(spec.architecture, input_px)
    if spec.encoder is not None and spec.encoder.startswith("tu-"):
        _check_timm_name(spec.encoder)
    try:
        model = _BUILDERS.get(spec.architecture, _smp_model)(spec, classes)
        if input_px is not None:
            _check_shape(model, classes, input_px)
    except (ValueError, TypeError, AssertionError, RuntimeError) as error:
        if "memory" in str(error):
            raise  # the machine's limit, not the choice's
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        at = "" if input_px is None else f" at {input_px} px"
        raise BadInput(f"{spec.architecture} over {spec.encoder}{at} does not work: {reason}") from error
    if spec.encoder is not None:
        load_encoder_weights(model.get_submodule("encoder"), spec.encoder, spec.encoder_weights or RANDOM)
    return model


def _imported_model(part: ImportedPart, classes: int, input_px: int | None) -> nn.Module:
    """A person's own network: `function(classes=...)` returns a module from images_NCHW to logits_NKHW."""
    # Imported first, aside: what a module draws while it is imported, once a process, must not change the weights.
    with torch.random.fork_rng(devices=[]):
        load_part(part)
    model = call_part(part, classes=classes)
    if not isinstance(model, nn.Module):
        raise BadInput(f"{part.target} returned a {type(model).__name__}; expected a torch.nn.Module")
    if input_px is not None:
        try:
            _check_shape(model, classes, input_px)
        except (ValueError, TypeError, AssertionError, RuntimeError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            wanted = f"(N, 3, {input_px}, {input_px}) -> (N, {classes}, {input_px}, {input_px})"
            raise BadInput(f"{part.target} at {input_px} px does not work: {reason}; expected {wanted}") from error
    return model


def count_parameters(model: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _plain_unet(spec: ModelSpec, classes: int) -> nn.Module:
    from harness.models.plain_unet import PlainUnet

    widths = tuple(reversed(spec.decoder_channels or PLAIN_CHANNELS))
    return PlainUnet(classes=classes, in_channels=IN_CHANNELS, widths=widths)


def _attention_unet(spec: ModelSpec, classes: int) -> nn.Module:
    from segmentation_models_pytorch.encoders import get_encoder

    from harness.models.attention_unet import AttentionUnet

    with _without_deprecation():
        encoder = get_encoder(spec.encoder, in_channels=IN_CHANNELS, depth=5, weights=None)
    return AttentionUnet(
        encoder,
        out_channels=encoder.out_channels,
        classes=classes,
        decoder_channels=spec.decoder_channels or DECODER_CHANNELS,
    )


def _dpt(spec: ModelSpec, classes: int) -> nn.Module:
    # Vision transformers are trained at one size; their position codes are resized to any other.
    return _smp_model(spec, classes, dynamic_img_size=True)


def _smp_model(spec: ModelSpec, classes: int, **options: object) -> nn.Module:
    import segmentation_models_pytorch as smp

    if spec.decoder_channels is not None:
        options["decoder_channels"] = spec.decoder_channels
    if spec.decoder_attention != "none":
        options["decoder_attention_type"] = spec.decoder_attention
    with _without_deprecation():
        model: nn.Module = smp.create_model(
            spec.architecture,
            encoder_name=spec.encoder,
            encoder_weights=None,  # loaded by load_encoder_weights, which neither hangs nor falls back
            in_channels=IN_CHANNELS,
            classes=classes,
            **options,
        )
    return model


_BUILDERS: Mapping[str, Callable[[ModelSpec, int], nn.Module]] = {
    "unet_plain": _plain_unet,
    "attention_unet": _attention_unet,
    "dpt": _dpt,
}


def _check_timm_name(encoder: str) -> None:
    import timm

    name = encoder.removeprefix("tu-")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = nearest(encoder, [f"tu-{known}" for known in timm.list_models()])
        raise BadInput(f"encoder {encoder!r}: timm {timm.__version__} has no model {architecture!r}{hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise BadInput(f"encoder {encoder!r}: timm has no tag {tag!r} for {architecture}; it has {', '.join(tags)}")


def _check_shape(model: nn.Module, classes: int, input_px: int) -> None:
    was_training = model.training
    with torch.inference_mode():
        logits_NKHW = model.eval()(torch.zeros(1, IN_CHANNELS, input_px, input_px))
    model.train(was_training)
    if logits_NKHW.shape != (1, classes, input_px, input_px):
        raise ValueError(f"logits have shape {tuple(logits_NKHW.shape)}")


def _without_deprecation() -> warnings.catch_warnings:
    # smp deprecates its `timm-` encoders in favour of `tu-`; both names are offered and stay valid with 0.6.
    return warnings.catch_warnings(action="ignore", category=DeprecationWarning)
