"""The command behind `harness ui`: MLflow's server on a home's runs, and who may reach it. Loads no mlflow."""

from __future__ import annotations

import os
import re
import secrets
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path

from harness.errors import BadInput, Refused
from harness.files import fsync_folder, write_text
from harness.tracking.guard import LOOPBACK_HOSTS
from harness.tracking.store import SERVER_SETTINGS, sqlite_uri, tracking_store

LOOPBACK = "127.0.0.1"
_PASSWORD_VARIABLE = "MLFLOW_AUTH_ADMIN_PASSWORD"
# What MLflow accepts, told before its server starts.
_PASSWORD_CHARACTERS = 12
_PASSWORD_OF_OLD_RELEASES = "password1234"
_HOST_NAME = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens, whether it asks for a login, and the names by which others may open it."""

    port: int
    host: str = LOOPBACK
    login: bool = False
    names: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The address to open in a browser."""
        name = self.names[0] if _is_wildcard(self.host) and self.names else _bracketed(self.host)
        return f"http://{name}" if _has_port(name) else f"http://{name}:{self.port}"

    @property
    def allowed_hosts(self) -> str:
        """Every Host header that is answered, for MLFLOW_SERVER_ALLOWED_HOSTS."""
        own = [] if is_loopback(self.host) or _is_wildcard(self.host) else [_bracketed(self.host)]
        listed = [LOOPBACK_HOSTS] if is_loopback(self.host) else []
        for name in [*own, *self.names]:
            # A browser leaves out the port where it is the scheme's own: behind a proxy with TLS.
            listed += [name] if _has_port(name) else [name, f"{name}:{self.port}"]
        return ",".join(listed)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there; a name other than localhost may mean anything."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(at: Address, environ: Mapping[str, str]) -> None:
    """BadInput for what is no host name; Refused for a server that others reach and that asks for no login."""
    for name in at.names:
        if not _HOST_NAME.fullmatch(name):
            raise BadInput(f"--allowed-host {name}: not the name of a host (allowed: `name`, `name:port`)")
    if not _HOST_NAME.fullmatch(_bracketed(at.host)) or _has_port(_bracketed(at.host)):
        raise BadInput(f"--host {at.host}: not an address of this machine")
    if not is_loopback(at.host) and not at.login:
        way = f"add --login and set {_PASSWORD_VARIABLE}, or leave --host out and reach it by `ssh -L`"
        raise Refused(f"--host {at.host} would show the runs to whoever reaches this machine: {way}")
    if _is_wildcard(at.host) and not at.names:
        raise Refused(
            f"--host {at.host} is no name to open in a browser: add --allowed-host NAME, as people will type it"
        )
    if at.login:
        _check_login(environ)


def _check_login(environ: Mapping[str, str]) -> None:
    password = environ.get(_PASSWORD_VARIABLE, "")
    if not password:
        raise Refused(f"--login needs a password for the first user: set {_PASSWORD_VARIABLE} in the environment")
    if len(password) < _PASSWORD_CHARACTERS:
        raise Refused(f"{_PASSWORD_VARIABLE} is too short: MLflow takes {_PASSWORD_CHARACTERS} characters or more")
    if password == _PASSWORD_OF_OLD_RELEASES:
        raise Refused(f"{_PASSWORD_VARIABLE} is the password that old releases of MLflow came with: choose another one")
    if find_spec("flask_wtf") is None:
        raise Refused("--login needs Flask-WTF; pip install 'tissue-sweep-harness[server]' brings it")


def ui_command(home: Path, at: Address, environ: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """(argv, environment) of an MLflow server that shows `home`'s runs, or a database's.

    Refused when MLFLOW_TRACKING_URI is a server already: its address is the UI. See `check_address` for the rest.
    """
    store = tracking_store(home, environ)
    if store.uri.startswith(("http://", "https://")):
        raise Refused(f"MLFLOW_TRACKING_URI is a server; open {store.printable} in a browser")
    check_address(at, environ)
    artifacts = store.artifact_root or home.absolute() / "artifacts"
    argv = [sys.executable, "-m", "mlflow", "server", "--app-name", "harness-login" if at.login else "harness"]
    argv += ["--host", at.host, "--port", str(at.port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    argv += ["--default-artifact-root", artifacts.as_uri(), "--no-serve-artifacts"]
    # In the environment, not in argv: a database URI may hold a password, and anyone can list processes.
    ours = {**SERVER_SETTINGS, "MLFLOW_BACKEND_STORE_URI": store.uri, "MLFLOW_SERVER_ALLOWED_HOSTS": at.allowed_hosts}
    return argv, {**environ, **ours, **(_login_settings(home.absolute()) if at.login else {})}


def _login_settings(home: Path) -> dict[str, str]:
    """MLflow's settings for a login; the users' database and the key are made in the home, for its owner alone."""
    users = home / "mlflow-users.db"
    # Before MLflow does, which would leave it to the umask; SQLite takes an empty file for a new database.
    os.close(os.open(users, os.O_CREAT | os.O_RDONLY, 0o600))
    users.chmod(0o600)
    # READ: whoever has an account sees every run, and changes those of experiments that they made.
    lines = ["[mlflow]", "default_permission = READ", f"database_uri = {sqlite_uri(users)}", "admin_username = admin"]
    lines.append("authorization_function = mlflow.server.auth:authenticate_request_basic_auth")
    # Otherwise every request hashes the password anew: .33 s instead of .03 s. What is changed through the server holds
    # at once, since there is one worker.
    lines.append("auth_cache_ttl_seconds = 60")
    config = home / "mlflow-login.ini"
    write_text(config, "\n".join(lines).replace("%", "%%") + "\n")
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": kept_key(home / "mlflow-login.key"),
    }


def kept_key(file: Path) -> str:
    """The random key in `file`, made once; nobody but the file's owner reads it."""
    if not file.exists():
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # 0600, unlike written_aside's
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32))
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):  # another start was faster; its key is the one
            os.link(name, file)
        Path(name).unlink()
        fsync_folder(file.parent)
    file.chmod(0o600)
    return file.read_text()


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _bracketed(host: str) -> str:
    """An address as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def _has_port(name: str) -> bool:
    return ":" in name.rpartition("]")[2]
