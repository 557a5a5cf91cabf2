"""The example of docs/own-parts.md: a network, loss, augmentation, labels and regions of one's own, swept for real."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.sweep.conftest import Lab
from tests.sweep.test_sweeps import wait_for

EXAMPLE = Path(__file__).parents[2] / "docs" / "own_parts"
# TIGER's ids of the synthetic cohort -> the lab's: 1 epithelium, 2 stroma, 3 fat.
OWN_IDS = np.array([0, 1, 2, 1, 1, 3, 2, 3], np.uint8)
INK = 9


@pytest.fixture
def own(tmp_path: Path, phantom: Path) -> Lab:
    """The example's files in a folder of their own, with a cohort in another layout and other ids."""
    project = Path(shutil.copytree(EXAMPLE, tmp_path / "project"))
    cohort = project / "cohort"
    (cohort / "he").mkdir(parents=True)
    (cohort / "labels").mkdir()
    with (cohort / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "mask", "patient", "centre", "mpp"])
        images = sorted(phantom.glob("wsirois/roi-level-annotations/*/images/*.png"))
        for number, image in enumerate(images):
            name = f"slide {number:02d}.png"
            shutil.copyfile(image, cohort / "he" / name)
            mask = OWN_IDS[cv2.imread(str(image.parents[1] / "masks" / image.name), cv2.IMREAD_GRAYSCALE)]
            mask[:8, :8] = INK
            cv2.imwrite(str(cohort / "labels" / name), mask)
            table.writerow([f"he/{name}", f"labels/{name}", image.name.split("_")[0], "Lund", "0.5"])
    return Lab(tmp_path, sweep="own-parts")


def command(project: Path) -> tuple[str | Path, ...]:
    """The sweep of the example, its data beside it."""
    return ("sweep", project / "sweep.yaml", "--data", project / "cohort", "--workers", "1")


@pytest.mark.slow
def test_own_parts_and_data_are_swept_killed_continued_and_reported(own: Lab) -> None:
    """kill -9 in the middle, then the project is moved: finished trials are kept to the byte, the others find data and
    parts in the new place, and the report ranks the lab's network by its name."""
    sweep = own.start(*command(own.path / "project"))
    wait_for(
        lambda: sweep.poll() is not None or any(r["state"] == "complete" for r in own.records().values()),
        timeout_s=150,
    )
    assert sweep.poll() is None, (own.path / "said").read_text()
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait(timeout=20)
    done = [uid for uid, record in own.records().items() if record["state"] == "complete"]
    trials = own.home / "sweeps/own-parts/g1/trials"
    before = {uid: (trials / uid / "manifest.json").read_bytes() for uid in done}

    (own.path / "project").rename(own.path / "moved")
    again = own.run(*command(own.path / "moved"))
    assert again.returncode == 0, again.stderr
    assert {uid: (trials / uid / "manifest.json").read_bytes() for uid in done} == before
    assert all(own.epochs(uid) == [1, 2, 3] for uid in done)
    board = json.loads((own.path / "reports/own-parts/leaderboard.json").read_text())["rows"]
    assert sorted((row["parameters"]["architecture"], row["parameters"]["loss"]) for row in board) == [
        ("tiny", "cross_entropy"), ("tiny", "tversky"), ("unet_plain", "cross_entropy"), ("unet_plain", "tversky"),
    ]  # fmt: skip
    assert all(row["scores"]["yardstick"] is None for row in board)  # the ids are not TIGER's
    spec = json.loads((trials / done[0] / "spec.json").read_text())
    assert (spec["dataset"]["source"], spec["train"]["augment"]["name"]) == ("other", "flips")


@pytest.mark.slow
def test_a_part_that_breaks_its_contract_ends_the_sweep_before_the_first_trial(own: Lab) -> None:
    """Exit 2, one line, no trial started (which contracts: tests/trial/test_tryout.py)."""
    path = own.path / "project" / "mylab" / "losses.py"
    path.write_text(path.read_text().replace(") * defined_N1HW", ")"))
    ended = own.run(*command(own.path / "project"))
    assert ended.returncode == 2, ended.stderr
    assert "has a gradient on undefined pixels" in ended.stderr.splitlines()[-1]
    assert not own.records()
