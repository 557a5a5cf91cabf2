"""Python's debugger in the middle of training, at a chosen batch."""

from __future__ import annotations

import pdb  # noqa: T100  # it is what this module is for
import sys

from harness.epoch import Step
from harness.errors import Refused


def refuse_without_terminal() -> None:
    """Refused where nobody can type."""
    if not sys.stdin.isatty():
        raise Refused("--pdb needs a terminal to type in")


def step_in(step: Step) -> None:
    """Stop here, with the batch at hand; `c` goes on, `q` leaves."""
    model, optimizer, loss = step.model, step.optimizer, step.loss
    images_NCHW, targets_NHW, logits_NKHW = step.images_NCHW, step.targets_NHW, step.logits_NKHW
    at = f"epoch {step.epoch}, batch {step.number}"
    gradients = "gradients are there" if step.stage == "backward" else "no gradients yet"
    print(f"{at}: loss {loss.item():.6g}; {gradients}, the weights are those of before the step")
    print("names: model, optimizer, images_NCHW, targets_NHW, logits_NKHW, loss; c goes on, q leaves", flush=True)
    pdb.Pdb(nosigint=True).set_trace()
    del model, optimizer, images_NCHW, targets_NHW, logits_NKHW  # the debugger stops at this line
