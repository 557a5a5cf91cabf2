"""`harness ui`: who may reach the server that it starts, and what it is told."""

from __future__ import annotations

import configparser
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.errors import BadInput, Refused
from harness.tracking.serve import Address, check_address, is_loopback, kept_key, ui_command

PASSWORD = {"MLFLOW_AUTH_ADMIN_PASSWORD": "correct horse battery"}


def test_the_ui_is_a_guarded_server_on_loopback_and_passwords_stay_out_of_its_arguments(tmp_path: Path) -> None:
    """Anyone on a machine may list processes with their arguments."""
    environ = {"MLFLOW_TRACKING_URI": "postgresql://ann:s3cret@db/mlflow"}
    argv, environment = ui_command(tmp_path, Address(5050), environ)
    assert argv[argv.index("--app-name") + 1] == "harness"
    assert argv[argv.index("--host") + 1] == "127.0.0.1"
    assert argv[argv.index("--port") + 1] == "5050"
    assert "s3cret" not in " ".join(argv)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == environ["MLFLOW_TRACKING_URI"]
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert list(tmp_path.iterdir()) == []


def test_a_server_needs_no_second_ui(tmp_path: Path) -> None:
    """Its address is the answer."""
    with pytest.raises(Refused, match=r"open http://ann:\*\*\*@host:5000 in a browser"):
        ui_command(tmp_path, Address(5050), {"MLFLOW_TRACKING_URI": "http://ann:s3cret@host:5000"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_this_machine_only(host: str) -> None:
    """No login is asked for there."""
    assert is_loopback(host)
    check_address(Address(5000, host), {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "lab.example", "localhost.example", "127.0.0.1.example"])
def test_others_are_let_in_only_with_a_login(host: str) -> None:
    """One line with both ways out."""
    assert not is_loopback(host)
    with pytest.raises(Refused, match=r"add --login and set MLFLOW_AUTH_ADMIN_PASSWORD.*ssh -L"):
        check_address(Address(5000, host), PASSWORD)


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, "set MLFLOW_AUTH_ADMIN_PASSWORD in the environment"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": ""}, "set MLFLOW_AUTH_ADMIN_PASSWORD in the environment"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "eleven char"}, "too short: MLflow takes 12 characters or more"),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "password1234"}, "choose another one"),
    ],
)
def test_a_login_needs_a_password_that_mlflow_takes(environ: dict[str, str], line: str) -> None:
    """Before a server starts that would end with a page of traceback; and the password is not repeated."""
    with pytest.raises(Refused, match=line) as refused:
        check_address(Address(5000, "10.1.2.3", login=True), environ)
    assert "eleven" not in str(refused.value)


def test_an_address_that_is_none_in_a_browser_needs_a_name() -> None:
    """Otherwise every Host would be a stranger's."""
    with pytest.raises(Refused, match="add --allowed-host NAME"):
        check_address(Address(5000, "0.0.0.0", login=True), PASSWORD)
    check_address(Address(5000, "0.0.0.0", login=True, names=("lab.example",)), PASSWORD)


@pytest.mark.parametrize("name", ["*", "*.lab.example", "10.*", "lab.example:*", "http://lab.example", "a,b", ""])
def test_names_are_exact(name: str) -> None:
    """A pattern would let in names that others own."""
    with pytest.raises(BadInput, match="not the name of a host"):
        check_address(Address(5000, names=(name,)), {})


def test_who_may_ask_by_which_name() -> None:
    """On loopback its own names at any port (`ssh -L`); elsewhere the address and the names given, and no other."""
    assert "localhost:*" in Address(5000).allowed_hosts.split(",")
    away = Address(5000, "10.1.2.3", login=True, names=("lab.example", "proxy.example:8443"))
    names = "10.1.2.3,10.1.2.3:5000,lab.example,lab.example:5000,proxy.example:8443"
    assert (away.allowed_hosts, away.url) == (names, "http://10.1.2.3:5000")
    everywhere = Address(5000, "0.0.0.0", login=True, names=("lab.example",))
    assert (everywhere.allowed_hosts, everywhere.url) == ("lab.example,lab.example:5000", "http://lab.example:5000")
    assert Address(5000, "fd00::1", login=True).allowed_hosts == "[fd00::1],[fd00::1]:5000"


def test_what_a_login_keeps_is_its_owners_alone(tmp_path: Path) -> None:
    """Users and key have mode 600, the password stands in no file and no argument, and the key stays."""
    home = tmp_path / "100% home"
    home.mkdir()
    argv, environment = ui_command(home, Address(5000, login=True), PASSWORD)
    assert argv[argv.index("--app-name") + 1] == "harness-login"
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()}
    assert modes.keys() == {"mlflow-users.db", "mlflow-login.key", "mlflow-login.ini"}
    assert {modes["mlflow-users.db"], modes["mlflow-login.key"]} == {0o600}
    config = configparser.ConfigParser()
    config.read(environment["MLFLOW_AUTH_CONFIG_PATH"])
    assert config["mlflow"]["default_permission"] == "READ"
    assert "mlflow-users.db" in config["mlflow"]["database_uri"]
    everything = " ".join(argv).encode() + b"".join(file.read_bytes() for file in home.iterdir())
    assert PASSWORD["MLFLOW_AUTH_ADMIN_PASSWORD"].encode() not in everything
    again = ui_command(home, Address(5000, login=True), PASSWORD)[1]
    key = environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]
    assert (again["MLFLOW_FLASK_SERVER_SECRET_KEY"], len(key)) == (key, 64)
    assert key not in " ".join(argv)


def test_keys_are_not_all_the_same_and_become_private(tmp_path: Path) -> None:
    """Random ones; a file that was copied with another mode gets its own back."""
    assert kept_key(tmp_path / "a") != kept_key(tmp_path / "b")
    (tmp_path / "a").chmod(0o644)
    kept_key(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--host", "0.0.0.0"], "would show the runs to whoever reaches this machine"),
        (["--host", "10.1.2.3", "--login"], "set MLFLOW_AUTH_ADMIN_PASSWORD"),
        (["--optuna", "--host", "0.0.0.0"], "optuna-dashboard has no login"),
        (["--optuna", "--host", "10.1.2.3", "--login"], "optuna-dashboard has no login"),
    ],
)
def test_the_command_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], line: str
) -> None:
    """Exit code 3, before anything listens."""
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    done = CliRunner().invoke(main, ["ui", *options, "--home", str(tmp_path)])
    assert (done.exit_code, len(done.output.splitlines())) == (3, 1), done.output
    assert line in done.output
