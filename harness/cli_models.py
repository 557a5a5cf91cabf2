"""`harness models`: which networks there are, and what one of them is made of."""

from __future__ import annotations

import json
from pathlib import Path

import click

from harness.cli_base import Group, json_option
from harness.errors import BadInput


@click.group(cls=Group, invoke_without_command=True)
@click.option("--encoders", is_flag=True, help="List the encoders instead of the architectures.")
@json_option
@click.pass_context
def models(context: click.Context, encoders: bool, as_json: bool) -> None:
    """List the architectures, and the encoders they may use; or describe one of them."""
    from harness.cli_text import architectures_text, encoders_text, models_document

    if context.invoked_subcommand is not None:
        return
    if as_json:
        click.echo(json.dumps(models_document(), indent=1))
    else:
        click.echo(encoders_text() if encoders else architectures_text())


@models.command()
@click.argument("name")
@click.option("--encoder", help="[default: efficientnet-b0, where one is needed]")
@click.option("--input-px", type=click.IntRange(16, 8192), default=256, show_default=True, help="Side of the image.")
@click.option("--classes", type=click.IntRange(1, 255), default=7, show_default=True, help="Number of logits.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The diagram's file, .png or .svg (default: reports/models/<name>.png).",
)
@json_option
def describe(name: str, encoder: str | None, input_px: int, classes: int, out: Path | None, as_json: bool) -> None:
    """Print shapes, parameters and multiply-adds of NAME, and draw its block diagram, from the real module.

    NAME is an architecture, or a function of your own as module:function.

    \b
    harness models describe attention_unet --encoder resnet34 --input-px 512
    harness models describe mylab.nets:build --out nets.svg
    """
    from harness.sweep.progress import Screen

    if out is not None and out.suffix.lower() not in (".png", ".svg"):
        raise BadInput(f"--out: {out} ends neither in .png nor in .svg")
    with Screen().step(f"building {name}"):  # imports torch: 5 to 20 s
        import torch

        from harness.cli_text import model_text
        from harness.drawing import drawn
        from harness.explore.describe import described, model_document, model_label, model_spec
        from harness.explore.diagram import diagram_figure, summary
        from harness.files import safe_name, write_bytes

        torch.set_num_threads(1)  # as a worker: on busy cores more are slower
        spec = model_spec(name, encoder)
        blocks = described(spec, classes=classes, input_px=input_px)
        label = model_label(spec)
        file = out or Path("reports") / "models" / f"{safe_name(label.replace(' over ', '_'))}.png"
        write_bytes(file, drawn(diagram_figure(blocks, label), file.suffix.lower().removeprefix(".")))
    document = model_document(spec, blocks, classes=classes, input_px=input_px)
    if as_json:
        click.echo(json.dumps({**document, "picture": str(file)}, indent=1))
    else:
        click.echo(f"{label}\n{summary(blocks)}\n{model_text(document)}\ndrawn: {file}")
