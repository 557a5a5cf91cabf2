"""One stack's folder: every path, the ports and the secrets, chosen once and kept."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import BadInput, Refused
from harness.files import read_json, write_json

HOST = "127.0.0.1"
WITH_PORTS = ("postgres", "s3", "mlflow", "ray-head", "dashboard")
SECRETS = ("harness_database", "mlflow_database", "mlflow_admin", "mlflow_cookies", "s3_key", "s3_secret", "ray")
# Below those that the kernel hands out to connections (32768 and up): none is taken while its service is away.
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stack lies. Only its owner reads the files with secrets."""

    folder: Path
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    link: Path  # to the folder: paths of UNIX sockets may have 107 characters

    def log(self, name: str) -> Path:
        """What a service said."""
        return self.folder / "logs" / f"{name}.log"

    def record(self, name: str) -> Path:
        """Which process the service is."""
        return self.folder / "processes" / f"{name}.json"

    def passwords_of(self, role: str) -> Path:
        """The database password of a role, as libpq reads it."""
        return self.folder / f"{role}.pgpass"

    @property
    def ray_token(self) -> Path:
        """The token of the Ray cluster."""
        return self.folder / "ray-token"

    @property
    def bucket(self) -> Path:
        """MLflow's artifacts."""
        return self.folder / "s3" / "mlflow"

    @property
    def environment(self) -> Path:
        """What a person sources."""
        return self.folder / "environment.sh"

    def address(self, name: str) -> str:
        """host:port of a service."""
        return f"{HOST}:{self.ports[name]}"


def exists(folder: Path) -> bool:
    """Whether a stack was ever made there."""
    return (folder / "stack.json").exists()


def open_place(folder: Path) -> Place:
    """The stack in `folder`, made where there is none. BadInput when its file is not one of ours."""
    folder = folder.absolute()
    for part in (folder, folder / "logs", folder / "processes"):
        part.mkdir(parents=True, exist_ok=True)
    # PostgreSQL refuses root; its own user must be able to pass through, not to look around.
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    known = _read(folder / "stack.json")
    if set(known.get("ports", ())) != set(WITH_PORTS) or "link" not in known:
        ports = dict(zip(WITH_PORTS, _free_ports(len(WITH_PORTS)), strict=True))
        known = {"ports": ports, "link": f"/tmp/harness-{secrets.token_hex(4)}"}
        write_json(folder / "stack.json", known)
    secret = _read(folder / "secrets.json")
    if missing := [name for name in SECRETS if name not in secret]:
        secret |= {name: secrets.token_hex(24) for name in missing}
        write_private(folder / "secrets.json", json.dumps(secret, indent=1) + "\n")
    place = Place(folder, known["ports"], secret, Path(known["link"]))
    write_private(place.ray_token, secret["ray"])
    for role in ("harness", "mlflow"):
        line = f"{HOST}:{place.ports['postgres']}:*:{role}:{secret[f'{role}_database']}\n"
        write_private(place.passwords_of(role), line)
    place.bucket.mkdir(parents=True, exist_ok=True)
    return place


def link_up(place: Place) -> None:
    """Make the short path; Refused when it is somebody else's."""
    with contextlib.suppress(FileExistsError):
        place.link.symlink_to(place.folder)
    if not place.link.is_symlink() or place.link.readlink() != place.folder:
        raise Refused(
            f"{place.link} does not lead to {place.folder}; remove {place.folder / 'stack.json'} to choose anew"
        )


def write_private(path: Path, content: str) -> None:
    """Replace `path` in one step by a file that only its owner reads (mode 600), unless it says so already."""
    if path.exists() and path.read_text(encoding="utf-8") == content:
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = read_json(path)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BadInput(f"{path}: not a file of a stack; choose another --folder, or remove it")
    return value


def _free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        port = _PORTS[secrets.randbelow(len(_PORTS))]
        if is_free(port):
            found.add(port)
    return sorted(found)


def is_free(port: int) -> bool:
    """Whether nobody listens there."""
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True
