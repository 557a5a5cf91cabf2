"""optuna-dashboard over the studies in HARNESS_STORAGE, for the hosts in DASHBOARD_ALLOWED_HOSTS only.

It asks for no login and can delete studies, so nobody but this machine may come to it. The check of the Host header
keeps pages of other sites, whose names may be made to point here, away from it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """The page asks anew every few seconds; none of that is worth a line."""


def guarded(application: Application, allowed: Sequence[str]) -> Application:
    """The application, for requests whose Host is one of `allowed`; 403 for others."""

    def answer(request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if request.get("HTTP_HOST") in allowed:
            return application(request, start)
        start("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"this host is not allowed\n"]

    return answer


def main() -> None:
    """Serve until ended."""
    from optuna.storages import RDBStorage
    from optuna_dashboard import wsgi

    # Otherwise the first requests after a restart of the database fail on connections that are gone.
    storage = RDBStorage(os.environ["HARNESS_STORAGE"], engine_kwargs={"pool_pre_ping": True})
    application = guarded(wsgi(storage), os.environ["DASHBOARD_ALLOWED_HOSTS"].split(","))
    host, port = os.environ["DASHBOARD_HOST"], int(os.environ["DASHBOARD_PORT"])
    make_server(host, port, application, server_class=_Server, handler_class=_Quiet).serve_forever()


if __name__ == "__main__":
    main()
