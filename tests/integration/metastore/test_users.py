"""Users, roles, sessions, tokens and limits on a database of each kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from sqlalchemy import delete, insert, select

from opskit.core.metastore import (
    access_files,
    api_tokens,
    history,
    passwords,
    roles,
    sign_in_limits,
    tables,
    users,
    web_sessions,
)
from opskit.core.metastore.engine import Connection, Engine, open_engine, reading, transaction
from opskit.core.metastore.permissions import ROLES
from opskit.errors import GuardRefused, NotFound, UsageError
from opskit.web.security import first_user
from tests.databases import KINDS, Databases
from tests.metastore_rows import dag_data, loaded_file
from tests.web_site import CHEAP

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
IDLE = timedelta(hours=12)


@pytest.fixture(scope="module", params=KINDS)
def one_engine(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Engine]:
    """One metastore of each kind for all tests of this module: making one takes longer than a test."""
    url = databases.migrated(request.param)
    made = open_engine(url)
    yield made
    made.dispose()
    databases.drop(url)


@pytest.fixture
def engine(one_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(passwords, "_METHOD", CHEAP)
    with transaction(one_engine) as connection:
        for table in tables.metadata.tables.values():
            if table.name.startswith("web_") or table in (tables.dag, tables.log, tables.task_instance_note):
                connection.execute(delete(table))
    return one_engine


def add(connection: Connection, name: str, *names: str) -> users.User:
    hashed = passwords.hashed(f"password of {name}")
    return users.create_user(connection, name, NOW, roles=names, password_hash=hashed, email=f"{name}@x.org")


def test_users_are_made_changed_and_deleted_and_an_admin_always_stays(engine: Engine) -> None:
    with transaction(engine) as connection:
        mia, bob = add(connection, "Mia", "Admin", "Viewer"), add(connection, "bob", "Op")
        assert (mia.roles, mia.has_password, mia.is_active) == (("Admin", "Viewer"), True, True)
        for taken in ({"username": "Mia"}, {"username": "x", "email": "MIA@X.org"}):
            with pytest.raises(users.Taken):
                users.create_user(connection, now=NOW, roles=[], password_hash=None, **taken)  # type: ignore[arg-type]
        add(connection, "mia2", "Viewer")
        for name in ("", "a b", "a:b", "a/b", "x" * 251, "a\nb"):
            with pytest.raises(UsageError):
                add(connection, name)
        with pytest.raises(NotFound, match="no role 'Opp'"):
            add(connection, "eve", "Opp")
        with pytest.raises(UsageError, match="hash"):
            users.update_user(connection, "bob", NOW, {"password_hash": "plain text"})
        for change in ({"roles": ["Op"]}, {"is_active": False}):
            with pytest.raises(GuardRefused, match="last active user with the role Admin"):
                users.update_user(connection, "Mia", NOW, change)
        with pytest.raises(GuardRefused):
            users.delete_user(connection, "Mia")
        changed = users.update_user(connection, "bob", NOW, {"roles": ["Admin"], "username": "rob"})
        assert (changed.id, changed.roles) == (bob.id, ("Admin",))
        users.delete_user(connection, "Mia")
        assert [one.username for one in users.list_users(connection)] == ["mia2", "rob"]


def test_two_admins_do_not_go_at_the_same_time(engine: Engine) -> None:
    with transaction(engine) as connection:
        for name in ("a", "b"):
            add(connection, name, "Admin")
    meet, refused = Barrier(2), []

    def go(name: str) -> None:
        meet.wait(10)
        try:
            with transaction(engine) as connection:
                users.update_user(connection, name, NOW, {"roles": []})
        except GuardRefused:
            refused.append(name)

    threads = [Thread(target=go, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(refused) == 1
    with reading(engine) as connection:
        assert [one.username for one in users.list_users(connection) if "Admin" in one.roles] == refused


def test_a_session_ends_by_time_by_password_and_by_deactivation_and_only_its_hash_is_stored(engine: Engine) -> None:
    def begin() -> str:
        return web_sessions.begin(
            connection, user, NOW, by="password", address="::1", agent="☂\n" * 300, lifetime=timedelta(days=7)
        )

    with transaction(engine) as connection:
        user = add(connection, "mia", "Viewer")
        add(connection, "ada", "Admin")
        cookie = begin()
        stored = connection.execute(select(tables.web_session)).mappings().one()
        assert cookie not in json.dumps(dict(stored), default=str)

        def holds(after: timedelta) -> bool:
            return web_sessions.find(connection, cookie, NOW + after, IDLE) is not None

        assert holds(timedelta(hours=11)) and not holds(timedelta(hours=12))
        session, _ = web_sessions.find(connection, cookie, NOW, IDLE) or pytest.fail("there is none")
        assert not web_sessions.is_stale(session, NOW) and web_sessions.is_stale(session, NOW + timedelta(minutes=1))
        web_sessions.seen(connection, session, NOW + timedelta(hours=11))
        assert holds(timedelta(hours=22))
        web_sessions.seen(connection, session, NOW + timedelta(days=7, minutes=-1))
        assert not holds(timedelta(days=7))  # however much it is used
        users.update_user(connection, "mia", NOW, {"is_active": False})
        assert web_sessions.list_sessions(connection, user.id, NOW, IDLE) == []
        users.update_user(connection, "mia", NOW, {"is_active": True})
        cookie = begin()
        users.update_user(connection, "mia", NOW, {"password_hash": passwords.hashed("another one")})
        assert not holds(timedelta())
        cookie = begin()
        # A restore or an import writes the row itself: the session holds for the password it was begun with only.
        connection.execute(tables.web_user.update().values(password=passwords.hashed("restored")))
        assert not holds(timedelta())
        web_sessions.sweep(connection, NOW + timedelta(days=8), IDLE)
        assert connection.execute(select(tables.web_session)).all() == []


def test_a_token_holds_until_it_expires_is_revoked_or_its_user_goes(engine: Engine) -> None:
    with transaction(engine) as connection:
        mia, ada = add(connection, "mia", "Op"), add(connection, "ada", "Admin")
        text, token = api_tokens.create_token(
            connection, mia, "ci", NOW, scopes=["read"], expires_at=NOW + timedelta(days=1)
        )
        stored = connection.execute(select(tables.web_token)).mappings().one()
        assert text.startswith("opskit_") and text not in json.dumps(dict(stored), default=str)

        def holds(after: timedelta = timedelta()) -> bool:
            return api_tokens.find_token(connection, text, NOW + after) is not None

        assert holds() and not holds(timedelta(days=1))
        assert api_tokens.find_token(connection, text + "x", NOW) is None
        with pytest.raises(NotFound):
            api_tokens.revoke_token(connection, token.id, NOW, user_id=ada.id)
        assert holds()
        api_tokens.revoke_token(connection, token.id, NOW, user_id=mia.id)
        assert not holds()
        for name, scopes, expires in (("", ["all"], None), ("x", [], None), ("x", ["fly"], None), ("x", ["all"], NOW)):
            with pytest.raises(UsageError):
                api_tokens.create_token(connection, mia, name, NOW, scopes=scopes, expires_at=expires)
        text, _ = api_tokens.create_token(connection, mia, "other", NOW, expires_at=None)
        users.update_user(connection, "mia", NOW, {"is_active": False})
        assert not holds()
        users.update_user(connection, "mia", NOW, {"is_active": True})
        assert holds()
        users.delete_user(connection, "mia")
        assert not holds() and connection.execute(select(tables.web_token)).all() == []


def test_roles_are_made_of_permissions_and_those_that_are_always_there_only_gain(engine: Engine) -> None:
    etl = ("can_edit", "DAG:etl")
    with transaction(engine) as connection:
        roles.create_role(connection, "Team", [("can_read", "DAGs")])
        add(connection, "mia", "Team", "Viewer")
        add(connection, "ada", "Admin")
        roles.add_permissions(connection, "Team", [etl])
        roles.add_permissions(connection, "Viewer", [etl])
        assert roles.permissions_of(connection, ["Team"]) == {("can_read", "DAGs"), etl}
        assert roles.permissions_of(connection, ["Viewer"]) == ROLES["Viewer"] | {etl}
        assert roles.permissions_of(connection, ["gone"]) == frozenset()
        with pytest.raises(GuardRefused, match="belongs to the role Viewer"):
            roles.remove_permissions(connection, "Viewer", [("can_read", "DAGs")])
        roles.remove_permissions(connection, "Viewer", [etl])
        assert roles.get_role(connection, "Viewer").added == frozenset()
        with pytest.raises(GuardRefused):
            roles.delete_role(connection, "Viewer")
        with pytest.raises(UsageError):
            roles.create_role(connection, "Admin")
        roles.rename_role(connection, "Team", "Crew")
        assert users.get_user(connection, "mia").roles == ("Crew", "Viewer")
        assert roles.delete_role(connection, "Crew") == ["mia"]
        assert users.get_user(connection, "mia").roles == ("Viewer",)


def test_what_a_dag_file_gives_to_a_role_holds_once_it_is_loaded(engine: Engine) -> None:
    from opskit.core.metastore import dag_loads

    data = {**dag_data("etl"), "access_control": {"Team": {"DAGs": ["can_read"], "DAG Runs": ["can_create"]}}}
    with transaction(engine) as connection:
        dag_loads.store_loaded_files(connection, [loaded_file("etl.py", data)], NOW)
        roles.create_role(connection, "Team")
        assert roles.permissions_of(connection, ["Team"]) == {("can_read", "DAG:etl"), ("can_create", "DAG Run:etl")}
        assert roles.permissions_of(connection, ["Public"]) == frozenset()
        dag_loads.store_loaded_files(connection, [loaded_file("etl.py", dag_data("etl"))], NOW)
        assert roles.permissions_of(connection, ["Team"]) == frozenset()


def test_guessing_becomes_slow_by_user_and_by_address_and_a_right_password_forgives(engine: Engine) -> None:
    def attempt(user: str, address: str, at: datetime) -> timedelta | None:
        return sign_in_limits.attempt(connection, user, address, at)

    with transaction(engine) as connection:
        at, waits = NOW, []
        for _ in range(14):
            assert attempt("ada", "1.1.1.1", at) is None
            wait = attempt("ada", "2.2.2.2", at)  # not counted while the name is blocked
            waits.append(wait)
            at += (wait or timedelta()) + timedelta(seconds=1)
        known = [wait.total_seconds() for wait in waits if wait]
        assert known == sorted(known) and known[0] == 2 and known[-1] == 60
        sign_in_limits.succeeded(connection, "ada", "2.2.2.2", at)
        assert attempt("ada", "2.2.2.2", at) is None
        at = NOW + timedelta(days=2)
        for number in range(30):
            if wait := attempt(f"user{number}", "3.3.3.3", at):
                at += wait
        last = attempt("another", "3.3.3.3", at) or attempt("another", "3.3.3.3", at)
        assert last is not None and timedelta(seconds=60) < last <= timedelta(minutes=15)
        assert attempt("another", "4.4.4.4", at + timedelta(minutes=2)) is None
        assert len(connection.execute(select(tables.web_sign_in_limit)).all()) < 40  # old rows are gone


def test_many_guesses_at_once_are_as_many_attempts(engine: Engine) -> None:
    meet, let_in = Barrier(8), []

    def guess() -> None:
        meet.wait(10)
        with transaction(engine) as connection:
            if sign_in_limits.attempt(connection, "ada", "1.1.1.1", NOW) is None:
                let_in.append(1)

    threads = [Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(let_in) == 5


def test_the_first_admin_is_made_once_and_the_password_is_told_once(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    meet, made = Barrier(2), []

    def start() -> None:
        meet.wait(10)
        made.append(first_user.make_if_none(engine))

    threads = [Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(made) == [False, True]
    told = capsys.readouterr().err
    password = told.split("    password  ")[1].split()[0]
    assert first_user.make_if_none(engine) is False
    assert capsys.readouterr().err == ""
    with reading(engine) as connection:
        user, stored = users.credentials(connection, "admin") or pytest.fail("nobody is there")
        rows = json.dumps([dict(row._mapping) for row in connection.execute(select(tables.log))], default=str)
    assert user.roles == ("Admin",) and passwords.is_right(stored, password)
    assert password not in rows and password not in str(stored)


def test_users_and_roles_go_to_a_file_and_come_back_with_their_passwords(engine: Engine) -> None:
    with transaction(engine) as connection:
        add(connection, "mia", "Admin")
        add(connection, "bob", "Viewer")
        roles.create_role(connection, "Team", [("can_read", "DAG:etl"), ("can_edit", "DAG:etl"), ("can_read", "Pools")])
        plain = access_files.dump_users(connection)
        assert "scrypt" not in plain
        text, roles_text = (
            access_files.dump_users(connection, hashes=True),
            access_files.dump_roles(access_files.own_roles(connection)),
        )
        before = users.list_users(connection)
        users.delete_user(connection, "bob")
        roles.delete_role(connection, "Team")
        done = access_files.import_roles(connection, roles_text, "roles.json")
        assert (done.added, done.skipped) == (["Team"], [])
        done = access_files.import_users(connection, text, "users.json", NOW)
        assert (done.added, done.unchanged, done.without_password) == (["bob"], ["mia"], [])
        found = users.credentials(connection, "bob")
        assert found is not None and passwords.is_right(found[1], "password of bob")
        assert [(one.username, one.roles, one.email) for one in users.list_users(connection)] == [
            (one.username, one.roles, one.email) for one in before
        ]
        theirs = [{"name": "Team", "resource": "My Profile", "action": "can_read,can_edit"}, "Old"]
        done = access_files.import_roles(connection, json.dumps(theirs), "roles.json")
        assert (done.added, done.unchanged, len(done.skipped)) == (["Old"], ["Team"], 2)
    for wrong in ("{", "{}", "[1]", '[{"email": "x"}]', '[{"username": "x", "roles": ["None"]}]'):
        with pytest.raises(UsageError, match=r"users\.json"), transaction(engine) as connection:
            access_files.import_users(connection, wrong, "users.json", NOW)


def test_notes_of_task_instances_go_with_their_run(engine: Engine) -> None:
    row = {"task_id": "t", "map_index": -1, "note": "look here", "username": "mia", "at": NOW}
    with transaction(engine) as connection:
        connection.execute(insert(tables.task_instance_note), [{**row, "dag_run_id": one} for one in (1, 2)])
        history.delete_runs(connection, [1])
        assert connection.execute(select(tables.task_instance_note.c.dag_run_id)).scalars().all() == [2]
