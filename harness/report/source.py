"""The figures and tables of the publication that a sweep reproduces: which file holds ours, and whether it is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.config.knobs import label_of
from harness.report.queries import Sweep, Trial
from harness.report.tables import Cell, Table, relative_url, trial_name

Status = Literal["drawn", "missing", "blank"]
# What the report itself is made of, beside figures/.
TABLES = (
    "index.html",
    "leaderboard.csv",
    "leaderboard.json",
    "leaderboard.md",
    "leaderboard.tex",
    "pivot.csv",
    "pivot.tex",
)
# Grey values of a picture that shows something differ by more than this (standard deviation).
BLANK_BELOW = 1.0


@dataclass(frozen=True, slots=True)
class Reproduced:
    """One item of the publication and our file for it, relative to the report's folder."""

    item: str
    setting: str
    file: str
    status: Status
    reason: str = ""


def reproduced(sweep: Sweep, folder: Path, beside: Mapping[str, Path | None]) -> tuple[Reproduced, ...]:
    """Every item of the space's `reproduces:` as it stands.

    `folder` is the report's; `beside` names the files of its `figures/`, each with the file it is copied from (None:
    drawn by the report).
    """
    return tuple(_item(dict(entry), sweep, folder, beside) for entry in sweep.space.get("reproduces") or ())


def source_table(items: Collection[Reproduced]) -> Table:
    """The items as a table of the report."""
    rows = tuple(
        (
            Cell(found.item),
            Cell(found.setting or "sweep"),
            Cell(found.file.rpartition("/")[2], href=found.file) if found.status == "drawn" else Cell(found.file),
            Cell(found.status, note=found.reason or None),
        )
        for found in items
    )
    here = sum(found.status == "drawn" for found in items)
    caption = f"Figures and tables of the source: {here} of {len(items)} drawn"
    return Table(caption, ("In the source", "Setting", "Ours", "Status"), rows)


def source_document(items: Collection[Reproduced]) -> dict[str, Any]:
    """The same for scripts."""
    return {"schema": "harness.source/1", "rows": [asdict(found) for found in items]}


def _item(entry: Mapping[str, Any], sweep: Sweep, folder: Path, beside: Mapping[str, Path | None]) -> Reproduced:
    title, file, wanted = str(entry["item"]), str(entry["file"]), dict(entry.get("trial") or {})
    setting = ", ".join(f"{key} {label_of(value)}" for key, value in wanted.items())
    if wanted:
        trial = _first(sweep, wanted)
        if trial is None:
            return Reproduced(title, setting, file, "missing", "no completed run of this setting")
        return _judged(title, f"{setting} ({trial_name(trial)})", trial.folder / file, folder)
    if file in TABLES:
        if not sweep.complete:
            return Reproduced(title, setting, file, "missing", "no completed run")
        return Reproduced(title, setting, file, "drawn")
    name = file.removeprefix("figures/")
    if name not in beside:
        return Reproduced(title, setting, file, "missing", "not drawn in this sweep")
    source = beside[name]
    status: Status = "drawn" if source is None or not _is_blank(source) else "blank"
    return Reproduced(title, setting, file, status)


def _first(sweep: Sweep, wanted: Mapping[str, Any]) -> Trial | None:
    """The first completed search trial with these settings."""
    return next(
        (
            trial
            for trial in sorted(sweep.complete, key=lambda trial: (trial.stratum, trial.number))
            if trial.replicate_of is None and all(trial.settings.get(k) == label_of(v) for k, v in wanted.items())
        ),
        None,
    )


def _judged(title: str, setting: str, file: Path, folder: Path) -> Reproduced:
    if not file.is_file():
        return Reproduced(title, setting, file.name, "missing", "the run has no such file")
    return Reproduced(title, setting, relative_url(file, folder), "blank" if _is_blank(file) else "drawn")


def _is_blank(file: Path) -> bool:
    """Whether a picture shows nothing; a file that is no picture only has to hold something."""
    import cv2  # .02 s that a report without pictures need not spend

    if file.suffix != ".png":
        return file.stat().st_size == 0
    picture = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    return picture is None or float(picture.std()) < BLANK_BELOW
