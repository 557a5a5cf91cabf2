"""`harness ui --optuna`: the real optuna-dashboard on the studies of a home."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.config.cells import strata_of
from harness.config.load import load_space
from harness.study import StratumStudy, open_storage
from harness.sweep.layout import Home
from tests.spaces import written

LINES = "parameters: {architecture: {value: unet_plain}, learning_rate: {values: [0.001, 0.003]}}"


def answer(url: str) -> Any:
    """What the server says, once it is up (within 60 s)."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urlopen(url, timeout=5) as response:
                return json.load(response)
        except (URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.slow
def test_the_dashboard_opens_a_sweeps_study(tmp_path: Path) -> None:
    """Its name, direction and objective, and of each trial parameters, epochs, state and the trial folder's name."""
    home = Home(tmp_path)
    space = load_space(written(tmp_path, LINES))
    (stratum,) = strata_of(space)
    study = StratumStudy(space, stratum, name="small/default/g1", storage=open_storage(home.optuna_url))
    proposal = study.propose()
    assert proposal is not None
    study.started("default.0000", proposal.assignment)
    study.report("default.0000", 1, 0.25)
    study.finished("default.0000", "complete", 0.25)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "harness.cli", "ui", "--optuna", "--port", str(port), "--home", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            (summary,) = answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
            opened = answer(f"http://127.0.0.1:{port}/api/studies/{summary['study_id']}")
            with pytest.raises(HTTPError, match="403"):
                urlopen(Request(f"http://127.0.0.1:{port}/api/studies", headers={"Host": f"evil.example:{port}"}))
        finally:
            server.terminate()
    assert (summary["study_name"], summary["directions"]) == ("small/default/g1", ["maximize"])
    assert opened["objective_names"] == ["val/iou"]
    (trial,) = opened["trials"]
    assert (trial["state"], trial["values"]) == ("Complete", [0.25])
    assert trial["intermediate_values"] == [{"step": 1, "value": 0.25}]
    assert [row["name"] for row in trial["params"]] == ["learning_rate"]
    assert trial["user_attrs"] == [{"key": "uid", "value": "default.0000"}]


def test_a_home_without_studies_is_named(tmp_path: Path) -> None:
    """And no empty database is left behind by looking."""
    done = CliRunner().invoke(main, ["ui", "--optuna", "--home", str(tmp_path)])
    assert done.exit_code == 2
    assert "no studies in" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["home.json"]
