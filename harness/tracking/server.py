"""MLflow's server with the doors shut that a sweep's users never need: `mlflow server --app-name harness`.

`--app-name harness-login` asks for a name and a password besides. Both run under uvicorn, MLflow's default.
"""

from __future__ import annotations

import os

from harness.errors import Refused
from harness.tracking.guard import LOOPBACK_HOSTS, Guard, exact_hosts
from harness.tracking.store import SERVER_SETTINGS

# At import: `mlflow server` loads this module before it decides about job runners and starts the workers, which inherit
# its environment; and a worker's MLflow reads the environment while it is imported.
os.environ.update(SERVER_SETTINGS)


def create_app() -> Guard:
    """The server without a login, for loopback."""
    _only_under_uvicorn()
    (hosts, origins), prefix = _names(), _prefix()
    from mlflow.server.fastapi_app import app

    return Guard(app, hosts=hosts, origins=origins, prefix=prefix)


def create_app_with_login() -> Guard:
    """The server that asks who is there (needs Flask-WTF, MLFLOW_FLASK_SERVER_SECRET_KEY, and at its first start
    MLFLOW_AUTH_ADMIN_PASSWORD)."""
    _only_under_uvicorn()
    (hosts, origins), prefix = _names(), _prefix()
    from mlflow.server.auth import create_app as with_login

    return Guard(with_login(), hosts=hosts, origins=origins, prefix=prefix)


def _prefix() -> str:
    """What `mlflow server --static-prefix` leaves for its workers. Refused where MLflow's login would let in everybody:
    it asks nobody whose path begins like one of its open pages, wherever the path leads."""
    prefix = os.environ.get("_MLFLOW_STATIC_PREFIX", "")
    if prefix.startswith(("/static", "/health", "/favicon.ico")):
        raise Refused(f"--static-prefix {prefix} would switch the login off; choose one that begins otherwise")
    return prefix


def _names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(hosts, origins) of this server: from MLflow's variables, else loopback; left there for MLflow's own checks."""
    hosts = exact_hosts(os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS") or LOOPBACK_HOSTS)
    if not hosts:
        raise Refused("MLFLOW_SERVER_ALLOWED_HOSTS names no host; allowed: `name`, `name:port`, `name:*`")
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = ",".join(hosts)
    # Without its origins MLflow refuses what its own pages ask, unless they were opened on loopback.
    away = (host for host in hosts if host not in exact_hosts(LOOPBACK_HOSTS))
    own = ",".join(f"{scheme}://{host}" for host in away for scheme in ("http", "https"))
    origins = exact_hosts(os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS") or own)
    os.environ["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(origins)
    return hosts, origins


def _only_under_uvicorn() -> None:
    """Under another server MLflow would leave out what it serves through FastAPI, and its login there."""
    if os.environ.setdefault("_MLFLOW_SGI_NAME", "uvicorn") != "uvicorn":
        raise Refused("this app runs under uvicorn only: leave out --gunicorn-opts and --waitress-opts")
