"""What a run shows, computed from a trial's files: parameters, tags, points, datasets. Sends nothing."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from harness.config.knobs import label_of
from harness.config.spec import TrialSpec
from harness.files import fingerprint, read_json
from harness.tracking.naming import run_name
from harness.tracking.points import is_number, milliseconds
from harness.tracking.store import printable
from harness.tracking.tracker import DatasetUse, Point, Status, storable_key

# A pruned run is KILLED: then `attributes.status = 'FINISHED'` lists exactly the runs that rank.
STATUS: Mapping[str, Status] = {
    "waiting": "SCHEDULED",
    "running": "RUNNING",
    "paused": "SCHEDULED",
    "complete": "FINISHED",
    "pruned": "KILLED",
    "failed": "FAILED",
}
ENDED = frozenset({"complete", "pruned", "failed"})

_TOP_FILES = (
    "result.json",
    "scores.json",
    "spec.json",
    "environment.json",
    "model.json",
    "weights.safetensors",
)


class AttemptFiles(Protocol):
    """One start of a worker."""

    @property
    def number(self) -> int:
        """1, 2, ..."""

    def read_events(self) -> list[dict[str, Any]]:
        """All whole events, in order."""


class TrialFiles(Protocol):
    """The files of one trial; `harness.trial.folder.TrialFolder` is one."""

    @property
    def path(self) -> Path:
        """The trial's folder."""

    @property
    def state_file(self) -> Path:
        """The controller's word on the trial."""

    @property
    def spec_file(self) -> Path:
        """The resolved spec."""

    @property
    def mlflow_model(self) -> Path:
        """The exported model, if there is one."""

    def attempts(self) -> Sequence[AttemptFiles]:
        """All attempts, oldest first."""


@dataclass(frozen=True, slots=True)
class SweepView:
    """A generation of a sweep, from its `space.json`."""

    folder: Path
    document: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> SweepView:
        """OSError or ValueError when there is no readable space.json."""
        return cls(folder, read_json(folder / "space.json"))

    @property
    def name(self) -> str:
        """The sweep's name: the experiment's."""
        return str(self.document["name"])

    @property
    def uid(self) -> str:
        """Tells this generation from any other, also from one of the same name in another home."""
        return fingerprint([self.name, self.document["generation"], str(self.document.get("created"))])[:16]

    @property
    def number(self) -> int:
        """The generation's number: 1, 2, ..."""
        return int(self.document["generation"])

    @property
    def varied(self) -> frozenset[str]:
        """Names of the parameters that are searched, not fixed."""
        parameters = self.document.get("space", {}).get("parameters", {})
        return frozenset(
            name
            for name, knob in parameters.items()
            if knob.get("min") is not None or len(knob.get("values") or ()) > 1
        )

    @property
    def strata_axes(self) -> frozenset[str]:
        """Names of the axes whose combinations are the strata."""
        return frozenset(self.document.get("space", {}).get("strata") or ())

    @property
    def label_maps(self) -> int:
        """How many label maps its trials have; scores of different maps are not one ranking."""
        space = self.document.get("space", {})
        searched = (space.get("parameters", {}).get("labels") or {}).get("values")
        return max(1, len((space.get("strata") or {}).get("labels") or ()), len(searched or ()))

    @property
    def objective(self) -> str:
        """The metric that the search goes by."""
        return str((self.document.get("space", {}).get("objective") or {}).get("metric", "val/iou"))

    @property
    def goal(self) -> str:
        """maximize or minimize."""
        return str((self.document.get("space", {}).get("objective") or {}).get("goal", "maximize"))

    @property
    def start_ms(self) -> int:
        """When the generation was created."""
        return milliseconds(self.document.get("created")) or 0

    def tags(self) -> dict[str, str]:
        """The parent run's tags, with a description that MLflow shows above the charts."""
        data = self.document.get("data", {})
        facts = {
            "generation": self.document["generation"],
            "data_hash": data.get("hash"),
            "harness_version": self.document.get("harness_version"),
            "constraints_sha256": self.document.get("constraints_sha256"),
            "mlflow.source.name": "harness sweep",
            "mlflow.source.git.commit": self.document.get("revision"),
            "folder": str(self.folder),
            "mlflow.note.content": self._note(data),
        }
        return as_tags(facts)

    def experiment_tags(self) -> dict[str, str]:
        """The experiment's description."""
        return {"mlflow.note.content": f"The sweep **{self.name}**. Under *Views*: the trials of each generation."}

    def params(self) -> dict[str, str]:
        """The few settings of the search itself."""
        space = self.document.get("space", {})
        facts = {
            "method": space.get("method"),
            "seed": space.get("seed"),
            "objective": (space.get("objective") or {}).get("metric"),
            "trials_per_stratum": (space.get("budget") or {}).get("trials"),
            "prune": (space.get("prune") or {}).get("type"),
        }
        return {key: str(value) for key, value in facts.items() if value is not None}

    def _note(self, data: Mapping[str, Any]) -> str:
        command = " ".join(map(str, self.document.get("command", ())))
        rois, patients = (
            len(value) if isinstance(value, list | dict) else value
            for value in (data.get("rois"), data.get("patients"))
        )
        lines = [
            f"**{self.name}**, generation {self.document['generation']}: {rois} ROIs of {patients} patients.",
            "One nested run per trial. Metrics without a folder: its best epoch. `val/`, `train/`: curves.",
            f"All trials side by side, with charts: Runs, then Views, then *g{self.document['generation']}*.",
            f"The report: the file `report/index.html` under Artifacts; anew by `harness report {self.name}`.",
            f"`{printable(command)}`" if command else "",
        ]
        return "\n\n".join(line for line in lines if line)

    def summary_points(self) -> list[Point]:
        """How many trials ended how, and the best objective of each stratum; the same again until a trial ends."""
        states = [state for state in self._trial_states() if state["state"] in ENDED]
        time_ms = max((milliseconds(state.get("finished")) or 0 for state in states), default=self.start_ms)
        counts = Counter(str(state["state"]) for state in states)
        values: dict[str, float] = {name: float(counts[name]) for name in sorted(ENDED)}
        best = max if self.goal == "maximize" else min
        for state in states:
            key, value = storable_key(f"best/{state['stratum']}"), state.get("value")
            if state["state"] == "complete" and is_number(value) and not state.get("replicate_of"):
                values[key] = best(value, values.get(key, value))
        return [Point(key, value, len(states), time_ms) for key, value in values.items()]

    def _trial_states(self) -> Iterator[Mapping[str, Any]]:
        for file in sorted(self.folder.glob("trials/*/trial.json")):
            yield read_json(file)


