"""Before the first trial: the data found and checked, patients split, the generation's folder written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock

from harness.config.cells import DataFacts
from harness.config.labels import TIGER_IDS, UNDEFINED
from harness.config.space import PHANTOM, DataSource, SearchSpace
from harness.config.spec import Split
from harness.data.check import Checked, check_cohort, left_out
from harness.data.cohort import ids_source, layout_of, read_cohort
from harness.data.phantom import Phantom, synthesize
from harness.data.relations import judge_pairs, notice_lines
from harness.data.splits import make_split, only, patients_without_role, read_split, roles_of, write_split
from harness.data.tiger import Roi
from harness.errors import BadInput
from harness.files import fingerprint, sha256_file, write_json
from harness.sweep.layout import GenerationFolder, Home, SweepFolder
from harness.sweep.ledger import now
from harness.sweep.vocabulary import labels_in_use
from harness.tracking.store import printable

OnProgress = Callable[[int, int], None]


class Steps(Protocol):
    """Shows people that something is going on."""

    def step(self, title: str) -> AbstractContextManager[OnProgress]:
        """Announce a step; call what it yields with (done, total)."""

    def note(self, text: str) -> None:
        """One line for people."""


@dataclass(frozen=True)
class Prepared:
    """Everything about the data that a sweep's trials need."""

    facts: DataFacts
    checked: Checked
    summary: Mapping[str, Any]


def prepare_data(space: SearchSpace, home: Home, steps: Steps) -> Prepared:
    """Find, check and split the data; BadInput lists every defect (unless `on_defect: quarantine`)."""
    root = data_root(space.data, home, steps)
    listed = read_cohort(root, patient_regex=space.data.patient_regex)
    rois = _limited(listed, space.data.limit_rois)
    labels = labels_in_use(space)
    source = ids_source(space.data)
    ids = frozenset(TIGER_IDS) if source == "tiger" else frozenset({UNDEFINED})
    known = ids.union(*(label_map.known_ids for label_map in labels))
    cache = home.checks / f"{fingerprint(str(root))[:16]}.json"
    with steps.step(f"checking {len(rois)} regions") as on_progress:
        checked = check_cohort(rois, known_ids=known, on_progress=on_progress, cache=cache)
    split, checked = _split_and_judged(space, checked, {roi.patient for roi in listed})
    _check_labels(space, checked)
    for line in notice_lines(checked.notices):
        steps.note(f"{line} (harness data check lists them)")
    quarantined = tuple(sorted({roi.name for roi in listed} - {roi.name for roi in checked.rois}))
    present = {source_id for facts in checked.facts.values() for source_id in facts.label_counts}
    facts = DataFacts(
        root=str(root),
        data_hash=checked.data_hash,
        source=source,
        source_ids=tuple(sorted(present | (ids if source == "tiger" else known))),
        quarantined=quarantined,
        split=split,
    )
    _check_objective(space, checked, split)
    summary = _summary(facts, checked, listed, limited=len(listed) - len(rois))
    return Prepared(facts, checked, summary)


def data_root(data: DataSource, home: Home, steps: Steps) -> Path:
    """The folder of the data; the phantom is made on first use."""
    if data.root != PHANTOM:
        refuse_missing_root(data)
        return Path(data.root).expanduser().resolve()
    chosen = data.phantom
    phantom = Phantom(seed=chosen.seed, patients=chosen.patients, roi_px=chosen.roi_px, tiny_share=chosen.tiny_share)
    root = home.phantoms / fingerprint([chosen.model_dump(), version("tissue-sweep-harness")])[:16]
    home.phantoms.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_suffix(".lock")):
        if not root.exists():
            with steps.step(f"painting a synthetic cohort of {phantom.patients} patients") as on_progress:
                synthesize(root, phantom, on_progress=on_progress)
    return root


def refuse_missing_root(data: DataSource) -> None:
    """BadInput when the data are not there; says where TIGER is to be had, and what to try without it."""
    if data.root != PHANTOM:
        layout_of(Path(data.root).expanduser().resolve())


def generation_key(space: SearchSpace, prepared: Prepared) -> str:
    """Hash of what a generation computes: budgets and names are not part of it, pixels and patients are."""
    return fingerprint([space.key, prepared.facts.data_hash, prepared.facts.split.model_dump()])


def open_generation(
    sweep: SweepFolder, space: SearchSpace, prepared: Prepared, *, yaml: str, command: Sequence[str]
) -> GenerationFolder:
    """The generation of this space and data: the one there, or a new one. Notes how it was started."""
    key = generation_key(space, prepared)
    generation = sweep.generation_for(key)
    generation.trials.mkdir(parents=True, exist_ok=True)
    write_split(generation.split_file, prepared.facts.split)
    earlier = generation.read_space() if generation.space_file.exists() else {}
    document = {
        "name": space.name,
        "generation": generation.number,
        "key": key,
        "created": earlier.get("created") or now(),
        "command": [printable(argument) for argument in command],
        "yaml": yaml,
        "space": space.model_dump(mode="json"),
        "data": prepared.summary,
        "revision": revision(),
        "harness_version": version("tissue-sweep-harness"),
        "constraints_sha256": constraints_hash(),
        "reference_rows": [reference.model_dump(mode="json") for reference in space.references],
    }
    write_json(generation.space_file, document)
    sweep.remember_last(generation)
    return generation


def revision() -> str | None:
    """The commit of the checkout this package runs from, with `+changes` if it was edited; None outside one."""
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=source, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    return f"{commit}+changes" if commit and git("status", "--porcelain", "--untracked-files=no") else commit


