"""A trial's folder: every path in one place. The folder is the truth; databases are projections of it.

trials/<uid>/
  spec.json  environment.json          written before the first attempt / by the accepted one
  attempts/<n>/                        one per start of a worker; only its own worker writes there
    events.jsonl  checkpoint.pt  checkpoint.settled.pt  epochs/<epoch>.pt  outputs/...
    checkpoint.earlier.pt                only while checkpoint.pt gives way to the next
  result.json scores.json weights.safetensors model.json predictions/ figures/    moved from the accepted attempt
  mlflow_model/                        once exported
  manifest.json                        sha256 of all of the above, written last: with it the trial is complete
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config.spec import TrialSpec
from harness.errors import BadInput
from harness.files import fsync_folder, read_json, sha256_file, write_json, written_aside

OUTPUTS = (
    "environment.json",
    "result.json",
    "scores.json",
    "weights.safetensors",
    "model.json",
    "predictions",
    "figures",
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a worker on a trial."""

    path: Path

    @property
    def number(self) -> int:
        """1, 2, ... in order of starting."""
        return int(self.path.name)

    @property
    def events(self) -> Path:
        """One JSON object a line, fsynced per epoch."""
        return self.path / "events.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The last epoch's full training state (tensors and plain types only)."""
        return self.path / "checkpoint.pt"

    @property
    def settled(self) -> Path:
        """An earlier one that is on disk for certain, while the last one may not be; see `harness.trial.saving`."""
        return self.path / "checkpoint.settled.pt"

    @property
    def earlier(self) -> Path:
        """Where the last one stands while the next takes its name; a kill may leave it there."""
        return self.path / "checkpoint.earlier.pt"

    @property
    def states(self) -> list[Path]:
        """The files among these three that are there, newest first."""
        return [file for file in (self.checkpoint, self.earlier, self.settled) if file.exists()]

    @property
    def epochs(self) -> Path:
        """Checkpoints that are kept, one file per epoch: `<epoch>.pt`."""
        return self.path / "epochs"

    def keep_epoch(self, epoch: int) -> None:
        """Keep the present checkpoint as this epoch's: the same file by a second name, so it costs no time."""
        self.epochs.mkdir(exist_ok=True)
        kept = self.epochs / f"{epoch}.pt"
        try:
            os.link(self.checkpoint, kept)
        except FileExistsError:
            return  # by a start of this attempt that was killed
        except OSError:  # a file system without links
            with written_aside(kept) as aside:
                shutil.copyfile(self.checkpoint, aside)
        fsync_folder(self.epochs)

    def kept_epochs(self) -> list[Path]:
        """Their files, by epoch."""
        return sorted(self.epochs.glob("[0-9]*.pt"), key=lambda file: int(file.stem))

    @property
    def outputs(self) -> Path:
        """What becomes the trial's result if this attempt is accepted."""
        return self.path / "outputs"

    @property
    def ended_complete(self) -> bool:
        """Whether its worker said that all outputs are there."""
        events = self.read_events()
        return bool(events) and events[-1]["event"] == "finished" and events[-1]["state"] == "complete"

    def append_event(self, event: dict[str, Any], *, settle: bool = True) -> None:
        """Append one event, where it survives the end of this process; unless `settle` is false, force it to disk."""
        line = (json.dumps(event, allow_nan=False) + "\n").encode()
        with self.events.open("ab", buffering=0) as stream:
            before = stream.tell()
            try:
                if stream.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.events))
                if settle:
                    os.fsync(stream.fileno())
            except OSError:
                stream.truncate(before)  # half a line would take the next one with it
                raise

    def read_events(self) -> list[dict[str, Any]]:
        """All whole events; a torn last line (a kill in the middle of a write) is left out."""
        try:
            lines = self.events.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines[:-1] if line]


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """The folder of one trial, by its path."""

    path: Path

    @property
    def uid(self) -> str:
        """The trial's name within its sweep's generation."""
        return self.path.name

    @property
    def spec_file(self) -> Path:
        """The resolved TrialSpec."""
        return self.path / "spec.json"

    @property
    def state_file(self) -> Path:
        """The controller's word on the trial: stratum, number, state; see `harness.sweep.ledger`."""
        return self.path / "trial.json"

    @property
    def environment(self) -> Path:
        """Device, threads, versions of the accepted attempt."""
        return self.path / "environment.json"

    @property
    def result(self) -> Path:
        """Best epoch, scores, cost."""
        return self.path / "result.json"

    @property
    def scores(self) -> Path:
        """The integer matrices every score derives from."""
        return self.path / "scores.json"

    @property
    def weights(self) -> Path:
        """Best-epoch weights."""
        return self.path / "weights.safetensors"

    @property
    def figures(self) -> Path:
        """PNG pictures of the accepted attempt."""
        return self.path / "figures"

    @property
    def predictions(self) -> Path:
        """One label PNG per validation ROI, values 1..K."""
        return self.path / "predictions"

    @property
    def mlflow_model(self) -> Path:
        """The exported model, loadable by plain mlflow."""
        return self.path / "mlflow_model"

    @property
    def manifest(self) -> Path:
        """sha256 of every result file; its presence means complete."""
        return self.path / "manifest.json"

    @property
    def complete(self) -> bool:
        """Whether an attempt's result was accepted in full."""
        return self.manifest.exists()

    def write_spec(self, spec: TrialSpec) -> None:
        """Write the spec; the first thing in a trial's folder."""
        write_json(self.spec_file, spec.model_dump(mode="json"))

    def read_spec(self) -> TrialSpec:
        """The spec; BadInput when the folder is not a trial's."""
        try:
            return TrialSpec.model_validate(read_json(self.spec_file))
        except FileNotFoundError:
            raise BadInput(f"{self.path}: not a trial folder (it has no spec.json)") from None
        except ValueError as error:
            raise BadInput(f"{self.spec_file}: not a trial's spec: {str(error).splitlines()[0]}") from None

    def attempts(self) -> list[Attempt]:
        """All attempts, oldest first."""
        folder = self.path / "attempts"
        if not folder.is_dir():
            return []
        return sorted((Attempt(p) for p in folder.iterdir() if p.name.isdigit()), key=lambda a: a.number)

    def attempt(self, number: int) -> Attempt:
        """The attempt of that number, there or not."""
        return Attempt(self.path / "attempts" / str(number))

    def new_attempt(self) -> Attempt:
        """The folder of the next attempt, made."""
        earlier = self.attempts()
        attempt = self.attempt(earlier[-1].number + 1 if earlier else 1)
        attempt.path.mkdir(parents=True)
        return attempt

    def accept_finished(self) -> bool:
        """Accept the newest attempt if it ended complete but nobody said so yet; whether the trial is complete now."""
        attempts = self.attempts()
        if not self.complete and attempts and attempts[-1].ended_complete:
            self.accept(attempts[-1])
        return self.complete

    def accept(self, attempt: Attempt) -> None:
        """Move an attempt's outputs up and write the manifest last. A second call finishes a broken first."""
        if self.complete:
            return
        for name in OUTPUTS:
            source = attempt.outputs / name
            if source.exists():
                if (
                    self.path / name
                ).is_dir():  # of an attempt whose acceptance was cut short; a rename needs the place
                    shutil.rmtree(self.path / name)
                source.replace(self.path / name)
        fsync_folder(self.path)
        write_json(self.manifest, {"attempt": attempt.number, "sha256": dict(self._hashes())})

    def damaged(self) -> list[str]:
        """Names of result files that are missing or differ from the manifest."""
        expected: dict[str, str] = read_json(self.manifest)["sha256"]
        return [
            name
            for name, digest in expected.items()
            if not (self.path / name).is_file() or sha256_file(self.path / name) != digest
        ]

    def _hashes(self) -> Iterator[tuple[str, str]]:
        for name in ("spec.json", *OUTPUTS):
            path = self.path / name
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in files:
                if file.is_file():
                    yield file.relative_to(self.path).as_posix(), sha256_file(file)
