"""The guard in front of MLflow's server: which routes it knows, and what it does with all others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.tracking.guard import Guard, open_routes
from harness.tracking.serve import Address, ui_command

# Of the routes that MLflow registers beside the open ones. A new route in a family that is open, and a new family, are
# neither: look at it, and list it here or in harness/tracking/guard.py.
CLOSED_FAMILIES = {
    "ajax-api/2.0/mlflow": "gateway-proxy get-online-trace-details get-trace-artifact traces unified-traces webhooks",
    "ajax-api/3.0/mlflow": "assistant datasets demo gateway genai get-trace-artifact issues jobs label-schemas "
    "mcp-servers prompt-optimization review-queues scorer scorers workspaces",
    "ajax-api/3.0": "jobs",
    "": "gateway v1",
}
CLOSED_ROUTES = {
    "POST /ajax-api/2.0/mlflow/artifacts/presigned-download-url",
    "POST /ajax-api/2.0/mlflow/artifacts/presigned-upload-url",
    "POST /ajax-api/2.0/mlflow/runs/create-promptlab-run",
    "POST /ajax-api/3.0/mlflow/ui-telemetry",
    "DELETE /ajax-api/2.0/mlflow-artifacts/artifacts/{path}",
    "GET /ajax-api/2.0/mlflow-artifacts/presigned/{path}",
    "POST /ajax-api/2.0/mlflow-artifacts/mpu/abort/{path}",
    "POST /ajax-api/2.0/mlflow-artifacts/mpu/complete/{path}",
    "POST /ajax-api/2.0/mlflow-artifacts/mpu/create/{path}",
    # A slip in MLflow's own table, without the slash.
    "POST /ajax-api/2.0mlflow/experiments/search-datasets",
    # Flask's own folder of static files; the pages ask for static-files.
    "GET /build/{path}",
}
# Of traces, which may be looked for but not made, changed or read.
CLOSED_TRACES = {
    "POST /ajax-api/3.0/mlflow/traces",
    "GET /ajax-api/3.0/mlflow/traces/{id}",
    "POST /ajax-api/3.0/mlflow/traces/{id}/assessments",
    "GET /ajax-api/3.0/mlflow/traces/{id}/assessments/{id}",
    "PATCH /ajax-api/3.0/mlflow/traces/{id}/assessments/{id}",
    "DELETE /ajax-api/3.0/mlflow/traces/{id}/assessments/{id}",
    "PATCH /ajax-api/3.0/mlflow/traces/{id}/tags",
    "DELETE /ajax-api/3.0/mlflow/traces/{id}/tags",
    "GET /ajax-api/3.0/mlflow/traces/batchGet",
    "POST /ajax-api/3.0/mlflow/traces/batchGetInfos",
    "POST /ajax-api/3.0/mlflow/traces/calculate-filter-correlation",
    "POST /ajax-api/3.0/mlflow/traces/delete-traces",
    "GET /ajax-api/3.0/mlflow/traces/get",
}
LIST_ROUTES = """
import json, sys
from harness.tracking.server import create_app_with_login
guarded = create_app_with_login()
from fastapi.routing import iter_route_contexts
from mlflow.server import app
found = [(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods]
for route in iter_route_contexts(guarded._app.routes):
    found += [(method, route.path) for method in getattr(route, "methods", None) or ()]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_every_route_of_the_installed_mlflow_is_known_as_open_or_closed(tmp_path: Path) -> None:
    """So that an upgrade that adds routes fails here, and opens no door meanwhile."""
    at = Address(5000, login=True)
    _, environment = ui_command(tmp_path, at, os.environ | {"MLFLOW_AUTH_ADMIN_PASSWORD": "correct horse battery"})
    listed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIST_ROUTES],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    registered = {(method, _plain(route)) for method, route in json.loads(listed.stdout.splitlines()[-1])}
    registered = {(method, route) for method, route in registered if method not in ("HEAD", "OPTIONS")}
    assert len(registered) > 400
    unknown = {
        f"{method} {route}" for method, route in registered - open_routes() if not _known_as_closed(method, route)
    }
    assert unknown == set()


