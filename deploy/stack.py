"""`scripts/stack`: PostgreSQL, an S3 store, MLflow with a login, two nodes of Ray and optuna-dashboard, without Docker.

Everything runs as the person who starts it, on 127.0.0.1 only, out of one folder, and outlives the shell.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import psutil
from filelock import FileLock, Timeout

from deploy import processes
from deploy.account import account_of_postgres
from deploy.place import Place, exists, is_free, link_up, open_place, write_private
from deploy.services import ADMINISTRATOR, TABLE, Service, ray_client, ray_nodes, storage_url
from harness.cli_base import Group, json_option
from harness.errors import BadInput, Refused
from harness.files import size_text

# MLflow's first start makes the tables of two databases: some 20 s on two cores that do nothing else.
READY_TIMEOUT_S = 180.0
END_TIMEOUT_S = 10.0
_STEP_S = 0.2

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class State:
    """How a service is."""

    name: str
    state: str  # running, silent (it runs and does not answer), ended (though nobody ended it), stopped
    pid: int | None
    port: int | None
    memory_bytes: int
    log: str


class Stack:
    """The stack in one folder. `say` gets a line of progress at a time."""

    def __init__(self, folder: Path | str = "stack", *, say: Say = lambda line: None) -> None:
        self.folder, self._say = Path(folder).absolute(), say

    @property
    def place(self) -> Place:
        """Its paths, ports and secrets. Refused where no stack was ever up."""
        if not exists(self.folder):
            raise Refused(
                f"no stack in {self.folder}; scripts/stack up --folder {shlex.quote(str(self.folder))} makes one"
            )
        return open_place(self.folder)

    def up(self) -> None:
        """Start what does not run, and wait until all services answer. Refused, naming the log, when one does not."""
        open_place(self.folder)
        with self._alone():
            for layer in _layers():
                for service in layer:
                    self._begin(service)
                for service in layer:
                    self._await(service)
            write_private(self.place.environment, _exports(self.environment()))

    def down(self, *, delete: bool = False) -> None:
        """End all services and everything they began; with `delete`, remove the folder and all that is in it."""
        place = self.place
        with self._alone():
            for service in reversed(TABLE.values()):
                self._end(service)
            place.link.unlink(missing_ok=True)
            if delete:
                shutil.rmtree(self.folder)

    def start(self, name: str) -> None:
        """Start a service and wait until it answers; what follows it is started anew."""
        service, _ = _service(name), self.place
        with self._alone():
            for needed in service.needs:
                if self._leader(needed) is None:
                    raise Refused(f"{name} needs {needed}, which does not run: scripts/stack start {needed}")
            followed = [other for other in _followers(service) if self._leader(other.name) is not None]
            for begun in (service, *followed):
                self._begin(begun)
                self._await(begun)

    def stop(self, name: str) -> None:
        """End a service in order."""
        service, _ = _service(name), self.place
        with self._alone():
            self._end(service)

    def kill(self, name: str) -> None:
        """End all processes of a service at once (SIGKILL), as if its machine were gone."""
        service, place = _service(name), self.place
        with self._alone():
            leader = processes.read_leader(place.record(service.name))
            if leader is not None:
                processes.kill(leader)
                place.record(service.name).unlink(missing_ok=True)

    def status(self) -> list[State]:
        """How each service is, asked now."""
        place = self.place
        return [self._state(place, service) for service in TABLE.values()]

    def members(self, name: str) -> list[psutil.Process]:
        """All processes of a service, workers of Ray included."""
        leader = processes.read_leader(self.place.record(_service(name).name))
        return processes.members(leader) if leader else []

    def ray_nodes(self) -> list[dict[str, Any]]:
        """[{name, id, alive, started (unix seconds)}] of the cluster, dead nodes included."""
        return ray_nodes(self.place)

    def environment(self) -> dict[str, str]:
        """What a person exports to use the stack."""
        place = self.place
        return {
            "HARNESS_STORAGE": storage_url(place),
            "PGPASSFILE": str(place.passwords_of("harness")),
            "MLFLOW_TRACKING_URI": f"http://{place.address('mlflow')}",
            "MLFLOW_TRACKING_USERNAME": ADMINISTRATOR,
            "MLFLOW_TRACKING_PASSWORD": place.secrets["mlflow_admin"],
            "HARNESS_EXECUTOR": "ray",
            "HARNESS_HOME": str(place.folder / "home"),
            **ray_client(place),
        }

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time changes the stack."""
        try:
            with FileLock(self.folder / "lock", timeout=0):
                yield
        except Timeout:
            raise Refused(f"another command is at work on the stack in {self.folder}") from None

    def _leader(self, name: str) -> processes.Leader | None:
        leader = processes.read_leader(self.place.record(name))
        return leader if leader is not None and processes.leads(leader) else None

    def _begin(self, service: Service) -> None:
        if self._leader(service.name) is not None:
            return
        place = self.place
        for gone in (*_followers(service), service):  # and orphans of one that ended by itself
            self._end(gone)
        port = place.ports.get(service.name)
        if port is not None and not is_free(port):
            raise Refused(
                f"{service.name}: port {port} is taken by another program; end that, or remove "
                f"{place.folder / 'stack.json'} to choose other ports"
            )
        link_up(place)
        service.prepare(place)
        leader = processes.begin(
            service.command(place),
            environment=service.whole_environment(place),
            folder=place.folder,
            log=place.log(service.name),
            account=account_of_postgres() if service.is_postgres else None,
        )
        processes.write_leader(place.record(service.name), leader)

    def _await(self, service: Service) -> None:
        place, begun = self.place, time.monotonic()
        while not service.ready(place):
            if self._leader(service.name) is None:
                raise Refused(f"{service.name} ended instead of starting; {place.log(service.name)} says why")
            if time.monotonic() - begun > READY_TIMEOUT_S:
                raise Refused(
                    f"{service.name} does not answer after {READY_TIMEOUT_S:g} s; see {place.log(service.name)}"
                )
            time.sleep(_STEP_S)
        service.furnish(place)
        where = f" at {place.address(service.name)}" if service.name in place.ports else ""
        self._say(f"{service.name} is ready{where}")

    def _end(self, service: Service) -> None:
        record = self.place.record(service.name)
        leader = processes.read_leader(record)
        if leader is not None and processes.members(leader):
            processes.end(leader, service.ends_on, patience_s=END_TIMEOUT_S)
            self._say(f"{service.name} is stopped")
        record.unlink(missing_ok=True)

    def _state(self, place: Place, service: Service) -> State:
        leader = processes.read_leader(place.record(service.name))
        found = processes.members(leader) if leader else []
        if leader is None:
            state = "stopped"
        elif not processes.leads(leader):
            state = "ended"
        else:
            state = "running" if service.ready(place) else "silent"
        return State(
            service.name,
            state,
            leader.pid if leader and found else None,
            place.ports.get(service.name),
            processes.memory_bytes(found),
            str(place.log(service.name)),
        )


