"""`harness data`: make, check, count and draw regions."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli_base import Group
from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.config.labels import LabelMap
    from harness.config.spec import Cut, Split
    from harness.data.check import Checked


@click.group(cls=Group)
def data() -> None:
    """Make, check, count and draw regions."""


ROOT = click.argument("root", type=click.Path(path_type=Path, exists=True))
REGEX = click.option(
    "--patient-regex",
    help="For names that are not TIGER's: a regular expression with one group, the patient.",
)
LABELS = click.option(
    "--labels",
    default="tiger7",
    show_default=True,
    metavar="MAP",
    help="tiger7, unicorn3, ..., or a search space's: mine.yaml, mine.yaml:name.",
)
PATCH = click.option(
    "--patch-px", type=click.IntRange(16, 8192), default=256, show_default=True, help="Side of a patch."
)
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the pictures go (default: reports/data/<name of ROOT>).",
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, for scripts.")


@data.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--patients", type=click.IntRange(4, 2000), default=24, show_default=True)
@click.option(
    "--roi-px",
    type=click.IntRange(128, 4096),
    default=320,
    show_default=True,
    help="Typical side of a region.",
)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True)
def synth(out: Path, patients: int, roi_px: int, seed: int) -> None:
    """Paint a synthetic H&E-like cohort in TIGER's layout into OUT; the same seed gives the same bytes.

    \b
    harness data synth data/phantom --patients 40
    """
    from harness.data.phantom import Phantom, synthesize
    from harness.sweep.progress import Screen

    screen = Screen()
    with screen.step(f"painting {patients} patients") as on_progress:
        root = synthesize(out, Phantom(seed=seed, patients=patients, roi_px=roi_px), on_progress=on_progress)
    click.echo(f"wrote {root}; next: harness data stats {root}")


@data.command()
@ROOT
@click.option(
    "--split",
    "split_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A split.json: pairs of regions that its roles part are defects, not notices.",
)
@click.option("--labels", metavar="MAP", help="Ids of this label map may occur, too (in a manifest.csv: only they).")
@REGEX
@JSON
def check(root: Path, split_file: Path | None, labels: str | None, patient_regex: str | None, as_json: bool) -> None:
    """Read every image and mask under ROOT (holds wsirois/ or manifest.csv), and list every defect; exit 2 if any.

    The kinds are numbered: docs/data.md.

    \b
    harness data check data/tiger --split split.json
    """
    from harness.cli_text import check_document, check_text
    from harness.data.relations import judge_pairs, split_defects
    from harness.data.splits import load_split, patients_without_role, roles_of, split_problems

    checked = _checked(root, patient_regex, _label_map(labels).known_ids if labels else None)
    problems, roleless = [], []
    if split_file is None:
        judged = judge_pairs(checked, {})
    else:
        split = load_split(split_file)
        judged = judge_pairs(checked, roles_of(split))
        judged = replace(judged, defects=(*split_defects(split_file, split), *judged.defects))
        problems = [f"{split_file}: {problem}" for problem in split_problems(split, checked.patients)]
        roleless = patients_without_role(split, checked.patients)
    if as_json:
        document = check_document(judged, root, problems, roleless)
        click.echo(json.dumps(document, indent=1))
    else:
        click.echo(check_text(judged, problems, roleless))
    if judged.defects or problems:
        sys.exit(BadInput.exit_code)


@data.command()
@ROOT
@LABELS
@PATCH
@click.option("--split", "split_file", type=click.Path(path_type=Path, dir_okay=False), help="A saved split.json.")
@click.option("--validation", type=click.FloatRange(0, 1, True, True), help="Share of patients.  [default: 0.2]")
@click.option("--split-seed", type=click.IntRange(min=0), default=11, show_default=True)
@OUT
@REGEX
@JSON
def stats(
    root: Path, labels: str, patch_px: int, split_file: Path | None, validation: float | None, split_seed: int,
    out: Path | None, patient_regex: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Count and draw regions, patients, centres, classes, patches and a split of the data under ROOT.

    The split is the one that a sweep with the same share and seed would make.

    \b
    harness data stats data/tiger --labels unicorn3 --validation 0.25
    """
    from harness.cli_text import stats_text
    from harness.data.cohort import layout_of
    from harness.data.stats import cohort_stats, count_cohort, labelled_stats
    from harness.explore.cohort import cohort_pngs
    from harness.files import write_bytes
    from harness.sweep.progress import Screen

    if split_file and validation is not None:
        raise BadInput("--split and --validation: give one of them")
    label_map, cut, screen = _label_map(labels), _cut(patch_px), Screen()
    checked = _usable(root, patient_regex, labels)
    with screen.step(f"cutting {len(checked.rois)} masks") as on_progress:
        counts = count_cohort(checked.rois, cut, on_progress=on_progress)
    split = _split(counts.presence, split_file, validation, split_seed)
    document = {**cohort_stats(checked), **labelled_stats(counts, label_map, split, min_share=_min_share())}
    folder = out or _folder(root)
    with screen.step(f"drawing into {folder}"):
        pngs = cohort_pngs(counts, label_map, split, min_share=_min_share())
        for name, png in pngs.items():
            write_bytes(folder / f"{name}.png", png)
    files = [str(folder / f"{name}.png") for name in pngs]
    if as_json:
        click.echo(
            json.dumps({"schema": "harness.stats/1", "root": str(root), **document, "pictures": files}, indent=1)
        )
    else:
        is_tiger = layout_of(root) == "tiger"
        left_out = _left_out_line(checked, root, labels)
        click.echo(stats_text(document, labels=label_map, is_tiger=is_tiger, left_out=left_out))
        click.echo(f"drawn: {', '.join(files)}")