def constraints_hash() -> str | None:
    """sha256 of the checkout's constraints.txt; None outside a checkout."""
    file = Path(__file__).resolve().parents[2] / "constraints.txt"
    return sha256_file(file) if file.is_file() else None


def _limited(rois: Sequence[Roi], limit: int | None) -> tuple[Roi, ...]:
    """At most `limit` ROIs, taken in turn from every patient, so that few of them still cover many patients."""
    if limit is None or limit >= len(rois):
        return tuple(rois)
    by_patient: dict[str, list[Roi]] = {}
    for roi in rois:
        by_patient.setdefault(roi.patient, []).append(roi)
    in_turn = [roi for turn in zip_longest(*by_patient.values()) for roi in turn if roi is not None]
    return tuple(sorted(in_turn[:limit], key=lambda roi: roi.name))


def _check_labels(space: SearchSpace, checked: Checked) -> None:
    """Every source id in the data is in a class of every label map in use, or among its ignored ids."""
    masks = {roi.name: roi.mask for roi in checked.rois}
    problems = []
    for label_map in labels_in_use(space):
        found: dict[int, list[str]] = {}
        for name, facts in sorted(checked.facts.items()):
            for source_id in set(facts.label_counts) - label_map.known_ids:
                found.setdefault(source_id, []).append(name)
        for source_id, names in sorted(found.items()):
            more = f" (and {len(names) - 1} more masks)" if len(names) > 1 else ""
            problems.append(
                f"{masks[names[0]]}{more}: source id {source_id} is in no class of {label_map.name}; "
                f"add it to a class or to `ignore_ids: [{source_id}]`"
            )
    if problems:
        raise BadInput(problems)


def _split_and_judged(space: SearchSpace, checked: Checked, patients: set[str]) -> tuple[Split, Checked]:
    """The split, and the cohort with pairs of regions judged by it. BadInput lists the defects that stop the sweep.

    `patients` are all there are; a saved split may name some whose regions were all left out.
    """
    stops = space.data.on_defect == "stop"
    try:
        split = _split(space, checked, patients)
    except BadInput as error:
        raise BadInput([*(str(defect) for defect in checked.defects if stops), *error.problems]) from None
    judged = judge_pairs(checked, roles_of(split))
    if judged.defects and stops:
        related = len(judged.defects) > len(checked.defects)
        ways = "mend them" + (", give related patients one role (data.split.file)" if related else "")
        raise BadInput([
            *(str(defect) for defect in judged.defects),
            f"{space.data.root}: {len(judged.defects)} defects; "
            f"{ways}, or leave them out by data.on_defect: quarantine",
        ])  # fmt: skip
    usable = only(split, {roi.patient for roi in judged.rois})
    for role in ("train", "validation"):
        if not getattr(usable, role):
            raise BadInput(f"data.split: nobody with a usable region is in {role!r}")
    return usable, judged


def _split(space: SearchSpace, checked: Checked, patients: set[str]) -> Split:
    rule = space.data.split
    if rule.file is not None:
        return read_split(Path(rule.file).expanduser(), patients)
    return make_split(checked.presence, validation=rule.validation, test=rule.test, seed=rule.seed)


def _check_objective(space: SearchSpace, checked: Checked, split: Split) -> None:
    """BadInput when the objective would be n/a because a class it needs is in no validation ROI."""
    presence = checked.presence
    present: set[int] = set().union(*(presence[patient] for patient in split.validation))
    name = space.objective.metric.rsplit("/", 1)[-1]
    for label_map in labels_in_use(space):
        needed: list[tuple[str, Iterable[int]]] = [
            (class_name, ids)
            for class_name, ids in label_map.classes.items()
            if name in (f"iou_{class_name}", f"dice_{class_name}")
        ]
        if name.startswith("yardstick"):
            needed = [("tumor", (1, 3)), ("stroma", (2, 6))]
        for class_name, ids in needed:
            if not present & set(ids):
                raise BadInput(
                    f"objective.metric: {space.objective.metric!r} would be n/a: no validation region holds "
                    f"{class_name}; choose another metric or another split (data.split.seed)"
                )


def _summary(facts: DataFacts, checked: Checked, listed: Sequence[Roi], *, limited: int) -> dict[str, Any]:
    """What reports say about the data."""
    unknown = sorted({roi.slide for roi in checked.rois if not roi.patient_known})
    flags = []
    if unknown:
        flags.append(
            f"{len(unknown)} slides count as patients: their names do not tell the patient (data.patient_regex)"
        )
    if limited:
        flags.append(f"{limited} regions left out by data.limit_rois")
    if checked.defects:
        flags.append(f"{len({d.file for d in checked.defects})} files with defects: their regions are quarantined")
    roleless = patients_without_role(facts.split, {roi.patient for roi in checked.rois})
    if roleless:
        flags.append(f"patients in no role, because data.split.file does not name them: {len(roleless)}")
    flags += notice_lines(checked.notices)
    centres: dict[str, int] = {}
    for roi in checked.rois:
        centres[roi.centre] = centres.get(roi.centre, 0) + 1
    return {
        "root": facts.root,
        "hash": facts.data_hash,
        "rois": len(checked.rois),
        "patients": len({roi.patient for roi in checked.rois}),
        "centres": centres,
        "split": facts.split.model_dump(mode="json"),
        "quarantined": left_out(listed, checked.defects),
        "flags": flags,
    }
