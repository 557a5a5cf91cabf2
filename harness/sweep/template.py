"""The file that `harness init` writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from harness.files import safe_name


def template(*, name: str, root: str) -> str:
    """`unicorn.yaml`, commented, under another name and for other data."""
    text = _unicorn().read_text(encoding="utf-8")
    header = (
        "# A search space. Every key is optional but data.root, labels and parameters.architecture;\n"
        "# `harness plan` lists every mistake at once, and `harness models` what an architecture or encoder may be.\n"
    )
    body = text[text.index("name: unicorn") :]
    # As JSON strings, which YAML reads as they are: a file may be called 2024.yaml, a folder `my: data`.
    body = body.replace("name: unicorn", f"name: {json.dumps(_sweep_name(name))}", 1)
    return header + re.sub(r"root: data/tiger +#", lambda _: f"root: {json.dumps(root)}  #", body, count=1)


def _sweep_name(name: str) -> str:
    """`name` as a sweep may be called: safe, at most 64 characters, beginning with a letter or digit."""
    return safe_name(name).lstrip("-._")[:64] or "sweep"


def _unicorn() -> Path:
    here = Path(__file__).resolve().parents[1]
    inside = here / "search_spaces" / "unicorn.yaml"
    return inside if inside.exists() else here.parent / "search_spaces" / "unicorn.yaml"
