"""What trials and jobs are called on the screen: as in MLflow."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.space import SearchSpace
from harness.execute.base import Job
from harness.sweep.layout import GenerationFolder
from harness.sweep.ledger import Record
from harness.tracking.naming import run_name
from harness.trial.folder import TrialFolder


class Titles:
    """Names of a generation's trials; each spec is read once."""

    def __init__(self, space: SearchSpace, generation: GenerationFolder) -> None:
        self._varied = frozenset(name for name, p in space.parameters.items() if p.is_range or len(p.choices) > 1)
        self._trials = generation.trials
        self._known: dict[str, str] = {}

    def of(self, record: Record) -> str:
        """Such as `attention_unet·b0·unicorn3/all·256·1e-3`."""
        if record.uid not in self._known:
            fixed = TrialFolder(self._trials / record.uid).read_spec().parameters()
            varied = {name: value for name, value in record.parameters.items() if name in self._varied}
            seed = record.seed if record.replicate_of else None
            self._known[record.uid] = run_name({**fixed, **record.parameters}, varied=varied, seed=seed)
        return self._known[record.uid]

    def of_job(self, job: Job, records: Mapping[str, Record]) -> str:
        """The trial's name, and what is done to it unless it is trained."""
        if job.weights is not None:
            return f"fetching {job.weights[1]} weights of {job.weights[0]}"
        if job.task == "try":
            return "trying imported parts"
        if job.task == "sketch":
            return "drawing data and networks"
        title = self.of(records[job.folder.name])
        return f"exporting {title}" if job.task == "export" else title
