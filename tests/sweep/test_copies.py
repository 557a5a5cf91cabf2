"""The databases a sweep is copied into, and files between machines: what people hear of them, and what goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness.files import write_text
from harness.sweep.copies import said_once
from harness.sweep.garbage import clean
from harness.sweep.layout import Home


def test_what_failed_for_one_reason_is_one_line() -> None:
    """A wrong password is not as many lines as there are trials."""
    wants = "MLflow declines: it wants another login"
    assert said_once([f"a: {wants}", f"b: {wants}", "c: its folder is gone: really", f"d: {wants}"]) == [
        f"a and 2 more: {wants}",
        "c: its folder is gone: really",
    ]


def test_mailboxes_of_yesterdays_slurm_jobs_go_and_those_at_work_stay(tmp_path: Path) -> None:
    """A controller's beats keep its folder young."""
    home = Home(tmp_path)
    for name, age_s in (("gone", 2 * 24 * 3600), ("at work", 60)):
        folder = home.leases / name
        write_text(folder / "controller", f"{name} 7\n")
        os.utime(folder, (time.time() - age_s,) * 2)
    cleaned = clean(home, [])
    assert [piece.path.name for piece in cleaned.pieces] == ["gone"]
    assert [folder.name for folder in home.leases.iterdir()] == ["at work"]
