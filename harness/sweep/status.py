"""How a sweep stands, read from its folders alone."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from harness.config.cells import strata_of
from harness.sweep.layout import GenerationFolder, Home, SweepFolder
from harness.sweep.ledger import read_records
from harness.sweep.lock import holder_of
from harness.tracking.store import tracking_store
from harness.trial.folder import TrialFolder

STATES = ("complete", "pruned", "failed", "running", "waiting")


def status_of(generation: GenerationFolder, home: Home) -> dict[str, Any]:
    """The content of `harness status --json`. A trial nobody works on is waiting, whatever its last word was."""
    holder = holder_of(SweepFolder(generation.path.parent))
    alive = holder is not None and holder.alive
    counts: dict[str, Counter[str]] = {stratum.name: Counter() for stratum in strata_of(generation.search_space())}
    epochs = 0
    for uid, record in read_records(generation).items():
        state = "waiting" if record.state == "running" and not alive else record.state
        counts.setdefault(record.stratum, Counter())[state] += 1
        epochs += epochs_trained(TrialFolder(generation.trials / uid))
    report = Path("reports") / generation.path.parent.name / "index.html"
    return {
        "schema": "harness.status/1",
        "name": generation.path.parent.name,
        "generation": generation.number,
        "holder": holder.pid if holder is not None and alive else None,
        "strata": [{"name": name, **{state: count[state] for state in STATES}} for name, count in counts.items()],
        "epochs_trained": epochs,
        "store": tracking_store(home.path, os.environ).printable,
        "report": str(report.resolve()) if report.exists() else None,
    }


def epochs_trained(folder: TrialFolder) -> int:
    """Epochs over all attempts, repeated ones counted."""
    return sum(event["event"] == "epoch" for attempt in folder.attempts() for event in attempt.read_events())
