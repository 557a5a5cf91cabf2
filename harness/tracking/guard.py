"""The doors of an MLflow server that stand open, and the layer in front of it that shuts all others. Loads no mlflow.

An allow list of methods and routes, not a list of what is shut: MLflow 3.17.2 registers 485, and 145 of them are open.
Most of the others are for language models (gateways to paid services with their keys, jobs, webhooks, an assistant that
runs commands), and every release adds some. A route that nobody has looked at answers 404, as if MLflow had none there:
clients and pages take that as "this server cannot do it", where 403 would send a person looking for another login.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from fnmatch import fnmatchcase
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# The brackets of IPv6 are a set to fnmatch unless they are in one.
LOOPBACK_HOSTS = "localhost,127.0.0.1,[::1],localhost:*,127.0.0.1:*,[[]::1]:*"

# Pages and files of the UI. An artifact's own file comes through get-artifact.
_PAGES = """
GET / ; GET /static-files/{path} ; GET /get-artifact ; GET /model-versions/get-artifact
GET /health ; GET /version ; GET POST /graphql ; GET /signup
"""
# Under /api/<version>/mlflow and /ajax-api/<version>/mlflow: the first for clients, the second for the UI.
# Not among them: artifacts are not deleted through the server (runs go to a trash), and no presigned address of an
# object store is handed out, since it works without a login until it ends.
_CALLS = {
    "2.0": """
POST experiments/create ; POST experiments/delete ; POST experiments/delete-experiment-tag ; GET experiments/get
GET experiments/get-by-name ; POST experiments/restore ; GET POST experiments/search ; POST experiments/update
POST experiments/search-datasets ; POST experiments/set-experiment-tag
POST runs/create ; POST runs/delete ; POST runs/delete-tag ; GET runs/get ; POST runs/log-batch ; POST runs/log-inputs
POST runs/log-metric ; POST runs/log-model ; POST runs/log-parameter ; POST runs/outputs ; POST runs/restore
POST runs/search ; POST runs/set-tag ; POST runs/update
GET metrics/get-history ; GET metrics/get-history-bulk ; GET metrics/get-history-bulk-interval
GET artifacts/list ; POST upload-artifact
POST logged-models ; POST logged-models/search ; GET PATCH DELETE logged-models/{id}
POST logged-models/{id}/params ; PATCH logged-models/{id}/tags ; DELETE logged-models/{id}/tags/{id}
GET logged-models/{id}/artifacts/directories ; GET logged-models/{id}/artifacts/files
POST registered-models/create ; DELETE registered-models/delete ; DELETE registered-models/delete-tag
GET registered-models/get ; GET POST registered-models/get-latest-versions ; POST registered-models/rename
GET registered-models/search ; POST registered-models/set-tag ; PATCH registered-models/update
GET POST DELETE registered-models/alias
POST model-versions/create ; DELETE model-versions/delete ; DELETE model-versions/delete-tag ; GET model-versions/get
GET model-versions/get-download-uri ; GET model-versions/search ; POST model-versions/set-tag
POST model-versions/transition-stage ; PATCH model-versions/update
POST users/create ; POST users/create-ui ; GET users/get ; GET users/list ; GET users/current ; DELETE users/delete
PATCH users/update-password ; PATCH users/update-admin
""",
    # The last line: lists that a run's pages ask for and would wait for; empty, since what fills them is closed.
    "3.0": """
