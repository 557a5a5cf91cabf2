"""What must go well before the first trial: weights from the hub, and parts that a person brings along."""

from __future__ import annotations

import shutil
from itertools import islice

from harness.config.cells import DataFacts, at_lower_ends, combinations, resolve, strata_of
from harness.config.imported import ImportedPart
from harness.config.knobs import IMPORTABLE, label_of
from harness.config.space import SearchSpace
from harness.config.spec import TrialSpec
from harness.execute.base import Job
from harness.files import write_json
from harness.sweep.layout import GenerationFolder
from harness.sweep.vocabulary import hub_weights

# What decides how an imported part is called, beside the part.
_MET = (*sorted(IMPORTABLE), "labels", "undefined", "patch_px", "input_px")
# Combinations of a stratum, when rules or conditions speak of so many knobs that not all can be looked at.
LOOKED_AT = 20_000


def first_jobs(space: SearchSpace, facts: DataFacts, generation: GenerationFolder) -> list[Job]:
    """Jobs to be done before any trial is started."""
    jobs = [Job(generation.path, task="fetch", weights=weights) for weights in hub_weights(space)]
    specs = specs_to_try(space, facts)
    shutil.rmtree(generation.tryouts, ignore_errors=True)
    for number, spec in enumerate(specs):
        write_json(generation.tryouts / f"{number}.json", spec.model_dump(mode="json"))
    return [*jobs, Job(generation.tryouts, task="try")] if specs else jobs


def specs_to_try(space: SearchSpace, facts: DataFacts) -> list[TrialSpec]:
    """One spec for every imported part with every number of classes, treatment of label 0, and input size."""
    if not space.imports and not any(
        isinstance(part, ImportedPart) for part in (space.train.loss, space.train.augment)
    ):
        return []
    found: dict[tuple[object, ...], TrialSpec] = {}
    looked_at: set[tuple[object, ...]] = set()
    small = _without_bystanders(space)
    for stratum in strata_of(small):
        for cell in islice(combinations(small, stratum), LOOKED_AT):
            known = tuple(label_of(cell.get(name)) for name in _MET)
            if known in looked_at:
                continue
            looked_at.add(known)
            spec = resolve(space, facts, at_lower_ends(space, cell), seed=space.seed)
            for part in spec.imported_parts:
                met = (part, spec.classes, spec.train.undefined, spec.dataset.cut.input_px)
                found.setdefault(met, spec)
    return list({spec.fingerprint: spec for spec in found.values()}.values())


def _without_bystanders(space: SearchSpace) -> SearchSpace:
    """The space with one value of each parameter that decides neither a part's call nor whether a combination is valid:
    they would multiply the combinations by thousands."""
    spoken_of = {name for rule in space.parsed_rules for name in rule.names}
    spoken_of |= {name for parameter in space.parameters.values() for name in parameter.when}
    parameters = {
        name: parameter
        if parameter.is_range or name in spoken_of.union(_MET)
        else parameter.model_copy(update={"values": parameter.choices[:1], "value": None})
        for name, parameter in space.parameters.items()
    }
    return space.model_copy(update={"parameters": parameters})
