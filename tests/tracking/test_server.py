"""MLflow's server behind our guard: real servers on loopback, without and with a login."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.tracking.client import MlflowTracker
from harness.tracking.serve import Address, ui_command
from harness.tracking.store import Store, client_settings, sqlite_uri
from harness.tracking.tracker import Point, Shelf

PASSWORD = "correct horse battery"
# What an environment may have forgotten, or have from elsewhere.
CARELESS = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    "MLFLOW_ARTIFACT_LOCATION_MAX_LENGTH": "2048",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Server:
    """A server that runs, and the login that it asks for."""

    port: int
    process: int
    login: tuple[str, str] | None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        target: str,
        method: str = "GET",
        *,
        body: object = None,
        host: str | None = None,
        origin: str | None = None,
        known: bool = True,
    ) -> tuple[int, str]:
        """(status, text); the target travels as it is written."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        content = b"" if body is None else json.dumps(body).encode()
        connection.putrequest(method, target, skip_host=True)
        headers = {"Host": host or f"127.0.0.1:{self.port}", "Content-Length": str(len(content))}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Origin": origin} if origin else {}
        if known and self.login:
            headers["Authorization"] = "Basic " + b64encode(":".join(self.login).encode()).decode()
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(content)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, text

    def call(self, route: str, body: dict[str, Any]) -> Any:
        """MLflow's answer to a POST that works."""
        status, text = self.ask(f"/api/2.0/mlflow/{route}", "POST", body=body)
        assert status == 200, text
        return json.loads(text)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def running(argv: list[str], environment: dict[str, str], folder: Path, server: tuple[int, Any]) -> Iterator[Server]:
    """The server, once it answers, and its end."""
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(argv, env=environment, cwd=folder, stdout=said, stderr=said, start_new_session=True)
    started = Server(server[0], process.pid, server[1])
    deadline = time.monotonic() + 120
    try:
        while True:
            with suppress(OSError):
                if started.ask("/health")[0] == 200:
                    break
            assert process.poll() is None and time.monotonic() < deadline, (folder / "said").read_text()
            time.sleep(0.2)
        yield started
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`mlflow server --app-name harness`, as a lab would start it, in an environment that nobody tended."""
    folder, port = tmp_path_factory.mktemp("plain"), free_port()
    argv = [sys.executable, "-m", "mlflow", "server", "--app-name", "harness", "--port", str(port), "--workers", "1"]
    argv += ["--backend-store-uri", sqlite_uri(folder / "mlflow.db"), "--artifacts-destination", str(folder / "files")]
    with running(argv, os.environ | CARELESS, folder, (port, None)) as started:
        yield started


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What `harness ui --login --allowed-host lab.example` runs."""
    home, port = tmp_path_factory.mktemp("a home"), free_port()
    at = Address(port, login=True, names=("lab.example",))
    argv, environment = ui_command(home, at, os.environ | CARELESS | {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD})
    with running(argv, environment, home, (port, ("admin", PASSWORD))) as started:
        yield started


