"""Builds sweep folders as a controller and its workers leave them: real masks, real matrices, real JSON."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness import scores
from harness.config.labels import BUILTIN, TIGER_IDS, LabelMap
from harness.config.spec import Cut, DatasetVariant, ModelSpec, Split, TrainSpec, TrialSpec
from harness.files import write_json
from harness.tracking.project import CURSOR, Cursor
from harness.trial.folder import TrialFolder

DATA_HASH = "c0ffee" * 10


@dataclass
class Cohort:
    """Validation masks of source ids, square ROIs of `side` pixels."""

    rois: int = 6
    patients: int = 3
    centres: Sequence[str] = ("TC", "JB")
    side: int = 24
    ids: Sequence[int] = TIGER_IDS
    seed: int = 1
    data_hash: str = DATA_HASH
    masks: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        block = max(1, self.side // 4)
        coarse = rng.choice(self.ids, size=(self.rois, 4, 4))
        self.masks = [np.kron(cells, np.ones((block, block))).astype(np.uint8) for cells in coarse]

    @property
    def split(self) -> Split:
        return Split(train=("t1", "t2", "t3"), validation=tuple(f"p{i}" for i in range(self.patients)))

    def matrices(self, labels: LabelMap, error: float, seed: int) -> tuple[list[scores.RoiMatrices], scores.Scheme]:
        """Predictions right but for a share `error` of pixels, drawn anew for every `seed`."""
        rng = np.random.default_rng(seed)
        scheme = scores.Scheme(source_ids=TIGER_IDS, labels=labels)
        rois = []
        for number, mask in enumerate(self.masks):
            truth = np.vectorize(lambda i: labels.class_of(int(i)) or 1)(mask)
            noise = rng.integers(1, len(labels.classes) + 1, mask.shape)
            said = np.where(rng.random(mask.shape) < error, noise, truth).astype(np.uint8)
            matrix = scores.source_matrix(mask, said, scheme)
            rois.append(
                scores.RoiMatrices(
                    name=f"roi{number}",
                    patient=f"p{number % self.patients}",
                    centre=self.centres[number % len(self.centres)],
                    resized=number == 0,
                    matrix=matrix,
                    matrix_non_homogeneous=matrix,
                )
            )
        return rois, scheme


class SweepFolder:
    """A generation's folder under construction."""

    def __init__(self, home: Path, *, name: str = "small", cohort: Cohort | None = None,
                 strata: Mapping[str, Any] | None = None, **document: Any) -> None:  # fmt: skip
        self.cohort = cohort or Cohort()
        self.path = home / "sweeps" / name / "g1"
        self.path.mkdir(parents=True)
        split = self.cohort.split
        write_json(
            self.path / "space.json",
            {
                "name": name,
                "generation": 1,
                "created": 1.8e9,
                "command": ["harness", "sweep", f"search_spaces/{name}.yaml"],
                "yaml": f"name: {name}\nseed: 7\n",
                "space": {
                    "name": name,
                    "seed": 7,
                    "objective": {"metric": "val/iou", "goal": "maximize"},
                    "strata": strata or {},
                    "labels": {key: value.model_dump(mode="json") for key, value in BUILTIN.items()},
                },
                "data": {
                    "root": "data/tiger",
                    "hash": self.cohort.data_hash,
                    "rois": 20,
                    "patients": 8,
                    "centres": {"TC": 12, "JB": 8},
                    "split": split.model_dump(mode="json"),
                    "flags": [],
                },
                "revision": "0123abc",
                "harness_version": "0.1.0",
                "constraints_sha256": None,
                "reference_rows": [],
            }
            | document,
        )
        self.count = 0

    def trial(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        state: str = "complete",
        labels: str | LabelMap = "unicorn3",
        error: float = 0.3,
        draw: int | None = None,
        epochs: Sequence[float] = (0.2, 0.4, 0.5),
        device: str = "cpu",
        cohort: Cohort | None = None,
        result: Mapping[str, Any] | None = None,
        matrix: Sequence[Sequence[int]] | None = None,
        **said: Any,
    ) -> str:
        """Add one trial; `said` overrides fields of trial.json. Returns its uid.

        `matrix` (source ids by classes) replaces the drawn predictions: one ROI of one patient.
        """
        self.count += 1
        number = self.count
        uid = said.get("uid", f"u{number:03d}")
        cohort = cohort or self.cohort
        label_map = BUILTIN[labels] if isinstance(labels, str) else labels
        chosen = {"labels": label_map.name, **(parameters or {"architecture": "unet"})}
        folder = TrialFolder(self.path / "trials" / uid)
        folder.path.mkdir(parents=True)
        folder.write_spec(_spec(chosen, label_map, cohort, int(said.get("seed", number))))
        write_json(
            folder.state_file,
            {
                "uid": uid, "sweep": "small", "generation": 1, "stratum": label_map.name, "number": number,
                "state": state, "cause": None, "message": None, "parameters": chosen, "baseline": False,
                "mark": None, "replicate_of": None, "seed": number, "fingerprint": "f",
                "accepted_attempt": 1 if state == "complete" else None, "value": None,
                "pruned_epoch": None, "created": 1.8e9, "finished": None,
            } | said,
        )  # fmt: skip
        cursor = Cursor("store", str(said.get("experiment_id", "3")), str(said.get("run_id", f"run{number}")))
        write_json(folder.path / CURSOR, asdict(cursor))
        if state != "waiting":
            self._events(folder, epochs)
        if state == "complete":
            rois, scheme = cohort.matrices(label_map, error, number if draw is None else draw)
            if matrix is not None:
                counts = np.asarray(matrix, dtype=np.int64)
                rois = [scores.RoiMatrices("roi0", "p0", "TC", False, counts, counts)]
            write_json(folder.scores, scores.scores_document(rois, scheme, epoch=len(epochs), epochs=[]))
            write_json(folder.environment, {"device": device, "device_name": device, "versions": {"torch": "2.15.0"}})
            default = {
                "best_epoch": 3,
                "epochs_run": len(epochs),
                "lr_cuts": 0,
                "stopped_early": False,
                "flags": [],
            }
            write_json(folder.result, default | dict(result or {}))
        return str(uid)

    def _events(self, folder: TrialFolder, epochs: Sequence[float]) -> None:
        attempt = folder.attempt(1)
        attempt.path.mkdir(parents=True)
        attempt.append_event(
            {"event": "started", "attempt": 1, "time": 1.8e9, "parameters": 6_300_000, "resumed_epoch": 0}
        )
        for number, value in enumerate(epochs, start=1):
            attempt.append_event({"event": "epoch", "epoch": number, "seconds": 4.0, "values": {"val/iou": value}})


def _spec(chosen: Mapping[str, Any], labels: LabelMap, cohort: Cohort, seed: int) -> TrialSpec:
    patch_px = chosen.get("patch_px") if isinstance(chosen.get("patch_px"), int) else 256
    rate = chosen.get("learning_rate")
    return TrialSpec(
        dataset=DatasetVariant(
            root="data/tiger",
            data_hash=cohort.data_hash,
            source_ids=TIGER_IDS,
            labels=labels,
            cut=Cut(patch_px=patch_px, input_px=patch_px, stride=patch_px),
            split=cohort.split,
        ),
        model=ModelSpec(
            architecture=str(chosen.get("architecture", "unet")),
            encoder=chosen.get("encoder"),
            encoder_weights=chosen.get("encoder_weights"),
        ),
        train=TrainSpec(learning_rate=rate if isinstance(rate, float) else 1e-3),
        seed=seed,
    )


def tiny_png(path: Path, *, grey: int = 128) -> None:
    """A valid PNG of 2 x 2 grey pixels, without an imaging library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = bytes([0, grey, grey, 0, grey, grey])
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def read_json(path: Path) -> Any:
    """The JSON value in `path`."""
    return json.loads(path.read_text(encoding="utf-8"))