def _plain(route: str) -> str:
    """A route of either router, with `{id}` and `{path}` as the guard writes them."""
    return re.sub(r"<(path:)?[^>]+>|\{[^}:]+(:path)?\}", lambda m: "{path}" if m[1] or m[2] else "{id}", route)


def _known_as_closed(method: str, route: str) -> bool:
    as_ui = re.sub(r"^/api/", "/ajax-api/", route)
    if f"{method} {as_ui}" in CLOSED_ROUTES | CLOSED_TRACES:
        return True
    # FastAPI has its own words for the files that Flask serves under a path.
    if as_ui == "/ajax-api/2.0/mlflow-artifacts/artifacts/{path}":
        return False
    for before, families in CLOSED_FAMILIES.items():
        family = as_ui.removeprefix(f"/{before}".rstrip("/") + "/")
        if family != as_ui and family.split("/")[0] in families.split():
            return True
    return False


def test_a_later_route_is_closed_until_somebody_opens_it() -> None:
    """An allow list: nothing but what is written there."""
    guard = Guard(_unreachable, hosts=["here"])
    scope = {"type": "http", "method": "POST", "path": "/api/4.0/mlflow/runs/create", "headers": [(b"host", b"here")]}
    assert guard._refusal(scope) == (404, "ENDPOINT_NOT_FOUND", "closed on this server")
    assert guard._refusal({**scope, "path": "/api/2.0/mlflow/runs/create"}) is None


def test_a_static_prefix_moves_the_doors_and_opens_none() -> None:
    """`mlflow server --static-prefix /lab`."""
    guard = Guard(_unreachable, hosts=["here"], prefix="/lab/")
    answers = {}
    for path in (
        "/lab/api/2.0/mlflow/runs/get",
        "/lab/lab/api/2.0/mlflow/runs/get",
        "/lab/gateway/x",
        "/lab",
        "/laboratory/",
    ):
        scope = {"type": "http", "method": "GET", "path": path, "headers": [(b"host", b"here")]}
        answers[path] = (guard._refusal(scope) or (200,))[0]
    assert list(answers.values()) == [200, 404, 404, 404, 404]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"_MLFLOW_SGI_NAME": "gunicorn"}, "runs under uvicorn only"),
        ({"MLFLOW_SERVER_ALLOWED_HOSTS": "*, 10.*"}, "names no host"),
        ({"_MLFLOW_STATIC_PREFIX": "/static-lab"}, "would switch the login off"),
    ],
)
def test_an_app_that_could_not_guard_does_not_start(setting: dict[str, str], line: str) -> None:
    """In a process of its own, since the app sets the environment; MLflow is not even imported."""
    code = "from harness.tracking.server import create_app_with_login; create_app_with_login()"
    answer = subprocess.run([sys.executable, "-c", code], env=os.environ | setting, capture_output=True, text=True)
    assert answer.returncode == 1
    assert line in answer.stderr.splitlines()[-1]


async def _unreachable(*_: object) -> None:
    raise AssertionError("nothing may come through")


@pytest.mark.slow
def test_a_model_that_is_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    """In a process with the server's settings, whatever the environment says."""
    code = """
import sys, mlflow
class Model(mlflow.pyfunc.PythonModel):
    def __reduce__(self): return print, ("the pickle ran",)
    def predict(self, context, model_input, params=None): return 1
mlflow.pyfunc.save_model(sys.argv[1], python_model=Model(), pip_requirements=[])
import harness.tracking.server
try:
    mlflow.pyfunc.load_model(sys.argv[1])
except mlflow.MlflowException as error:
    print("refused" if "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" in str(error) else error)
"""
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    answer = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines()[-1:] == ["refused"], answer.stdout + answer.stderr
    assert "the pickle ran" not in answer.stdout