@pytest.fixture(params=["plain", "asking"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the two."""
    return request.getfixturevalue(request.param)


CLOSED = [
    ("POST", "/ajax-api/3.0/jobs/search"),
    ("GET", "/ajax-api/3.0/mlflow/jobs/1"),
    ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"),
    ("POST", "/gateway/mlflow/v1/chat/completions"),
    ("POST", "/gateway/proxy/name/any/path"),
    ("GET", "/api/3.0/mlflow/gateway/secrets/list"),
    ("GET", "/api/2.0/mlflow/webhooks"),
    ("POST", "/api/2.0/mlflow/webhooks/1/test"),
    ("POST", "/ajax-api/2.0/mlflow/runs/create-promptlab-run"),
    ("GET", "/api/3.0/mlflow/mcp-servers"),
    ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"),
    ("POST", "/api/3.0/mlflow/scorers/register"),
    ("POST", "/ajax-api/3.0/mlflow/genai/evaluate/invoke"),
    ("POST", "/v1/traces"),
    ("POST", "/api/2.0/mlflow/artifacts/presigned-upload-url"),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/0/file"),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/0/file"),
    ("GET", "/a-route-of-a-later-release"),
]
TRICKS = [
    "//ajax-api/3.0/jobs/search",
    "/ajax-api//3.0/jobs/search",
    "/ajax-api/3.0/jobs/search/",
    "/./ajax-api/3.0/jobs/search",
    "/health/../ajax-api/3.0/jobs/search",
    "/api/2.0/mlflow/runs/../webhooks",
    "/api/2.0/mlflow/runs/%2e%2e/webhooks",
    "/api/2.0/mlflow/runs/%252e%252e/webhooks",
    "/%61jax-api/3.0/%6Aobs/search",
    "/ajax-api%2f3.0%2fjobs%2fsearch",
    "/AJAX-API/3.0/jobs/search",
    "/ajax-api/3.0/jobs/search;x=1",
    "/ajax-api/2.0mlflow/experiments/search-datasets",
    "/mlflow/ajax-api/3.0/jobs/search",
    "http://127.0.0.1/ajax-api/3.0/jobs/search",
]


@pytest.mark.slow
def test_what_a_sweeps_users_never_need_is_not_there(server: Server) -> None:
    """404 as if MLflow had none of it, whoever asks."""
    assert {(m, t): server.ask(t, m, body={} if m == "POST" else None)[0] for m, t in CLOSED} == dict.fromkeys(
        CLOSED, 404
    )


@pytest.mark.slow
def test_no_spelling_of_a_closed_route_opens_it(server: Server) -> None:
    """Both routers behind decode once and resolve nothing, and so does the guard."""
    assert {target: server.ask(target, "POST", body={})[0] for target in TRICKS} == dict.fromkeys(TRICKS, 404)


@pytest.mark.slow
def test_pages_and_calls_of_a_sweep_are_open(server: Server) -> None:
    """The UI with its files, and what it and the client ask first."""
    status, page = server.ask("/")
    assert (status, "<div id=" in page) == (200, True)
    (script,) = re.findall(r'src="(static-files/static/js/main[^"]+)"', page)
    assert server.ask(f"/{script}")[0] == 200
    assert server.ask("/version")[0] == 200
    for api in ("api", "ajax-api"):
        assert server.ask(f"/{api}/2.0/mlflow/experiments/search?max_results=5")[0] == 200
        assert server.ask(f"/{api}/2.0/mlflow/runs/search", "POST", body={"experiment_ids": ["0"]})[0] == 200
        here = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
        assert server.ask(f"/{api}/3.0/mlflow/traces/search", "POST", body={"locations": [here]})[0] == 200
        assert server.ask(f"/{api}/3.0/mlflow/server-info")[0] == 200


@pytest.mark.slow
def test_the_table_of_runs_hears_that_there_are_no_language_models(server: Server) -> None:
    """Instead of an error that it would show; the question goes no further than the guard."""
    target = "/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=http://127.0.0.1/"
    assert server.ask(target) == (200, '{"endpoints": []}')
    assert server.ask(target, host="evil.example")[0] == 403


@pytest.mark.slow
def test_a_name_that_is_not_the_servers_gets_nothing(server: Server) -> None:
    """DNS rebinding: a page's own name that leads to this address. MLflow's default would take the first two."""
    strangers = (
        "10.evil.example",
        "192.168.1.1.evil.example",
        "evil.example",
        f"evil.example:{server.port}",
        "0.0.0.0",
    )
    for host in strangers:
        for target in ("/", "/version", "/get-artifact", "/static-files/x", "/api/2.0/mlflow/experiments/search", "/x"):
            assert server.ask(target, host=host)[0] == 403, (host, target)
            assert server.ask(target, host=host, known=False)[0] == 403, (host, target)
        assert server.ask("/health", host=host)[0] == 200


@pytest.mark.slow
def test_a_page_of_another_server_gets_nothing(server: Server) -> None:
    """Not even what a GET would show; the server's own pages do, by each of its names."""
    search = "/ajax-api/2.0/mlflow/runs/search"
    body = {"experiment_ids": ["0"]}
    for origin in ("http://evil.example", "null", "http://localhost.evil.example", "http://localhost:3000"):
        assert server.ask(search, "POST", body=body, origin=origin)[0] == 403, origin
        assert server.ask("/get-artifact", origin=origin)[0] == 403, origin
    own = (f"127.0.0.1:{server.port}", f"localhost:{server.port}", "localhost:8000")  # the last by `ssh -L 8000:`
    for name in own:
        assert server.ask(search, "POST", body=body, host=name, origin=f"http://{name}")[0] == 200, name


@pytest.mark.slow
def test_the_ui_works_under_the_name_that_was_allowed(asking: Server) -> None:
    """Also behind a proxy with TLS, whose pages say https and no port."""
    body = {"experiment_ids": ["0"]}
    for host, origin in ((f"lab.example:{asking.port}", "http"), ("lab.example", "https")):
        own = f"{origin}://{host}"
        assert asking.ask("/ajax-api/2.0/mlflow/runs/search", "POST", body=body, host=host, origin=own)[0] == 200


@pytest.mark.slow
def test_without_the_password_nothing_is_shown(asking: Server) -> None:
    """But that it is alive, and what kind of server it is."""
    pages = ("/", "/version", "/graphql", "/get-artifact?path=x&run_uuid=1", "/api/2.0/mlflow/experiments/search")
    pages += ("/api/2.0/mlflow-artifacts/artifacts/0/file", "/api/2.0/mlflow/users/list", "/signup")
    wrong = Server(asking.port, asking.process, ("admin", "another password"))
    for page in pages:
        assert asking.ask(page, known=False)[0] == 401, page
        assert wrong.ask(page)[0] == 401, page
    assert asking.ask("/health", known=False) == (200, "OK")


@pytest.mark.slow
def test_a_second_user_reads_all_and_changes_only_their_own(asking: Server) -> None:
    """default_permission READ; accounts are an administrator's to make, and one that is removed is so at once."""
    made = asking.call("experiments/create", {"name": "admins"})["experiment_id"]
    asking.call("users/create", {"username": "ann", "password": "a password of ann"})
    ann = Server(asking.port, asking.process, ("ann", "a password of ann"))
    assert ann.ask(f"/api/2.0/mlflow/experiments/get?experiment_id={made}")[0] == 200
    assert ann.ask("/api/2.0/mlflow/experiments/delete", "POST", body={"experiment_id": made})[0] == 403
    assert ann.ask("/api/2.0/mlflow/runs/create", "POST", body={"experiment_id": made})[0] == 403
    hers = ann.call("experiments/create", {"name": "hers"})["experiment_id"]
    ann.call("experiments/delete", {"experiment_id": hers})
    body = {"username": "bob", "password": "a password of bob"}
    assert ann.ask("/api/2.0/mlflow/users/create", "POST", body=body)[0] == 403
    assert asking.ask("/api/2.0/mlflow/users/delete", "DELETE", body={"username": "ann"})[0] == 200
    assert ann.ask("/api/2.0/mlflow/experiments/search?max_results=5")[0] == 401


@pytest.mark.slow
def test_a_sweeps_tracker_needs_no_closed_route(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experiment, run, curves, a file and a model, written and read again."""
    for name, value in client_settings({}).items():
        monkeypatch.setenv(name, value)
    if server.login:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", server.login[0])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.login[1])
    tracker = MlflowTracker(Store(server.uri))
    experiment = tracker.experiment("unicorn")
    identity = ("harness.trial_uid", "default.0000")
    run = tracker.run(
        experiment, identity=identity, name="unet", tags={"stratum": "default"}, start_ms=1_700_000_000_000
    )
    tracker.log(run, params={"lr": "0.1"}, points=[Point("val/iou", 0.5, 1, 1_700_000_000_001)], tags={"state": "ok"})
    (tmp_path / "figure.txt").write_text("a figure")
    tracker.log_file(Shelf("run", run), tmp_path / "figure.txt", "figures")
    model = tracker.model(experiment, run, identity=identity, name="unet")
    (tmp_path / "MLmodel").write_text(f"flavors: {{}}\nmodel_id: {model.model_id}\n")
    tracker.log_file(Shelf("model", model.model_id), tmp_path / "MLmodel", "")
    tracker.finish_model(model.model_id, run, points=[])
    tracker.set_status(run, "FINISHED", 1_700_000_100_000)
    seen = tracker.read(run)
    assert (seen.status, seen.params, seen.metrics) == ("FINISHED", {"lr": "0.1"}, {"val/iou": 0.5})
    assert (seen.files, seen.models) == (("figures/figure.txt",), (model.model_id,))
    assert server.ask(f"/get-artifact?path=figures/figure.txt&run_uuid={run}") == (200, "a figure")


@pytest.mark.slow
def test_no_client_says_where_the_servers_files_are(server: Server, tmp_path: Path) -> None:
    """With a link in a folder of one's own, plain MLflow would send any file that its user can read."""
    body = {"name": "links", "artifact_location": tmp_path.as_uri()}
    status, said = server.ask("/api/2.0/mlflow/experiments/create", "POST", body=body)
    assert (status, json.loads(said)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.slow
def test_no_setting_starts_job_runners_or_ends_mlflows_own_checks(plain: Server) -> None:
    """The environment said so (CARELESS); one worker is all there is, and its pages stay out of frames."""
    (worker,) = psutil.Process(plain.process).children(recursive=True)
    assert "uvicorn" in worker.cmdline()
    connection = http.client.HTTPConnection("127.0.0.1", plain.port, timeout=60)
    connection.request("GET", "/")
    assert connection.getresponse().headers["X-Frame-Options"] == "SAMEORIGIN"
    connection.close()
