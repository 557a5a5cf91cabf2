"""The regions that a sweep was run on, as they lie on disk now: the same ones, or the request is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.config.labels import LabelMap
from harness.config.space import PHANTOM, SearchSpace
from harness.config.spec import Split
from harness.data.splits import load_split, roles_of
from harness.data.tiger import Roi
from harness.errors import BadInput, Refused
from harness.report.wording import plural
from harness.sweep.layout import GenerationFolder, Home
from harness.sweep.prepare import Prepared, Steps, prepare_data
from harness.sweep.vocabulary import labels_in_use

SHOWN = 4  # names in one line


@dataclass(frozen=True, slots=True)
class Regions:
    """The usable regions of a sweep and what they are for."""

    sweep: str
    prepared: Prepared
    label_maps: tuple[LabelMap, ...]  # those in use, in the order of the file

    @property
    def every(self) -> tuple[Roi, ...]:
        """All usable regions, sorted by name; some may be in no role."""
        return self.prepared.checked.rois

    @property
    def split(self) -> Split:
        """Patients by role."""
        return self.prepared.facts.split

    @property
    def roles(self) -> dict[str, str]:
        """{patient: role}; a patient that the split does not name is in none."""
        return roles_of(self.split)

    def of_role(self, role: str) -> tuple[Roi, ...]:
        """The regions of `train`, `validation` or `test`."""
        patients = set(getattr(self.split, role))
        return tuple(roi for roi in self.every if roi.patient in patients)

    def size_px(self, roi: Roi) -> tuple[int, int]:
        """(width, height) of a region at its own resolution."""
        facts = self.prepared.checked.facts[roi.name]
        return facts.width_px, facts.height_px


def regions_of_space(space: SearchSpace, home: Home, steps: Steps) -> Regions:
    """The regions and the split that a sweep of this space would have. BadInput lists every defect."""
    return Regions(space.name, prepare_data(space, home, steps), tuple(labels_in_use(space)))


def regions_of_sweep(generation: GenerationFolder, home: Home, steps: Steps) -> Regions:
    """The regions of a sweep's generation. Refused, with what changed, when they are not what it was run on."""
    document = generation.read_space()
    space = _as_recorded(generation, document)
    name = str(document["name"])
    try:
        prepared = prepare_data(space, home, steps)
    except BadInput as error:
        raise Refused("\n".join([_refusal(name, generation), *error.problems])) from None
    split = load_split(generation.split_file)
    same = prepared.facts.data_hash == document["data"]["hash"] and roles_of(prepared.facts.split) == roles_of(split)
    if not same:
        raise Refused("\n".join([_refusal(name, generation), *_changes(document, prepared, split)]))
    return Regions(name, prepared, tuple(labels_in_use(space)))


def _as_recorded(generation: GenerationFolder, document: Mapping[str, Any]) -> SearchSpace:
    """The space with the paths of its data made independent of the working directory."""
    space = generation.search_space()
    changes: dict[str, Any] = {}
    if space.data.root != PHANTOM:  # a phantom is found, or painted again, in whatever home this is
        changes["root"] = str(document["data"]["root"])
    if space.data.split.file is not None:
        changes["split"] = space.data.split.model_copy(update={"file": str(generation.split_file)})
    return space.model_copy(update={"data": space.data.model_copy(update=changes)})


def _refusal(name: str, generation: GenerationFolder) -> str:
    return (
        f"the data of {name} (generation {generation.number}) are not what it was run on, so nothing that is scored "
        "now could be compared with it; bring them back, or run the sweep again"
    )


def _changes(document: Mapping[str, Any], prepared: Prepared, split: Split) -> Iterator[str]:
    """What can be told of a change: the sweep keeps counts, patients and one hash, not a hash of each file."""
    then, rois = document["data"], prepared.checked.rois
    if then["rois"] != len(rois):
        yield f"  {plural(len(rois), 'usable region')} now, {then['rois']} then"
    before, now = roles_of(split), roles_of(prepared.facts.split)
    gone, new = sorted(before.keys() - now.keys()), sorted(now.keys() - before.keys())
    moved = sorted(patient for patient in before.keys() & now.keys() if before[patient] != now[patient])
    for what, patients in (("gone", gone), ("new", new), ("in another role", moved)):
        if patients:
            yield f"  patients {what}: {_shown(patients)}"
    if changed := _changed_since(rois, str(document["created"])):
        yield f"  changed since the sweep was started, newest first: {_shown(changed)}"
    if then["hash"] != prepared.facts.data_hash:
        yield f"  data hash {prepared.facts.data_hash[:12]} now, {then['hash'][:12]} then (names, patients, bytes)"


def _changed_since(rois: Sequence[Roi], created: str) -> list[str]:
    since = datetime.fromisoformat(created).timestamp()
    times = {path: _changed_s(path) for roi in rois for path in (roi.image, roi.mask)}
    newest = sorted((path for path in times if times[path] > since), key=lambda path: (-times[path], path))
    return [str(path) for path in newest]


def _changed_s(path: Path) -> float:
    # The change time as well: copying tools set the modification time back.
    return max(path.stat().st_mtime, path.stat().st_ctime)


def _shown(names: Sequence[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
