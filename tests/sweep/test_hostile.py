"""A whole sweep over data whose names mean something elsewhere, with a password in its URLs."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults.outage import server
from tests.sweep.conftest import Lab, clean_environment

CANARY = "s3cret-canary"
PATIENTS = (
    "<script>alert(1)</script>", "../../outside", "P" * 10_000, '=HYPERLINK("http://evil.example")', "a'b\"c;d",
    "\N{LATIN CAPITAL LETTER A WITH DIAERESIS}rztin \u60a3\u8005", "{{ 7*7 }}", "%s %d ${HOME}",
)  # fmt: skip


@pytest.fixture
def hostile(phantom: Path, tmp_path: Path) -> Path:
    """Regions of the phantom under files and patients with such names."""
    root = tmp_path / "data of <b>"
    (root / "files").mkdir(parents=True)
    images = sorted((phantom / "wsirois").rglob("images/*.png"))
    with (root / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("image", "mask", "patient", "centre", "mpp"))
        for number, image in enumerate(images):
            names = [f"files/it's [{number}] <i>{kind}&amp;.png" for kind in ("image", "mask")]
            shutil.copyfile(image, root / names[0])
            shutil.copyfile(image.parent.parent / "masks" / image.name, root / names[1])
            table.writerow((*names, PATIENTS[number % len(PATIENTS)], "<Lund>", "0.5"))
    return root


@pytest.mark.slow
def test_hostile_names_stay_names_and_a_password_stays_with_its_url(lab: Lab, hostile: Path) -> None:
    """The sweep succeeds; the page holds no markup of theirs; no file of anybody's and no output has the password."""
    space = lab.write(hostile, trials=1)
    space.write_text(space.read_text().replace("{root: ", "{source_ids: tiger, root: "))
    said = []
    with server(lab.path / "server") as port:
        url = f"http://me:{CANARY}@127.0.0.1:{port}"
        for arguments in (
            ("sweep", space, "--executor", "inline", "--set", "strata={labels: [unicorn3]}"),
            ("status", "--json"), ("doctor", "--json"), ("report",), ("retry", "small"), ("gc", "--json"),
            ("plan", space, "--json", "--set", "strata={labels: [unicorn3]}"),
        ):  # fmt: skip
            done = subprocess.run(
                lab.command(*arguments), cwd=lab.path, env={**clean_environment(), "MLFLOW_TRACKING_URI": url},
                capture_output=True, text=True, timeout=200,
            )  # fmt: skip
            assert done.returncode == 0, (arguments[0], done.stdout, done.stderr)
            said += [done.stdout, done.stderr]
    # The server is away now: what is said about it quotes its URL.
    away = subprocess.run(
        lab.command("doctor"), cwd=lab.path, env={**clean_environment(), "MLFLOW_TRACKING_URI": url},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert "was not compared" in away.stdout
    said += [away.stdout, away.stderr]
    assert CANARY not in "".join(said)
    files = [file for file in lab.path.rglob("*") if file.is_file()]
    assert len(files) > 60
    assert [file for file in files if CANARY.encode() in file.read_bytes()] == []
    page = (lab.path / "reports/small/index.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page and "<i>image" not in page and "<Lund>" not in page
    assert not (lab.path.parent / "outside").exists() and not (lab.path / "outside").exists()