def _service(name: str) -> Service:
    if name not in TABLE:
        raise BadInput(f"{name!r} is not a service; choose from {', '.join(TABLE)}")
    return TABLE[name]


def _followers(service: Service) -> list[Service]:
    """Services that are of no use once this one starts anew."""
    return [other for other in TABLE.values() if other.follows == service.name]


def _layers() -> list[list[Service]]:
    """Services that can start together, those that others need first."""
    layers: list[list[Service]] = []
    done: set[str] = set()
    while len(done) < len(TABLE):
        layers.append([s for s in TABLE.values() if s.name not in done and done.issuperset(s.needs)])
        done |= {service.name for service in layers[-1]}
    return layers


def _exports(environment: dict[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The services around a sweep, on this machine only, without Docker (docs/stack.md).

    \b
    scripts/stack up
    . stack/environment.sh && harness sweep quickstart
    scripts/stack down
    """


def _folder_option(command: Callable[..., None]) -> Callable[..., None]:
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option("--folder", type=kind, default=Path("stack"), show_default=True, help="Where it lies.")(command)


def _aloud(folder: Path) -> Stack:
    return Stack(folder, say=lambda line: click.echo(line, err=True))


@main.command()
@_folder_option
@json_option
def up(folder: Path, as_json: bool) -> None:
    """Start what does not run; say how to use it."""
    stack = _aloud(folder)
    stack.up()
    if as_json:
        _print_states(stack)
        return
    place = stack.place
    click.echo(f"MLflow            http://{place.address('mlflow')} (login: {place.environment})")
    click.echo(f"optuna-dashboard  http://{place.address('dashboard')}")
    click.echo(f". {shlex.quote(str(folder / place.environment.name))} && harness sweep quickstart")


@main.command()
@_folder_option
@click.option("--delete", is_flag=True, help="Remove the folder too: databases, artifacts, home, logs.")
def down(folder: Path, delete: bool) -> None:
    """Stop everything; nothing is lost."""
    _aloud(folder).down(delete=delete)


@main.command()
@_folder_option
@json_option
def status(folder: Path, as_json: bool) -> None:
    """How each service is, and what memory it takes."""
    stack = _aloud(folder)
    if as_json:
        _print_states(stack)
        return
    for state in stack.status():
        size = size_text(state.memory_bytes) if state.memory_bytes else ""
        click.echo(f"{state.name:<10} {state.state:<8} {state.port or '':<6} {size:<8} {state.log}")


def _print_states(stack: Stack) -> None:
    states = [asdict(state) for state in stack.status()]
    environment = str(stack.place.environment)
    click.echo(json.dumps({"schema": "harness.stack/1", "environment": environment, "services": states}))


def _for_one(does: Callable[[Stack, str], None], text: str) -> None:
    """A command for a single service."""

    @main.command(does.__name__, help=text)
    @click.argument("name", metavar="SERVICE", type=click.Choice(list(TABLE)))
    @_folder_option
    def command(name: str, folder: Path) -> None:
        does(_aloud(folder), name)


_for_one(Stack.start, "Start one service, and wait until it answers.")
_for_one(Stack.stop, "Stop one service in order.")
_for_one(Stack.kill, "End one service at once, as if its machine were gone: for trying out faults.")


if __name__ == "__main__":
    main()
