"""What must go well before the first trial: weights from the hub, and parts that a person brings along."""

from __future__ import annotations

import shutil
from itertools import islice

from harness.config.cells import DataFacts, at_lower_ends, combinations, resolve, strata_of
from harness.config.imported import ImportedPart
from harness.config.space import SearchSpace
from harness.config.spec import TrialSpec
from harness.execute.base import Job
from harness.files import write_json
from harness.sweep.layout import GenerationFolder
from harness.sweep.vocabulary import hub_weights

# Enough combinations to meet every imported part with every label map and input size.
LOOKED_AT = 2000


def first_jobs(space: SearchSpace, facts: DataFacts, generation: GenerationFolder) -> list[Job]:
    """Jobs to be done before any trial is started."""
    jobs = [Job(generation.path, task="fetch", weights=weights) for weights in hub_weights(space)]
    specs = _specs_to_try(space, facts)
    shutil.rmtree(generation.tryouts, ignore_errors=True)
    for number, spec in enumerate(specs):
        write_json(generation.tryouts / f"{number}.json", spec.model_dump(mode="json"))
    return [*jobs, Job(generation.tryouts, task="try")] if specs else jobs


def _specs_to_try(space: SearchSpace, facts: DataFacts) -> list[TrialSpec]:
    """One spec for every imported part with every number of classes, treatment of label 0, and input size."""
    if not space.imports and not any(
        isinstance(part, ImportedPart) for part in (space.train.loss, space.train.augment)
    ):
        return []
    found: dict[tuple[object, ...], TrialSpec] = {}
    for stratum in strata_of(space):
        for cell in islice(combinations(space, stratum), LOOKED_AT):
            spec = resolve(space, facts, at_lower_ends(space, cell), seed=space.seed)
            for part in spec.imported_parts:
                met = (part, spec.classes, spec.train.undefined, spec.dataset.cut.input_px)
                found.setdefault(met, spec)
    return list({spec.fingerprint: spec for spec in found.values()}.values())
