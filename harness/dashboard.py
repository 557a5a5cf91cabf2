"""optuna-dashboard on a storage, for exact hosts only.

It asks for no login and can delete studies, so nobody but this machine may come to it. The check of the Host header
keeps pages of other sites, whose names may be made to point here, away from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from harness.errors import Refused

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


def serve(storage: Any, *, host: str, port: int, allowed: Sequence[str]) -> None:
    """Serve an Optuna storage until ended; Refused when optuna-dashboard is not installed."""
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        install = "pip install 'tissue-sweep-harness[dashboard]'"
        raise Refused(f"optuna-dashboard is not installed; {install} brings it") from None
    application = guarded(wsgi(storage), allowed)
    make_server(host, port, application, server_class=_Server, handler_class=_Quiet).serve_forever()
