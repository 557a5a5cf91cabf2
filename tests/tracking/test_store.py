"""Where MLflow's data lie, and that no password is shown."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from harness.tracking.store import (
    client_settings,
    printable,
    runs_link,
    sqlite_uri,
    tracking_store,
    tracking_uri,
)


def test_the_embedded_default_lies_in_the_home(tmp_path: Path) -> None:
    """SQLite and artifacts stand beside the trial folders."""
    store = tracking_store(tmp_path, {})
    assert store.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert store.artifact_root == tmp_path / "artifacts"
    assert store.embedded


def test_mlflows_own_variable_is_honoured(tmp_path: Path) -> None:
    """A server of one's own decides where artifacts go."""
    store = tracking_store(tmp_path, {"MLFLOW_TRACKING_URI": "http://localhost:5000"})
    assert tracking_uri(tmp_path, {"MLFLOW_TRACKING_URI": "http://localhost:5000"}) == "http://localhost:5000"
    assert store.artifact_root is None


@pytest.mark.parametrize("name", ["plain", "with space", "what?", "a#b", "100%", "50%20", "it's", 'say "é"', "a&b=c;d"])
def test_sqlite_uris_reach_the_file_whatever_its_path(tmp_path: Path, name: str) -> None:
    """The database that SQLAlchemy opens is the file that was meant, and no other file appears."""
    folder = tmp_path / name
    folder.mkdir()
    file = folder / "mlflow.db"
    engine = create_engine(sqlite_uri(file))
    with engine.begin() as connection:
        connection.execute(text("create table runs (id integer)"))
    engine.dispose()
    connection = sqlite3.connect(file)
    assert connection.execute("select name from sqlite_master").fetchall() == [("runs",)]
    connection.close()
    assert [path.name for path in tmp_path.rglob("*")] == [name, "mlflow.db"]


@given(password=st.text(st.characters(exclude_characters="@/?#", exclude_categories=["Z", "C"]), min_size=4))
def test_a_password_is_never_printed(password: str) -> None:
    """Whatever URL-safe password stands in a URI, `***` stands in what is shown."""
    shown = printable(f"cannot reach postgresql+psycopg://ann:{password}@db.example:5432/mlflow today")
    assert shown == "cannot reach postgresql+psycopg://ann:***@db.example:5432/mlflow today"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://localhost:5000", "http://localhost:5000"),
        ("sqlite:////home/a:b@c/mlflow.db", "sqlite:////home/a:b@c/mlflow.db"),
        (
            "postgresql://db/x?user=ann&password=abc&sslmode=require",
            "postgresql://db/x?user=ann&password=***&sslmode=require",
        ),
        (
            "https://ann:a@b.example/x https://bob:c@d.example",
            "https://ann:***@b.example/x https://bob:***@d.example",
        ),
    ],
)
def test_only_passwords_are_hidden(uri: str, shown: str) -> None:
    """Ports, paths and names stay readable."""
    assert printable(uri) == shown


def test_settings_of_the_person_are_kept() -> None:
    """Somebody who wants MLflow's own patience gets it."""
    settings = client_settings({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7"})
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in settings
    assert settings["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"


def test_the_link_to_a_sweeps_trials_sorts_and_filters() -> None:
    """Best first, without the parent run, on the pages for training."""
    page, query = runs_link("http://127.0.0.1:5000/", "3", 2).split("?")
    assert page == "http://127.0.0.1:5000/#/experiments/3/runs"
    assert parse_qs(query) == {
        "workflowType": ["machine_learning"],
        "searchFilter": ["tags.stratum != '' AND tags.generation = '2'"],
        "orderByKey": ["metrics.`objective`"],
        "orderByAsc": ["false"],
        "compareRunsMode": ["CHART"],
    }


def test_the_link_to_a_saved_view_says_nothing_else() -> None:
    """Beside a filter or an order of its own, MLflow would ignore the view."""
    _, query = runs_link("http://127.0.0.1:5000/", "3", 2, view="harness-g2").split("?")
    expected = {"workflowType": "machine_learning", "compareRunsMode": "CHART", "viewStateShareKey": "harness-g2"}
    assert parse_qs(query) == {key: [value] for key, value in expected.items()}


def test_importing_the_room_loads_no_mlflow() -> None:
    """Its import costs seconds, which belong into the outbox's thread."""
    names = ["store", "guard", "serve", "client", "content", "memory", "model", "naming"]
    names += ["outbox", "points", "project", "tracker", "view"]
    code = "import sys\n" + "".join(f"import harness.tracking.{name}\n" for name in names)
    code += "print(sorted({'mlflow', 'torch', 'pandas', 'sqlalchemy'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
