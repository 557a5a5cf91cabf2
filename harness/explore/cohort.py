"""A cohort in three pictures: class ratios, sizes of ROIs, and what each role of a split holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.config.labels import LabelMap
from harness.config.palette import class_colours, hex_colour
from harness.config.spec import Split
from harness.data.splits import ROLES
from harness.data.stats import ALL, ClassCount, CohortCounts, RoleCount, class_table, role_table
from harness.drawing import EDGE, INK, canvas, drawn, short_count, spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Greys: no class has one of them.
ROLE_GREYS = {ALL: "#5a5a5a", "train": "#5a5a5a", "validation": "#a3a3a3", "test": "#dcdcdc"}
# For centres: pale, so that nobody takes one for a class.
PASTELS = ("#cfd8e3", "#e8d9c5", "#d5e3cf", "#e3cfdc", "#ece6bd", "#c9e2e2", "#dcd4ee", "#eccfc9")
MIN_LABELLED = 0.07  # a narrower part of a bar has no room for a word


def cohort_pngs(counts: CohortCounts, labels: LabelMap, split: Split | None, *, min_share: float) -> dict[str, bytes]:
    """All of them as {file name without its end: PNG}."""
    roles = role_table(counts, labels, split, min_share=min_share)
    return {
        "class_ratio": class_ratio_png(counts, labels, min_share=min_share),
        "roi_sizes": drawn(roi_sizes_figure(counts, split)),
        "split": drawn(split_figure(roles)),
    }


def class_ratio_png(counts: CohortCounts, labels: LabelMap, *, min_share: float) -> bytes:
    """The classes of one label map."""
    table = class_table(counts, labels, min_share=min_share)
    return drawn(class_ratio_figure(table, labels=labels.name, patch_px=counts.cut.patch_px, min_share=min_share))


def class_ratio_figure(table: Mapping[str, ClassCount], *, labels: str, patch_px: int, min_share: float) -> Figure:
    """Per class its share of the pixels, and of the patches; full colour where it is a patch's only class."""
    from matplotlib.patches import Patch

    figure = canvas(10.4, 1.5 + 0.42 * len(table))
    left, right = figure.subplots(1, 2, sharey=True)
    for row, (name, colour) in enumerate(class_colours(table).items()):
        found = table[name]
        pixels, patches = 100 * (found.pixel_share or 0.0), 100 * (found.patch_share or 0.0)
        alone = patches * (found.homogeneous_share or 0.0)
        fill = hex_colour(colour)
        left.barh(row, pixels, color=fill, edgecolor=EDGE, linewidth=0.5)
        right.barh(row, patches, color=fill, alpha=0.35, edgecolor=EDGE, linewidth=0.5)
        right.barh(row, alone, color=fill, edgecolor=EDGE, linewidth=0.5)
        _beside(left, row, pixels, f"{pixels:.1f} %  ({short_count(found.pixels)})")
        share = "" if found.homogeneous_share is None else f", alone in {100 * found.homogeneous_share:.0f} % of these"
        _beside(right, row, patches, f"{patches:.1f} %  ({short_count(found.patches)}){share}")
    left.set_yticks(range(len(table)), [spoken(name) for name in table], fontsize=9.5)
    left.invert_yaxis()
    widest = max(found.pixel_share or 0.0 for found in table.values())
    _dress(left, "pixels: % of the defined ones", widest=widest, room=1.45)
    widest = max(found.patch_share or 0.0 for found in table.values())
    _dress(right, f"patches of {patch_px} px: % that hold the class", widest=widest, room=1.75)
    marks = [
        Patch(facecolor=INK, label=f"the only class (no second one has {100 * min_share:g} %)"),
        Patch(facecolor=INK, alpha=0.35, label="beside others"),
    ]
    figure.legend(handles=marks, loc="outside lower right", ncols=2, fontsize=8.5, frameon=False)
    figure.suptitle(f"Class ratios, {labels}", fontsize=11, x=0.01, ha="left")
    return figure


def roi_sizes_figure(counts: CohortCounts, split: Split | None) -> Figure:
    """Height against width of every ROI by role, and how large they are."""
    figure = canvas(9.6, 4.0)
    points, areas = figure.subplots(1, 2)
    patch_px = counts.cut.patch_px
    groups = _groups(counts, split)
    for role, inside in groups.items():
        heights, widths = counts.sizes_R2[inside].T
        points.scatter(widths, heights, s=22, color=ROLE_GREYS[role], edgecolor=INK, linewidth=0.4, label=role)
    for line in (points.axvline, points.axhline):
        line(patch_px, color="#d55e00", linewidth=1, linestyle="--")
    points.set_xlim(0, 1.08 * max([patch_px, *counts.sizes_R2[:, 1]]))
    points.set_ylim(0, 1.16 * max([patch_px, *counts.sizes_R2[:, 0]]))
    points.set_xlabel("width (px)", fontsize=9)
    points.set_ylabel("height (px)", fontsize=9)
    small = int((counts.sizes_R2.min(axis=1) < patch_px).sum()) if len(counts.rois) else 0
    title = f"{len(counts.rois)} ROIs at {_resolutions(counts)}; {small} with a side under {patch_px} px (dashed)"
    points.set_title(title, fontsize=9.5, loc="left")
    areas.hist(
        [_areas_mm2(counts)[inside] for inside in groups.values()], bins=12, stacked=True,
        color=[ROLE_GREYS[role] for role in groups], edgecolor="white", linewidth=0.5, label=list(groups),
    )  # fmt: skip
    areas.set_xlabel("area (mm²)", fontsize=9)
    areas.set_ylabel("ROIs", fontsize=9)
    areas.yaxis.get_major_locator().set_params(integer=True)
    areas.set_title(f"{_areas_mm2(counts).sum():.3g} mm² in all", fontsize=9.5, loc="left")
    for axes in (points, areas):
        axes.tick_params(labelsize=8.5)
        axes.spines[["top", "right"]].set_visible(False)
    if split is not None:
        areas.legend(fontsize=8.5, frameon=False)
    return figure


