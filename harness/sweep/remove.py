"""Deleting a sweep from everywhere it was written to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.study import delete_studies
from harness.sweep.layout import Home, SweepFolder
from harness.sweep.lock import held
from harness.tracking.client import delete_experiment
from harness.tracking.store import client_settings, tracking_store


def remove_sweep(sweep: SweepFolder, home: Home, storage: str | None = None) -> str:
    """Delete Optuna's studies, MLflow's runs, then the folder (last: until then, calling again finishes the work)."""
    with held(sweep):
        known = storage is not None or (home.path / "optuna.db").exists()
        studies = delete_studies(storage or home.optuna_url, prefix=f"{sweep.name}/") if known else 0
        os.environ.update(client_settings(os.environ))
        runs = delete_experiment(tracking_store(home.path, os.environ), sweep.name)
        shutil.rmtree(sweep.path)
    return f"deleted {sweep.name}: its folder, {studies} studies, {runs} MLflow runs (`mlflow gc` empties their trash)"


def size_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())
