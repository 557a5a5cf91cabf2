"""A network by name: built for real, with random weights, and taken apart."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config.imported import ImportedPart, located
from harness.config.knobs import label_of
from harness.config.spec import ModelSpec
from harness.errors import BadInput
from harness.explore.layers import Block, layer_table, totals
from harness.models.build import build_model
from harness.models.table import RANDOM, architectures

ENCODER = "efficientnet-b0"
VIT = "tu-vit_tiny_patch16_224"  # for what needs a vision transformer


def model_spec(name: str, encoder: str | None = None) -> ModelSpec:
    """An architecture of the table, over `encoder` or a usual one; or one's own as `module:function`.

    What cannot be built is BadInput when it is built.
    """
    if ":" in name:
        if encoder is not None:
            raise BadInput(f"--encoder: {name} is imported and takes no encoder")
        try:
            part = ImportedPart(target=name, name=name.rpartition(":")[2].strip("_")[:40] or "own")
        except ValidationError:
            raise BadInput(f"{name!r} does not name a function; write package.module:function") from None
        return ModelSpec(architecture=located(part, [Path.cwd()]))
    row = architectures().get(name)
    if row is None and "." in name:
        raise BadInput(f"{name!r} is no architecture; for your own write module:function, such as {name}:build")
    if encoder is None and row is not None and row.needs_encoder:
        encoder = VIT if row.only_timm_vit else ENCODER
    return ModelSpec(architecture=name, encoder=encoder, encoder_weights=RANDOM if encoder else None)


def described(spec: ModelSpec, *, classes: int, input_px: int) -> tuple[Block, ...]:
    """The blocks of the real module; its weights are random whatever the spec says: nothing is fetched."""
    bare = spec.model_copy(update={"encoder_weights": RANDOM if spec.encoder else None})
    return layer_table(build_model(bare, classes=classes, input_px=input_px), input_px)


def model_label(spec: ModelSpec) -> str:
    """`attention_unet over efficientnet-b0`, and whatever else is set; weights are left out: they change no shape."""
    rest = spec.model_dump(exclude={"architecture", "encoder", "encoder_weights"}, exclude_defaults=True)
    label = str(label_of(spec.architecture)) + (f" over {spec.encoder}" if spec.encoder else "")
    return ", ".join([label, *(f"{key} {label_of(value)}" for key, value in rest.items())])


def model_document(spec: ModelSpec, blocks: tuple[Block, ...], *, classes: int, input_px: int) -> dict[str, Any]:
    """For `harness models describe --json`. A multiply-add is one; flop counts are twice as high."""
    parts = totals(blocks)
    return {
        "schema": "harness.model/1",
        "name": label_of(spec.architecture),
        "encoder": spec.encoder,
        "input_px": input_px,
        "classes": classes,
        "parameters": {"total": sum(n for n, _ in parts.values()), **{part: n for part, (n, _) in parts.items()}},
        "multiply_adds": {"total": sum(n for _, n in parts.values()), **{part: n for part, (_, n) in parts.items()}},
        "blocks": [asdict(block) for block in blocks],
    }