GET server-info ; GET ui-telemetry
GET users/current/permissions ; GET users/permissions/list ; POST users/permissions/grant
POST users/permissions/revoke ; GET users/permissions/get ; GET users/roles/list
POST roles/create ; GET roles/get ; GET roles/list ; PATCH roles/update ; DELETE roles/delete
POST roles/permissions/add ; DELETE roles/permissions/remove ; GET roles/permissions/list
PATCH roles/permissions/update ; POST roles/assign ; DELETE roles/unassign ; GET roles/users/list
POST traces/search ; POST traces/metrics ; POST datasets/search ; GET scorers/list
""",
}
_SERVER_INFO = {"/api/3.0/mlflow/server-info", "/ajax-api/3.0/mlflow/server-info"}
# What a server on an object store says of itself there; clients would then go to closed routes, and fail.
_NOT_OFFERED = dict.fromkeys(
    (
        "multipart_uploads_enabled",
        "multipart_downloads_enabled",
        "presigned_upload_run_id_supported",
        "presigned_upload_model_id_supported",
    ),
    False,
)
# The table of runs asks this closed route which language models there are, and would show an error.
_NO_GATEWAY = ("GET", "/ajax-api/2.0/mlflow/gateway-proxy"), {"endpoints": list[str]()}
# A run's files where the server holds them (--serve-artifacts).
_FILES = "GET artifacts ; GET PUT artifacts/{path}"


def open_routes() -> frozenset[tuple[str, str]]:
    """(method, route) of every open door; `{id}` stands for one part of a path, `{path}` for the rest of it."""
    routes = _listed(_PAGES, "")
    for api in ("/api", "/ajax-api"):
        for version, calls in _CALLS.items():
            routes |= _listed(calls, f"{api}/{version}/mlflow/")
        routes |= _listed(_FILES, f"{api}/2.0/mlflow-artifacts/")
    return frozenset(routes)


def _listed(text: str, before: str) -> set[tuple[str, str]]:
    entries = (entry.split() for entry in text.replace("\n", ";").split(";") if entry.strip())
    return {(method, before + route) for *methods, route in entries for method in methods}


def exact_hosts(listed: str) -> tuple[str, ...]:
    """The names in a list for MLflow's MLFLOW_SERVER_ALLOWED_HOSTS that stand for one host each.

    `name`, `name:port` and `name:*` are such names. `*` and `10.*`, MLflow's own default, are not: 10.example.org is a
    host of anybody's.
    """
    hosts = (host.strip() for host in listed.split(","))
    return tuple(host for host in hosts if host and "*" not in host.removesuffix(":*"))


class Guard:
    """ASGI: passes on what an open route asks by a host's own name and from no foreign page; answers all else itself.

    403 for a foreign Host (another name for this address: DNS rebinding) and a foreign Origin (a page of another server
    that the person has open); 404 for a closed route. /health answers whatever the Host.
    """

    def __init__(self, app: App, *, hosts: Iterable[str], origins: Iterable[str] = (), prefix: str = "") -> None:
        self._app = app
        self._hosts, self._origins = tuple(hosts), tuple(origins)
        self._prefix = prefix.rstrip("/")
        by_method: dict[str, list[str]] = {}
        for method, route in sorted(open_routes()):
            by_method.setdefault(method, []).append(_pattern(route))
        self._open = {method: re.compile("|".join(routes)) for method, routes in by_method.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":  # MLflow has no websockets
            await send({"type": "websocket.close"})
        elif (refusal := self._refusal(scope)) is not None:
            status, code, sentence = refusal
            if status == 404 and (scope["method"], self._route(scope)) == _NO_GATEWAY[0]:
                await _answer(send, 200, _NO_GATEWAY[1])
            else:
                await _answer(send, status, {"error_code": code, "message": sentence})  # as MLflow puts it
        elif self._route(scope) in _SERVER_INFO:
            await self._app(scope, receive, _Amended(send, _NOT_OFFERED))
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        """(status, MLflow's code, a sentence) for a request that stays outside."""
        path = self._route(scope)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if path == "/health" and method == "GET":
            return None
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or not _named(hosts[0], self._hosts):
            return 403, "PERMISSION_DENIED", "not a name of this server (MLFLOW_SERVER_ALLOWED_HOSTS)"
        for origin in _values(scope, b"origin"):
            if origin.partition("://")[2] != hosts[0] and not _named(origin, self._origins):
                return 403, "PERMISSION_DENIED", "not asked from a page of this server"
        routes = self._open.get(method)
        if routes is None or not routes.fullmatch(path):
            return 404, "ENDPOINT_NOT_FOUND", "closed on this server"
        return None

    def _route(self, scope: Scope) -> str:
        """The path as both routers behind will read it: decoded once, nothing resolved.

        So `//`, `..` and what is still encoded match no open route.
        """
        path: str = scope["path"]
        return path.removeprefix(self._prefix) if path.startswith(f"{self._prefix}/") else path


def _pattern(route: str) -> str:
    return re.escape(route).replace(r"\{id\}", "[^/]+").replace(r"\{path\}", "(?s:.+)")


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _named(value: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(value, name) if "*" in name else value == name for name in names)


class _Amended:
    """Sends a JSON object on when all of it is there, with some of its values replaced; other answers as they are."""

    def __init__(self, send: Send, values: Mapping[str, Any]) -> None:
        self._send, self._values = send, values
        self._start: MutableMapping[str, Any] = {}
        self._body = b""

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        if self._start["status"] == 200 and self._body:
            await _answer(self._send, 200, {**json.loads(self._body), **self._values})
        else:
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": self._body})


async def _answer(send: Send, status: int, document: Mapping[str, Any]) -> None:
    body = json.dumps(document).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
