"""Findings as files: a picture each, traps.json, and a page that opens without a network."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

from harness.files import write_bytes, write_json, write_text
from harness.traps.catalogue import TRAPS
from harness.traps.finding import Finding

SCHEMA = "harness.traps/1"
INTRODUCTION = (
    "Ways of measuring that flatter or mislead, each demonstrated on the synthetic phantom. The sizes of the effects "
    "are the phantom's, mostly of one seed: read the mechanism, not the third digit."
)

_STYLE = """
body{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",Arial,sans-serif;color:#1d1f21;
max-width:52rem;margin:2rem auto;padding:0 1rem}
img{max-width:100%;height:auto}
table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid #e6e7e9}
td+td,th+th{text-align:right;font-variant-numeric:tabular-nums}
.soft{color:#5f666d}pre{white-space:pre-wrap}
"""


def write_page(findings: Sequence[Finding], folder: Path, *, seed: int) -> Path:
    """Write `<folder>/<trap>.png`, traps.json, traps.md and index.html, the page last; returns its path."""
    for finding in findings:
        write_bytes(folder / f"{finding.name}.png", finding.picture)
    write_json(folder / "traps.json", document(findings, seed=seed))
    write_text(folder / "traps.md", markdown(findings, seed=seed))
    write_text(folder / "index.html", html(findings, seed=seed))
    return folder / "index.html"


def document(findings: Sequence[Finding], *, seed: int) -> dict[str, object]:
    """What `--json` prints."""
    return {"schema": SCHEMA, "seed": seed, "traps": [finding.document() for finding in findings]}


def command(findings: Sequence[Finding], *, seed: int) -> str:
    """The command that makes these numbers again."""
    names = [finding.name for finding in findings]
    return shlex.join(["harness", "traps", *(names if set(names) != set(TRAPS) else ()), "--seed", str(seed)])


def markdown(findings: Sequence[Finding], *, seed: int) -> str:
    """One section per trap; docs/traps.md is this text, with its pictures in docs/traps/."""
    parts = ["# Traps", INTRODUCTION, f"```\n{command(findings, seed=seed)}\n```"]
    for finding in findings:
        usual, ours = finding.heads
        rows = [f"| {numbers.what} | {' | '.join(numbers.texts)} |" for numbers in finding.numbers]
        parts += [
            f"## {finding.title}",
            f"*`{finding.name}`: {_verdict(finding)}*",
            f"**What people do.** {finding.people}",
            f"**What happens.** {finding.happens}",
            f"![{finding.shown}]({finding.name}.png)",
            f"*{finding.shown}*",
            "\n".join([f"| | {usual} | {ours} |", "|---|---:|---:|", *rows]),
            f"**What harness does instead.** {finding.instead}",
        ]
    return "\n\n".join(parts) + "\n"


def html(findings: Sequence[Finding], *, seed: int) -> str:
    """The same as a page; texts are escaped, pictures lie beside it."""
    body = Markup("").join(_section(finding) for finding in findings)
    return str(
        Markup(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Traps</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><style>{}</style></head><body>'
            "<h1>Traps</h1><p>{}</p><pre><code>{}</code></pre>{}</body></html>\n"
        ).format(Markup(_STYLE), INTRODUCTION, command(findings, seed=seed), body)
    )


def _section(finding: Finding) -> Markup:
    rows = Markup("").join(
        Markup("<tr><td>{}</td><td>{}</td><td>{}</td></tr>").format(numbers.what, *numbers.texts)
        for numbers in finding.numbers
    )
    table = Markup("<table><tr><th></th><th>{}</th><th>{}</th></tr>{}</table>").format(*finding.heads, rows)
    return Markup(
        '<h2 id="{0}">{1}</h2><p class="soft">{0}: {2}</p><p><b>What people do.</b> {3}</p><p><b>What happens.</b> '
        '{4}</p>'
        '<p><img src="{0}.png" alt="{5}"><br><small class="soft">{5}</small></p>{6}'
        "<p><b>What harness does instead.</b> {7}</p>\n"
    ).format(
        finding.name, finding.title, _verdict(finding), _prose(finding.people), _prose(finding.happens),
        finding.shown.replace("`", ""), table, _prose(finding.instead),
    )  # fmt: skip


def _prose(text: str) -> Markup:
    """Escaped, with `names` between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _verdict(finding: Finding) -> str:
    return "showed in this run" if finding.shows else "did not show in this run"
