"""Files in MLflow's stores: sent, and read back. A server's own store may be slow, and so may the line to it."""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.files import sha256_file, size_text

# A server answers once its own store has the whole file, and that store is believed to take this much a second.
_STORE_BYTES_PER_S = 1e6
_TOO_LARGE = 413


def put(repository: Any, file: Path, folder: str) -> None:
    """Copy a file into a folder ("" is the top) of one of MLflow's repositories."""
    from mlflow.environment_variables import MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repo import verify_artifact_path
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    direct: bool = MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD.get()  # type: ignore[no-untyped-call]
    if direct or not isinstance(repository, HttpArtifactRepository):
        repository.log_artifact(str(file), folder or None)
        return
    verify_artifact_path(folder or None)  # type: ignore[no-untyped-call]
    with file.open("rb") as content:
        size_bytes = file.stat().st_size
        answer = _request(repository, "PUT", posixpath.join(folder, file.name), size_bytes, data=content)
    if answer.status_code == _TOO_LARGE:
        # Of whatever stands before the server. Asking again changes nothing, and others wait.
        reason = f"{file.name} ({size_text(size_bytes)}) is more than a request to the server may hold (413)"
        raise MlflowException.invalid_parameter_value(reason)
    answer.raise_for_status()


def read_back(repository: Any, path: str, size_bytes: int) -> str | None:
    """Hex sha256 of a file there, of a server's without a copy of it here; None when there is none."""
    from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

    if isinstance(repository, HttpArtifactRepository):
        with _request(repository, "GET", path, size_bytes, stream=True) as answer:
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
            digest = hashlib.sha256()
            for some in answer.iter_content(1 << 20):
                digest.update(some)
            return digest.hexdigest()
    if path not in {info.path for info in repository.list_artifacts(posixpath.dirname(path) or None)}:
        return None
    with TemporaryDirectory() as folder:
        return sha256_file(Path(repository.download_artifacts(path, folder)))


def _request(repository: Any, method: str, path: str, size_bytes: int, **more: Any) -> Any:
    """MLflow's own request for a file, but for how long it waits.

    MLflow waits 10 s (MLFLOW_HTTP_REQUEST_TIMEOUT, right for a question) wherever a file may keep it waiting: until the
    line takes more bytes, and until the server's own store has the file, or has given it.
    """
    from mlflow.environment_variables import MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    patience_s = MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT.get() or 120  # type: ignore[no-untyped-call]
    waits_s = (patience_s, patience_s + size_bytes / _STORE_BYTES_PER_S)  # to send, and for the answer
    server = get_default_host_creds(repository.artifact_uri)  # type: ignore[no-untyped-call]
    return http_request(server, f"/{path}", method, timeout=waits_s, **more)  # type: ignore[no-untyped-call]
