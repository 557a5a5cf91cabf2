"""Names that people read in MLflow's table of runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.config.knobs import label_of

# In every name, in this order; anything else that a sweep varies follows as `name=value`.
_LEADING = ("architecture", "encoder", "labels", "patches", "patch_px", "learning_rate")
# Said by the value alone: `imagenet`, `jaccard`.
_SPEAKING = ("encoder_weights", "loss", "augment", "optimizer", "schedule", "sampling", "normalize")
_SILENT = ("decoder_channels",)  # five numbers that mostly follow from the architecture
_LONGEST = 100


def run_name(parameters: Mapping[str, Any], *, varied: Mapping[str, Any] | None = None, seed: int | None = None) -> str:
    """Such as `attention_unet·b0·unicorn3/all·256·1e-3`: network, stratum, patch side, learning rate.

    `varied` are the parameters that the sweep samples; those not in the name already follow while there is
    room. `seed` marks a replicate.
    """
    stratum = "/".join(str(parameters[key]) for key in ("labels", "patches") if parameters.get(key) is not None)
    pieces = [
        _text(parameters.get("architecture")),
        short_encoder(_text(parameters.get("encoder"))),
        stratum,
        _text(parameters.get("patch_px")),
        _text(parameters.get("learning_rate")),
    ]
    for key, value in (varied or {}).items():
        if key not in (*_LEADING, *_SILENT) and value is not None:
            pieces.append(_text(value) if key in _SPEAKING else f"{key}={_text(value)}")
    if seed is not None:
        pieces.append(f"seed {seed}")
    name = "·".join(piece for piece in pieces if piece)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def short_encoder(encoder: str) -> str:
    """`efficientnet-b0` -> `b0`, `tu-resnet10t` -> `resnet10t`, `timm-tf_efficientnet_lite0` -> `lite0`."""
    return re.sub(r"^(tu-|timm-)?(tf_)?(efficientnet[-_](?=[a-z]*\d))?", "", encoder)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return short_number(value)
    return str(label_of(value))


def short_number(value: float) -> str:
    """Two figures: .001 -> `1e-3`, .00032 -> `3.2e-4`, .5 -> `0.5`, 3.0 -> `3`."""
    if value == 0 or 0.01 <= abs(value) < 10_000:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