@data.command()
@ROOT
@LABELS
@PATCH
@click.option("--rois", type=click.IntRange(1, 60), default=6, show_default=True, help="Regions to draw.")
@click.option(
    "--augment",
    type=click.Choice(["paper", "histology", "none"]),
    default="paper",
    show_default=True,
    help="The policy whose patches are drawn.",
)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Of the augmentation.")
@OUT
@REGEX
def preview(
    root: Path, labels: str, patch_px: int, rois: int, augment: str, seed: int, out: Path | None,
    patient_regex: str | None,
) -> None:  # fmt: skip
    """Draw regions with their labels, and patches as a policy augments them: image and mask side by side.

    A patch is shown as a sweep with this seed and patch size trains on it in its first epochs.

    \b
    harness data preview data/tiger --augment histology --labels unicorn3
    """
    from harness.data.stats import count_cohort
    from harness.explore.samples import augmented_png, labelled_png
    from harness.files import write_bytes
    from harness.sweep.progress import Screen

    label_map, cut, folder = _label_map(labels), _cut(patch_px), out or _folder(root)
    checked = _usable(root, patient_regex, labels)
    with Screen().step(f"drawing into {folder}") as on_progress:
        counts = count_cohort(checked.rois, cut, on_progress=on_progress)
        pngs = {
            "labelled_samples": labelled_png(counts, label_map, number=rois),
            f"augmented_samples_{augment}": augmented_png(counts, label_map, augment, seed=seed, patients=None),
        }
        for name, png in pngs.items():
            write_bytes(folder / f"{name}.png", png)
    if left_out := _left_out_line(checked, root, labels):
        click.echo(left_out)
    click.echo(f"drawn: {', '.join(str(folder / f'{name}.png') for name in pngs)}")


def _label_map(text: str) -> LabelMap:
    """A label map that comes along, or one of a search space: `mine.yaml` (its first), `mine.yaml:name`."""
    from harness.config.base import choose_from
    from harness.config.labels import BUILTIN
    from harness.config.load import load_space

    if text in BUILTIN:
        return BUILTIN[text]
    file, _, name = text.partition(":")
    if not Path(file).is_file():
        raise BadInput(f"--labels: {text!r} is neither a file nor a label map; {choose_from(text, BUILTIN)}")
    maps = load_space(Path(file)).labels
    if name and name not in maps:
        raise BadInput(f"--labels: {file} has no label map {name!r}; {choose_from(name, maps)}")
    return maps[name or next(iter(maps))]


def _cut(patch_px: int) -> Cut:
    """Side by side, at the regions' own resolution: what a search space that says no more gets."""
    from harness.config.spec import Cut

    return Cut(patch_px=patch_px, input_px=patch_px, stride=patch_px)


def _min_share() -> float:
    from harness.config.space import DataSource

    return float(DataSource.model_fields["min_share"].default)


def _folder(root: Path) -> Path:
    from harness.files import safe_name

    return Path("reports") / "data" / safe_name(root.resolve().name)


def _split(
    presence: Mapping[str, frozenset[int]], file: Path | None, validation: float | None, seed: int
) -> Split | None:
    """The split asked for; None for a single patient when none was asked for."""
    from harness.config.space import SplitRule
    from harness.data.splits import make_split, read_split

    if file is not None:
        return read_split(file, presence)
    if validation is None and len(presence) < 2:
        return None
    share = SplitRule().validation if validation is None else validation
    return make_split(presence, validation=share, seed=seed)


def _usable(root: Path, patient_regex: str | None, labels: str) -> Checked:
    """The data checked for the ids of a label map; BadInput when no region is left."""
    checked = _checked(root, patient_regex, _label_map(labels).known_ids)
    if not checked.rois:
        command = _check_command(root, labels)
        raise BadInput(f"{root}: no usable region is left; `{command}` lists what is wrong")
    return checked


def _left_out_line(checked: Checked, root: Path, labels: str) -> str:
    """What to say below counts and pictures that are not of all regions; empty when they are."""
    from harness.report.wording import plural

    if not checked.defects:
        return ""
    regions = plural(len({defect.roi for defect in checked.defects}), "region")
    return f"left out: {regions} with defects; `{_check_command(root, labels)}` lists them"


def _check_command(root: Path, labels: str) -> str:
    """With the label map: in a table it decides which ids are known."""
    return f"harness data check {shlex.quote(str(root))} --labels {shlex.quote(labels)}"


def _checked(root: Path, patient_regex: str | None, known_ids: frozenset[int] | None = None) -> Checked:
    """Every region read. `known_ids` may occur; in TIGER's layout TIGER's, too; in a table without them, any."""
    from harness.config.labels import TIGER_IDS
    from harness.data.check import check_cohort
    from harness.data.cohort import layout_of, read_cohort
    from harness.sweep.progress import Screen

    every = frozenset(TIGER_IDS) if layout_of(root) == "tiger" else frozenset()
    known = every | known_ids if known_ids else every or frozenset(range(256))
    rois = read_cohort(root, patient_regex=patient_regex)
    with Screen().step(f"reading {len(rois)} regions") as on_progress:
        return check_cohort(rois, known_ids=known, on_progress=on_progress)