def split_figure(roles: Sequence[RoleCount]) -> Figure:
    """How patients, ROIs, patches and pixels fall to the roles; then each role's classes and centres."""
    rows = roles[1:] or roles  # the first is all of them
    figure = canvas(12.2, 2.7 + 0.36 * len(rows))
    amounts, classes, centres = figure.subplots(1, 3, width_ratios=(1, 1.35, 1))
    numbers = {
        "patients": [row.patients for row in rows],
        "ROIs": [row.rois for row in rows],
        "patches": [row.patches for row in rows],
        "non-homogeneous\npatches": [row.non_homogeneous for row in rows],
        "pixels": [row.pixels for row in rows],
    }
    for place, counted in enumerate(numbers.values()):
        _stack(
            amounts, place, [(short_count(n), n, ROLE_GREYS[row.role]) for n, row in zip(counted, rows, strict=True)]
        )
    _name_rows(amounts, list(numbers), "share of each role, and counts")
    colours = {name: hex_colour(colour) for name, colour in class_colours(rows[0].classes).items()}
    hues = _centre_colours(rows)
    for place, row in enumerate(rows):
        _stack(
            classes, place, [(_percent(n, row.classes.values()), n, colours[name]) for name, n in row.classes.items()]
        )
        _stack(centres, place, [(f"{name} {n}", n, hues[name]) for name, n in row.centres.items()])
    _name_rows(classes, [row.role for row in rows], "classes: % of the role's defined pixels")
    _name_rows(centres, [row.role for row in rows], "centres: ROIs of each")
    _legend_below(amounts, {row.role: ROLE_GREYS[row.role] for row in rows})
    _legend_below(classes, {spoken(name): colour for name, colour in colours.items()})
    return figure


def _groups(counts: CohortCounts, split: Split | None) -> dict[str, NDArray[np.bool_]]:
    """(R,) which ROIs each role has; ROIs of patients in no role are left out."""
    if split is None:
        return {ALL: np.ones(len(counts.rois), dtype=bool)}
    groups = {role: frozenset(getattr(split, role)) for role in ROLES if getattr(split, role)}
    return {
        role: np.array([roi.patient in patients for roi in counts.rois], dtype=bool)
        for role, patients in groups.items()
    }


def _areas_mm2(counts: CohortCounts) -> NDArray[np.float64]:
    mpp = np.array([roi.mpp for roi in counts.rois], np.float64)
    return np.asarray(counts.sizes_R2.prod(axis=1) * (mpp / 1000) ** 2, np.float64)


def _resolutions(counts: CohortCounts) -> str:
    found = sorted({roi.mpp for roi in counts.rois})
    return f"{found[0]:g} µm/px" if len(found) == 1 else f"{found[0]:g} to {found[-1]:g} µm/px"


def _beside(axes: Axes, row: int, value: float, text: str) -> None:
    axes.annotate(text, (value, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8, color=INK)


def _dress(axes: Axes, title: str, *, widest: float, room: float) -> None:
    """`widest`: the longest bar, 0..1; `room`: how much wider the panel is, for the numbers beside the bars."""
    axes.set_title(title, fontsize=9.5, loc="left")
    axes.set_xlim(0, max(100 * widest, 1.0) * room)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= min(100, 110 * widest)])
    axes.tick_params(labelsize=8.5, length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def _stack(axes: Axes, row: int, parts: Sequence[tuple[str, float, str]]) -> None:
    """One bar from 0 to 1 of parts (text, amount, colour); a part too narrow for its text has none."""
    total, start = sum(amount for _, amount, _ in parts) or 1.0, 0.0
    for text, amount, colour in parts:
        share = amount / total
        axes.barh(row, share, left=start, height=0.66, color=colour, edgecolor="white", linewidth=0.8)
        if share >= MIN_LABELLED * max(1.0, len(text) / 3):
            ink = "white" if _is_dark(colour) else INK
            axes.text(start + share / 2, row, text, ha="center", va="center", fontsize=7.5, color=ink)
        start += share


def _name_rows(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9.5, loc="left")


def _legend_below(axes: Axes, colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    marks = [Patch(facecolor=colour, edgecolor=EDGE, label=name) for name, colour in colours.items()]
    axes.legend(
        handles=marks, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(len(marks), 4),
        fontsize=8.5, frameon=False, columnspacing=1.2,
    )  # fmt: skip


def _centre_colours(rows: Sequence[RoleCount]) -> dict[str, str]:
    """One colour per centre, the same in every role; names stand in the bars, so colours may come again."""
    names = sorted({name for row in rows for name in row.centres})
    return {name: PASTELS[place % len(PASTELS)] for place, name in enumerate(names)}


def _percent(part: int, parts: Iterable[int]) -> str:
    whole = sum(parts)
    return f"{100 * part / whole:.0f}" if whole else ""


def _is_dark(colour: str) -> bool:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 120
