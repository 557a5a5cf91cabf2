"""What is particular to Ray: how the cluster is reached, who may not take part, and how slots share devices."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.resources import Resources
from harness.errors import Refused
from harness.execute.ray import RayExecutor, gpus_of_a_slot, slots_in
from harness.execute.visible import answered, objections, offered
from tests.execute.executors import environment

ROOT = Path(__file__).parents[2]


def options(folder: Path) -> dict[str, object]:
    """An executor's, with its home in `folder`."""
    return {"slots": 1, "device": "cpu", "need": Resources(), "stores": folder, "logs": folder, "home": folder}


def test_a_cluster_that_is_open_to_everybody_is_refused(tmp_path: Path) -> None:
    """Before Ray is even imported; the line says how to give it a token."""
    with (
        environment(RAY_AUTH_MODE="disabled"),
        pytest.raises(Refused, match=r"RAY_AUTH_MODE=disabled.*ray get-auth-token --generate"),
    ):
        RayExecutor(**options(tmp_path))  # type: ignore[arg-type]


LISTEN = """
import os, sys
from pathlib import Path
import psutil
from harness.config.resources import Resources
from harness.errors import Refused
from harness.execute.ray import RayExecutor
folder = Path(sys.argv[1])
common = dict(slots=1, device="cpu", need=Resources(), stores=folder, logs=folder, home=folder)
try:
    RayExecutor(**common, visible=[folder / "no data"])
except Refused as error:
    print(error)
executor = RayExecutor(**common)
mine = [psutil.Process(), *psutil.Process().children(recursive=True)]
listening = {c.laddr.ip for p in mine for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
print(sorted(listening), os.environ["RAY_AUTH_MODE"])
executor.close()
try:
    os.environ["RAY_ADDRESS"] = "127.0.0.1:1"
    RayExecutor(**common)
except Refused as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.cluster
def test_a_cluster_of_our_own_listens_on_this_machine_alone(tmp_path: Path) -> None:
    """With a token; a node that does not see the data is named before the first trial, as is an address that nobody
    answers at; and Ray's own words stay out of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    said = subprocess.run(
        [sys.executable, "-c", LISTEN, str(tmp_path)], env=kept, cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert said.returncode == 0, said.stderr
    unseen, loopback, nobody = said.stdout.splitlines()
    assert unseen.startswith("node ") and unseen.endswith(f"of the Ray cluster: {tmp_path / 'no data'} is not there")
    assert loopback == "['127.0.0.1', '::ffff:127.0.0.1'] token"
    assert nobody.startswith("no Ray cluster at 127.0.0.1:1 (RAY_ADDRESS): Connection refused")


def test_a_node_that_sees_another_folder_objects(tmp_path: Path) -> None:
    """The word is missing, or another one; or another harness is installed there."""
    here, there = offered(tmp_path / "here"), offered(tmp_path / "there")
    assert objections(here, "n1") == []
    assert answered(here, "n1")
    (line,) = objections(replace(here, folder=tmp_path / "elsewhere"), "n2")
    assert line.startswith(f"{tmp_path / 'elsewhere'} is not the same folder there")
    assert not answered(replace(there, folder=tmp_path / "elsewhere"), "n2")
    (line,) = objections(replace(here, harness="0.0.1"), "n3")
    assert line.endswith("is installed there, and 0.0.1 here")
    assert objections(replace(here, others=(tmp_path, tmp_path / "data")), "n4") == [
        f"{tmp_path / 'data'} is not there"
    ]


def test_slots_are_as_many_as_the_cluster_has_room_for() -> None:
    """By the scarcest of what a slot asks for; half a GPU makes two slots of one."""
    cluster = {"CPU": 32.0, "GPU": 4.0, "memory": 64 * 2.0**30}
    assert gpus_of_a_slot(cluster, "auto", Resources()) == 1
    assert gpus_of_a_slot({"CPU": 32.0}, "auto", Resources()) == 0
    assert gpus_of_a_slot(cluster, "cpu", Resources(gpus=1)) == 0
    assert gpus_of_a_slot(cluster, "auto", Resources(gpus=0.25)) == 0.25
    with pytest.raises(Refused, match="a fraction below one, or whole GPUs"):
        gpus_of_a_slot(cluster, "auto", Resources(gpus=1.5))
    assert slots_in(cluster, {"num_cpus": 1, "num_gpus": 0.5}) == 8
    assert slots_in(cluster, {"num_cpus": 12, "num_gpus": 0.5}) == 2
    assert slots_in(cluster, {"num_cpus": 1, "num_gpus": 0, "memory": 16 * 2**30}) == 4
    with pytest.raises(Refused, match="no room for one slot: it has CPU 32, GPU 4 in all"):
        slots_in(cluster, {"num_cpus": 1, "num_gpus": 8})