@dataclass(frozen=True, slots=True)
class TrialView:
    """A trial as its files say it is now."""

    files: TrialFiles
    state: Mapping[str, Any]
    spec: TrialSpec

    @classmethod
    def read(cls, files: TrialFiles) -> TrialView:
        """OSError or ValueError when the folder has no readable trial.json or spec.json."""
        spec = TrialSpec.model_validate(read_json(files.spec_file))
        return cls(files, read_json(files.state_file), spec)

    @property
    def ended(self) -> bool:
        """Whether the controller has closed the trial."""
        return self.state["state"] in ENDED

    def name(self, varied: frozenset[str]) -> str:
        """The run's name."""
        chosen = self.state.get("parameters", {})
        seed = self.spec.seed if self.state.get("replicate_of") else None
        return run_name(
            {**self.spec.parameters(), **chosen},
            varied={k: v for k, v in chosen.items() if k in varied},
            seed=seed,
        )

    def params(self) -> dict[str, str]:
        """Everything resolved, flat; inactive parameters are left out."""
        flat = {**self.spec.parameters(), **self.state.get("parameters", {})}
        return {storable_key(key): str(label_of(value)) for key, value in flat.items() if value is not None}

    def tags(self) -> dict[str, str]:
        """What people filter by, and why a trial failed."""
        keys = ("stratum", "state", "number", "mark", "cause", "replicate_of", "adopted_from")
        facts = {key: self.state.get(key) for key in keys}
        facts |= {
            "generation": self.state.get("generation"),
            "fingerprint": self.state.get("fingerprint") or self.spec.fingerprint,
            "folder": str(self.files.path),
            "baseline": True if self.state.get("baseline") else None,
            "pruned_epoch": self.state.get("pruned_epoch"),
            "mlflow.source.name": "harness trial",
            "mlflow.note.content": self.state.get("message"),
        }
        return as_tags(facts)

    def events(self) -> list[dict[str, Any]]:
        """The history of the accepted (else the latest) attempt, through the attempts it resumed from."""
        attempts = list(self.files.attempts())
        accepted = self.state.get("accepted_attempt")
        if accepted is not None:
            attempts = [attempt for attempt in attempts if attempt.number <= accepted]
        history: list[dict[str, Any]] = []
        keep_until = math.inf
        for attempt in reversed(attempts):
            events = attempt.read_events()
            history = [event for event in events if event.get("epoch", 0) <= keep_until] + history
            started = [event for event in events if event["event"] == "started"]
            keep_until = started[0].get("resumed_epoch", 0) if started else keep_until
            if keep_until == 0:
                break
        return history

    def datasets(self, events: Sequence[Mapping[str, Any]]) -> list[DatasetUse]:
        """The training and the validation part of the data, by the hash of all bytes that entered."""
        data = self.spec.dataset
        patches: Mapping[str, Any] = next((event["patches"] for event in events if event["event"] == "started"), {})
        roles = {"training": ("train", data.split.train), "validation": ("validation", data.split.validation)}
        return [
            DatasetUse(
                name=f"{_cohort_name(data.root)} {data.labels.name} {role}",
                digest=data.data_hash[:16],
                context=context,
                source=json.dumps({"uri": data.root}),
                profile=json.dumps({"patients": len(patients), "patches": patches.get(role)}),
            )
            for context, (role, patients) in roles.items()
        ]

    def result(self) -> Mapping[str, Any] | None:
        """result.json, once an attempt was accepted."""
        try:
            result: Mapping[str, Any] = read_json(self.files.path / "result.json")
        except FileNotFoundError:
            return None
        return result

    def artifacts(self) -> Iterator[tuple[Path, str]]:
        """(file, folder of the run's artifacts): everything but predictions, which are large and many."""
        for name in _TOP_FILES:
            if (self.files.path / name).is_file():
                yield self.files.path / name, ""
        figures = self.files.path / "figures"
        for file in sorted(figures.rglob("*")) if figures.is_dir() else ():
            if file.is_file():
                yield file, file.parent.relative_to(self.files.path).as_posix()


def _cohort_name(root: str) -> str:
    """The data's folder; a painted cohort lies in one whose name is a hash."""
    path = Path(root)
    return "phantom" if path.parent.name == "phantoms" else path.name or root


def as_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as text, without those that are not there; passwords in URLs become `***`."""
    lowered = {key: "true" if value is True else value for key, value in facts.items()}
    return {key: printable(str(value)) for key, value in lowered.items() if value is not None and value is not False}
