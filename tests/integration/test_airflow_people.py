"""Users and roles of a real Airflow's tables, and of its export files, become users and roles here."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from opskit.core.metastore import passwords, roles, users
from opskit.core.metastore.engine import Engine, open_engine, reading
from tests.databases import Databases

DUMP = Path(__file__).parent / "airflow_dumps" / "airflow_2.sql"
WORD = "c0rrect horse"
SCRYPT = f"scrypt:1024:8:1$salt${hashlib.scrypt(WORD.encode(), salt=b'salt', n=1024, r=8, p=1).hex()}"
PBKDF2 = f"pbkdf2:sha256:1000$grain${hashlib.pbkdf2_hmac('sha256', WORD.encode(), b'grain', 1000).hex()}"
TABLES = """
CREATE TABLE ab_user_role (id INTEGER PRIMARY KEY, user_id INTEGER, role_id INTEGER);
CREATE TABLE ab_permission (id INTEGER PRIMARY KEY, name VARCHAR(100));
CREATE TABLE ab_view_menu (id INTEGER PRIMARY KEY, name VARCHAR(250));
CREATE TABLE ab_permission_view (id INTEGER PRIMARY KEY, permission_id INTEGER, view_menu_id INTEGER);
CREATE TABLE ab_permission_view_role (id INTEGER PRIMARY KEY, permission_view_id INTEGER, role_id INTEGER);
INSERT INTO ab_role VALUES (3, 'Loaders');
INSERT INTO ab_user_role VALUES (1, 1, 1), (2, 2, 3), (3, 3, 1);
INSERT INTO ab_permission VALUES (1, 'can_read'), (2, 'can_edit');
INSERT INTO ab_view_menu VALUES (1, 'DAGs'), (2, 'SLA Misses'), (3, 'DAG:load'), (4, 'Assets');
INSERT INTO ab_permission_view VALUES (1, 1, 1), (2, 1, 2), (3, 2, 3), (4, 1, 4);
INSERT INTO ab_permission_view_role VALUES (1, 1, 3), (2, 2, 3), (3, 3, 3), (4, 4, 3), (5, 1, 1);
"""


@pytest.fixture
def engine(home: Path, databases: Databases, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    del home
    url = databases.migrated("sqlite")
    monkeypatch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
    opened = open_engine(url)
    yield opened
    opened.dispose()


@pytest.fixture
def airflow_url(tmp_path: Path) -> str:
    path = tmp_path / "airflow.db"
    insert = "INSERT INTO ab_user (id, first_name, last_name, username, password, active, email) VALUES (?,?,?,?,?,?,?)"
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(DUMP.read_text(encoding="utf-8") + TABLES)
        database.execute("UPDATE ab_user SET password = ?", (SCRYPT,))
        database.execute(insert, (2, "Bo", "", "bo@example.com", PBKDF2, 0, "bo@example.com"))
        database.execute(insert, (3, "Cy", "Dee", "cy", "md5$x$y", 1, "cy@example.com"))
    return f"sqlite:///{path}"


def take(*arguments: object) -> tuple[int, dict[str, Any]]:
    """`opskit airflow import …` in this process; the exit code and what it printed as JSON."""
    from opskit.cli import run

    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error):
        code = run(["airflow", "import", "--yes", "-o", "json", *map(str, arguments)])
    return code, json.loads(out.getvalue()) if out.getvalue().strip() else {"error": error.getvalue()}


def test_users_come_with_their_roles_and_sign_in_with_the_passwords_that_they_had(
    engine: Engine, airflow_url: str
) -> None:
    code, told = take("--from-db", airflow_url)
    assert (code, told["failed"]) == (0, [])
    assert SCRYPT not in json.dumps(told)
    reasons = {item["what"]: item["why"] for item in told["not_taken"]}
    assert "kind that opskit does not know" in reasons["users/cy.password"]
    assert reasons["roles/Loaders.permissions"] == "opskit has no can_read on SLA Misses"
    with reading(engine) as connection:
        ann = users.get_user(connection, "ann")
        assert (ann.name, ann.email, ann.roles, ann.is_active) == ("Ann Bee", "ann@example.com", ("Admin",), True)
        bo = users.get_user(connection, "bo@example.com")
        assert (bo.roles, bo.is_active) == (("Loaders",), False)
        assert not users.get_user(connection, "cy").has_password
        for name in ("ann", "bo@example.com"):
            found = users.credentials(connection, name)
            assert found is not None
            assert passwords.is_right(found[1], WORD)
            assert not passwords.is_right(found[1], WORD + "!")
        wanted = {("can_read", "DAGs"), ("can_edit", "DAG:load"), ("can_read", "Datasets")}
        assert roles.get_role(connection, "Loaders").permissions == wanted
    code, again = take("--from-db", airflow_url)
    assert (code, [item for item in again["objects"] if item["kind"] in ("users", "roles")]) == (0, [])


def test_a_user_who_is_here_stays_as_he_is_unless_he_is_to_be_overwritten(engine: Engine, airflow_url: str) -> None:
    take("--from-db", airflow_url)
    with closing(sqlite3.connect(airflow_url.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE ab_user SET last_name = 'Bea' WHERE username = 'ann'")
    _, told = take("--from-db", airflow_url)
    assert "--overwrite" in {item["what"]: item["why"] for item in told["not_taken"]}["users/ann"]
    take("--from-db", airflow_url, "--overwrite")
    with reading(engine) as connection:
        assert users.get_user(connection, "ann").last_name == "Bea"


def test_the_last_admin_is_not_taken_away_by_an_import(engine: Engine, airflow_url: str) -> None:
    take("--from-db", airflow_url)
    with closing(sqlite3.connect(airflow_url.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE ab_user SET active = 0")
    code, told = take("--from-db", airflow_url, "--overwrite")
    assert (code, len(told["failed"])) == (3, 1)
    with reading(engine) as connection:
        assert any(user.is_active and "Admin" in user.roles for user in users.list_users(connection))


def test_export_files_bring_users_without_passwords(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "roles.json").write_text(
        json.dumps(
            [
                {"name": "Admin", "resource": "DAGs", "action": "can_read"},
                {"name": "Loaders", "resource": "DAG Runs", "action": "can_read,can_create"},
            ]
        )
    )
    (tmp_path / "users.json").write_text(
        json.dumps(
            [
                {
                    "id": 1,
                    "username": "ann",
                    "email": "a@b.c",
                    "first_name": "A",
                    "last_name": "B",
                    "roles": ["Loaders", "No"],
                }
            ]
        )
    )
    code, told = take("--export-file", tmp_path / "roles.json", "--export-file", tmp_path / "users.json")
    assert code == 0
    assert {item["what"] for item in told["not_taken"]} == {"users/ann.password", "users/ann.roles"}
    with reading(engine) as connection:
        ann = users.get_user(connection, "ann")
        assert (ann.roles, ann.has_password) == (("Loaders",), False)
        wanted = {("can_read", "DAG Runs"), ("can_create", "DAG Runs")}
        assert roles.get_role(connection, "Loaders").permissions == wanted
    (tmp_path / "users.json").write_text('{"ann": 1}')
    code, told = take("--export-file", tmp_path / "users.json")
    assert code == 2
    assert "is not what airflow users export writes" in told["error"]
