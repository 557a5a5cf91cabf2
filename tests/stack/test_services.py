"""scripts/stack: every service answers, to nobody else; each can be killed and comes back; nothing is left behind."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import psutil
import pytest
from botocore.exceptions import ClientError
from sqlalchemy import create_engine, text

from deploy.services import HERE, TABLE
from deploy.stack import Stack
from harness.errors import BadInput, Refused
from tests.stack import fresh_stack

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """One for all tests of this file; each leaves it up."""
    with fresh_stack() as fresh:
        yield fresh


def status_of(url: str, headers: Mapping[str, str] | None = None) -> int:
    """The HTTP status of an answer."""
    try:
        with urlopen(Request(url, headers=dict(headers or {})), timeout=20) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code


def login(stack: Stack) -> dict[str, str]:
    """The header of MLflow's administrator."""
    known = stack.environment()
    both = f"{known['MLFLOW_TRACKING_USERNAME']}:{known['MLFLOW_TRACKING_PASSWORD']}"
    return {"Authorization": "Basic " + b64encode(both.encode()).decode()}


def python(stack: Stack, script: str) -> Any:
    """What a client of the stack prints, as JSON: a Python of its own, with the stack's environment and no other."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(stack.folder), **stack.environment()}
    command = [sys.executable, "-P", "-W", "ignore", "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=stack.folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def processes(stack: Stack) -> list[psutil.Process]:
    """Of all services."""
    return [process for name in TABLE for process in stack.members(name)]


def test_every_service_runs(stack: Stack) -> None:
    """And says so, with the memory that it takes."""
    states = stack.status()
    assert {state.name: state.state for state in states} == dict.fromkeys(TABLE, "running")
    assert all(state.memory_bytes > 1e6 for state in states)


def test_mlflow_asks_who_is_there(stack: Stack) -> None:
    """Nobody reads without a login; the administrator of the environment does; another site's name is refused."""
    url = stack.environment()["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert (status_of(url), status_of(url, login(stack))) == (401, 200)
    assert status_of(url, login(stack) | {"Host": "evil.example"}) == 403


def test_artifacts_go_through_the_server_into_the_store(stack: Stack) -> None:
    """A client without credentials of the store puts a file in and gets the same bytes back."""
    script = """
import hashlib, json, os, pathlib
from mlflow import MlflowClient
assert not [name for name in os.environ if name.startswith("AWS_")]
client = MlflowClient()
run = client.create_run(client.create_experiment("artifacts"))
pathlib.Path("sent").write_bytes(os.urandom(12_000_000))
client.log_artifact(run.info.run_id, "sent")
pathlib.Path("got").mkdir()
back = client.download_artifacts(run.info.run_id, "sent", "got")
digests = [hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() for path in ("sent", back)]
print(json.dumps([*digests, run.info.artifact_uri]))
"""
    sent, got, uri = python(stack, script)
    assert sent == got
    assert uri.startswith("mlflow-artifacts:/")
    stored = [path for path in stack.place.bucket.rglob("sent") if path.is_file()]
    assert [path.stat().st_size for path in stored] == [12_000_000]


def test_the_store_refuses_strangers(stack: Stack) -> None:
    """With the key it lists MLflow's bucket; with a wrong one, or with none, it says nothing."""

    def buckets(secret: str) -> list[str]:
        known = {"aws_access_key_id": stack.place.secrets["s3_key"], "aws_secret_access_key": secret}
        url = f"http://{stack.place.address('s3')}"
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **known)
        return [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]

    assert buckets(stack.place.secrets["s3_secret"]) == ["mlflow"]
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        buckets("wrong")
    assert status_of(f"http://{stack.place.address('s3')}/mlflow") in (400, 403)


