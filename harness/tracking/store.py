"""Where MLflow keeps a home's runs, and how its client and server are set up. Loads no mlflow."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

# As `user:password@` in URLs, and as the query parameters that database drivers accept.
_PASSWORD = re.compile(r"(?<=://)([^:/?#@\s]*):[^@/?#\s]*@")
_LOGIN = re.compile(r"(?<=://)[^/?#@\s]*@")
_PASSWORD_PARAMETER = re.compile(r"([?&](?:password|passwd|token|secret)[^=&\s]*=)[^&\s]*", re.IGNORECASE)

_CLIENT = {
    # With 7 retries of 120 s the client blocks for minutes on an outage; the outbox backs off by itself.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # Each wait while a file is sent or read, not all of it: a line of 100 kB/s keeps one waiting longer than 10 s.
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "120",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # Otherwise "View run ... at" goes to stdout for every run, and "Creating initial tables" to stderr.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
# What holds in every server of ours, whatever the environment says (harness/tracking/server.py).
SERVER_SETTINGS = {
    # The job runner (for scorers of language models): 8 more processes that nobody here needs.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # Its routes are closed; so its pages leave the UI's menu, too.
    "MLFLOW_ENABLE_AI_GATEWAY": "false",
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
    "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    # No experiment's files where a client says: another user of the machine could lay a link there, and be sent any
    # file that the server's user can read.
    "MLFLOW_ARTIFACT_LOCATION_MAX_LENGTH": "0",
    "MLFLOW_SERVER_ENABLE_GRAPHQL_AUTH": "true",
    # MLflow's own import of it; nothing that whoever opens the UI could mend.
    "PYTHONWARNINGS": "ignore:starlette.middleware.wsgi is deprecated",
}


@dataclass(frozen=True, slots=True)
class Store:
    """An MLflow tracking store. `artifact_root` is None where a server decides on its own."""

    uri: str
    artifact_root: Path | None = None

    @property
    def embedded(self) -> bool:
        """Whether this is the SQLite file of a home, and nobody's server."""
        return self.artifact_root is not None

    @property
    def printable(self) -> str:
        """The URI without its password."""
        return printable(self.uri)


def tracking_store(home: Path, environ: Mapping[str, str]) -> Store:
    """MLFLOW_TRACKING_URI if it is set; else `<home>/mlflow.db` with artifacts in `<home>/artifacts`."""
    chosen = environ.get("MLFLOW_TRACKING_URI", "").strip()
    if chosen:
        return Store(chosen)
    return Store(sqlite_uri(home.absolute() / "mlflow.db"), artifact_root=home.absolute() / "artifacts")


def tracking_uri(home: Path, environ: Mapping[str, str]) -> str:
    """The URI of `tracking_store`."""
    return tracking_store(home, environ).uri


def sqlite_uri(file: Path) -> str:
    """The SQLAlchemy URI of a SQLite file, whatever characters its path holds."""
    path = str(file.absolute())
    if not any(character in path for character in "?#%"):
        return f"sqlite:///{path}"
    # How these are escaped changed with SQLAlchemy 2.1, so it is asked; .3 s that other paths need not pay.
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=path).render_as_string(hide_password=False)


def printable(text: str) -> str:
    """`text` (a URI, or a message that quotes one) with passwords as `***`."""
    return _PASSWORD_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def without_login(uri: str) -> str:
    """A server's address as a link: whoever opens it is asked for name and password by the server."""
    return printable(_LOGIN.sub("", uri))


def client_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """MLflow's settings for a process that tracks, without those that the person has set already."""
    return {name: value for name, value in _CLIENT.items() if name not in environ}


def view_key(generation: int) -> str:
    """What a link calls the saved view of a generation (`harness.tracking.view`)."""
    return f"harness-g{generation}"


def trials_filter(generation: int) -> str:
    """MLflow's filter for a generation's trials: without the parent run, under which it would fold them away."""
    return f"tags.stratum != '' AND tags.generation = '{generation}'"


def runs_link(server: str, experiment_id: str, generation: int, *, view: str | None = None) -> str:
    """The page of MLflow's UI with a generation's trials, best first, as charts.

    `view` is the saved view that the experiment has; without one, MLflow's own columns and charts.
    """
    query = {"workflowType": "machine_learning", "compareRunsMode": "CHART"}
    if view is not None:
        query["viewStateShareKey"] = view  # a filter beside it would make MLflow ignore the view
    else:
        query |= {
            "searchFilter": trials_filter(generation),
            "orderByKey": "metrics.`objective`",
            "orderByAsc": "false",
        }
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs?{urlencode(query, quote_via=quote)}"