def test_roles_come_to_their_own_databases_only(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """`harness` opens optuna and neither of MLflow's; without the password nothing opens."""
    url = stack.environment()["HARNESS_STORAGE"]

    def opens(database: str) -> bool:
        engine = create_engine(url.replace("/optuna", f"/{database}"))
        try:
            with engine.connect() as connection:
                return bool(connection.execute(text("select 1")).scalar())
        except Exception:
            return False
        finally:
            engine.dispose()

    assert not opens("optuna")
    monkeypatch.setenv("PGPASSFILE", stack.environment()["PGPASSFILE"])
    assert [opens(name) for name in ("optuna", "mlflow", "mlflow_users", "postgres")] == [True, False, False, True]


def test_the_dashboard_shows_studies_to_this_machine_only(stack: Stack) -> None:
    """It asks for no login, so a page under another name gets nothing."""
    url = f"http://{stack.place.address('dashboard')}/api/studies"
    assert (status_of(url), status_of(url, {"Host": "evil.example"})) == (200, 403)


def test_tasks_run_on_both_nodes_of_ray(stack: Stack) -> None:
    """And know no credential but the cluster's."""
    script = """
import json, os, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
ray.init(logging_level="ERROR", log_to_driver=False)
@ray.remote
def known():
    return sorted(os.environ)
asked = {node["NodeName"]: On(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]}
print(json.dumps({name: ray.get(known.options(scheduling_strategy=node).remote()) for name, node in asked.items()}))
"""
    seen = python(stack, script)
    assert sorted(seen) == ["ray-head", "ray-node"]
    secrets = {
        name for names in seen.values() for name in names if name.startswith(("AWS_", "MLFLOW_", "PG", "HARNESS_"))
    }
    assert secrets == set()


def test_ray_answers_nobody_without_the_token(stack: Stack) -> None:
    """A wrong one is told so; the right one lists the nodes."""
    known = {"PATH": os.environ["PATH"], "HOME": str(stack.folder), **stack.environment()}
    wrong = {name: value for name, value in known.items() if name != "RAY_AUTH_TOKEN_PATH"} | {
        "RAY_AUTH_TOKEN": "f" * 48
    }
    command = [sys.executable, "-P", str(HERE / "ray_nodes.py")]
    refused = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert "InvalidAuthToken" in refused.stderr
    told = subprocess.run(command, env=known, capture_output=True, text=True, timeout=60)
    assert {node["name"] for node in json.loads(told.stdout)} == {"ray-head", "ray-node"}


def test_everything_listens_on_this_machine_only(stack: Stack) -> None:
    """Every socket of every process that takes connections is bound to the loopback interface."""
    bound = {
        connection.laddr.ip
        for process in processes(stack)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert bound and bound <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_secrets_are_in_no_argument_and_no_log(stack: Stack) -> None:
    """They stand in files that only their owner reads, and nowhere else."""
    secrets = [secret.encode() for secret in stack.place.secrets.values()]
    shown = [part.encode() for process in processes(stack) for part in process.cmdline()]
    assert not [part for part in shown if any(secret in part for secret in secrets)]
    files = [path for path in stack.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    telling = {path for path in files if any(secret in path.read_bytes() for secret in secrets)}
    expected = ("secrets.json", "environment.sh", "ray-token", "harness.pgpass", "mlflow.pgpass")
    assert telling == {stack.folder / name for name in expected}
    assert {stat.S_IMODE(path.stat().st_mode) for path in telling} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (stack.folder / "logs").iterdir()} == {0o600}


def test_what_was_committed_outlives_a_kill_of_postgresql(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGKILL and a start the row is there, and MLflow and the dashboard answer again by themselves."""
    monkeypatch.setenv("PGPASSFILE", stack.environment()["PGPASSFILE"])
    engine = create_engine(stack.environment()["HARNESS_STORAGE"])
    with engine.begin() as connection:
        connection.execute(text("create table kept (number integer)"))
        connection.execute(text("insert into kept values (7)"))
    engine.dispose()
    stack.kill("postgres")
    assert stack.members("postgres") == []
    stack.start("postgres")
    with engine.connect() as connection:
        assert connection.execute(text("select number from kept")).scalar() == 7
    engine.dispose()
    url = stack.environment()["MLFLOW_TRACKING_URI"] + "/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert status_of(url, login(stack)) == 200
    assert status_of(f"http://{stack.place.address('dashboard')}/api/studies") == 200


def test_a_killed_node_is_gone_with_its_workers_and_another_takes_its_place(stack: Stack) -> None:
    """The cluster then has two nodes again, of which one is new; the dead one is remembered as dead."""
    before = {node["id"] for node in stack.ray_nodes() if node["alive"]}
    stack.kill("ray-node")
    assert stack.members("ray-node") == []
    stack.start("ray-node")
    nodes = {node["id"]: node["alive"] for node in stack.ray_nodes()}
    after = {node for node, alive in nodes.items() if alive}
    assert len(after - before) == 1
    assert len(nodes) > len(before)


def test_after_the_head_of_ray_was_killed_up_makes_a_whole_cluster(stack: Stack) -> None:
    """The node of the old cluster is of no use to the new one: both are new, and nobody remembers the old ones."""
    before = {node["id"] for node in stack.ray_nodes()}
    stack.kill("ray-head")
    assert stack.ray_nodes() == []
    stack.up()
    nodes = stack.ray_nodes()
    assert sorted((node["name"], node["alive"]) for node in nodes) == [("ray-head", True), ("ray-node", True)]
    assert before.isdisjoint({node["id"] for node in nodes})


@pytest.mark.parametrize("name", ["s3", "mlflow", "dashboard"])
def test_a_killed_service_comes_back(stack: Stack, name: str) -> None:
    """At its own port, with nothing of it left in between."""
    port = stack.place.ports[name]
    stack.kill(name)
    assert stack.members(name) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    stack.start(name)
    assert {state.name: (state.state, state.port) for state in stack.status()}[name] == ("running", port)


def test_up_again_changes_nothing(stack: Stack) -> None:
    """The same processes go on."""
    before = {name: {process.pid for process in stack.members(name)} for name in ("postgres", "mlflow", "ray-head")}
    leaders = {state.name: state.pid for state in stack.status()}
    stack.up()
    assert {state.name: state.pid for state in stack.status()} == leaders
    assert all(before.values())


def test_a_service_that_does_not_exist_is_named(stack: Stack) -> None:
    """With those that do."""
    with pytest.raises(BadInput, match="'mysql' is not a service; choose from postgres, s3"):
        stack.kill("mysql")


def test_a_taken_port_is_said_in_one_line(stack: Stack) -> None:
    """Somebody else listens there: the service is named, and what to do."""
    port = stack.place.ports["dashboard"]
    stack.stop("dashboard")
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Refused, match=f"dashboard: port {port} is taken"):
        stack.start("dashboard")
    stack.start("dashboard")


def test_down_leaves_nothing_running(stack: Stack) -> None:
    """The services outlived the command that began them, and end with another; the data stay."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "deploy.stack", "down", "--folder", str(stack.folder)]
    running = processes(stack)
    assert len(running) > len(TABLE)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert not [process for process in running if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert {state.state for state in stack.status()} == {"stopped"}
    assert not stack.place.link.exists()
    assert (stack.folder / "postgres" / "cluster").is_dir()


def test_a_folder_without_a_stack_is_named(tmp_path: Path) -> None:
    """And nothing is made by looking."""
    with pytest.raises(Refused, match=r"no stack in .*/nothing"):
        Stack(tmp_path / "nothing").status()
    assert list(tmp_path.iterdir()) == []
