"""Connections, variables, pools and their imports, on each kind of database."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, update

from opskit.core.dag.connection import Connection
from opskit.core.metastore import connections, imports, interchange, pools, tables, variables
from opskit.core.metastore.crypto import Cipher
from opskit.core.metastore.engine import Engine, transaction
from opskit.errors import GuardRefused, NotFound, OpskitError, UsageError
from tests.metastore_rows import NOW, start_run, store_dag


def _cipher() -> Cipher:
    return Cipher([Fernet.generate_key().decode()], "another")


def test_a_connection_comes_back_as_it_was_and_lies_encrypted(engine: Engine, cipher: Cipher) -> None:
    new = Connection("c:1", "http", "é", "h", "me", "geheim", "s", 80, {"token": "geheimer", "n": 1})
    with transaction(engine) as database:
        assert connections.put_connection(database, cipher, new)
        found = connections.get_connection(database, cipher, "c:1")
        assert found == new and found.description == "é"
        row = database.execute(select(tables.connection)).one()
        assert "geheim" not in row.password and "geheim" not in row.extra
        shown = connections.show_connections(database)[0]
        assert (shown.has_password, shown.has_extra, shown.login) == (True, True, "me")
        connections.delete_connection(database, "c:1")
        assert connections.find_connection(database, cipher, "c:1") is None


def test_an_empty_password_is_not_the_same_as_none(engine: Engine, cipher: Cipher) -> None:
    with transaction(engine) as database:
        for conn_id, password in (("none", None), ("empty", "")):
            connections.put_connection(database, cipher, Connection(conn_id, "http", password=password))
        found = {item.conn_id: item.password for item in connections.list_connections(database, cipher)}
    assert found == {"none": None, "empty": ""}


def test_a_conn_id_that_is_taken_or_malformed_is_refused(engine: Engine, cipher: Cipher) -> None:
    with transaction(engine) as database:
        connections.put_connection(database, cipher, Connection("postgres_main", "postgres"))
        with pytest.raises(UsageError, match="already"):
            connections.put_connection(database, cipher, Connection("postgres_main", "http"))
        assert not connections.put_connection(database, cipher, Connection("postgres_main", "http"), overwrite=True)
        for conn_id in ("", "a b", "x" * 251, "a=b", None):
            with pytest.raises(UsageError, match="conn_id"):
                connections.put_connection(database, cipher, Connection(conn_id, "http"))
        with pytest.raises(UsageError, match="longer"):
            connections.put_connection(database, cipher, Connection("c", "http", host="h" * 501))
        with pytest.raises(NotFound) as caught:
            connections.get_connection(database, cipher, "postgres_mian")
        assert "postgres_main" in str(caught.value.hint)


def test_what_can_not_be_decrypted_is_named_and_its_text_is_not_told(engine: Engine, cipher: Cipher) -> None:
    with transaction(engine) as database:
        connections.put_connection(database, cipher, Connection("c1", "http", password="geheim"))
        variables.set_variable(database, cipher, "v1", "geheim")
        with pytest.raises(OpskitError, match="connection 'c1', password can't be decrypted") as caught:
            connections.get_connection(database, _cipher(), "c1")
        assert "geheim" not in str(caught.value)
        with pytest.raises(OpskitError, match="variable 'v1' can't be decrypted"):
            variables.get_variable(database, _cipher(), "v1")
        # One that can't be read stops nothing else, and an import puts it right.
        variables.set_variable(database, _cipher(), "v2", "another's")
        broken: list[str] = []
        assert [item.key for item in variables.list_variables(database, cipher, None, broken)] == ["v1"]
        assert broken == ["v2"]
        new = [variables.Variable("v2", "known")]
        assert imports.import_variables(database, cipher, new, overwrite=False).kept == ["v2"]
        assert imports.import_variables(database, cipher, new, overwrite=True).replaced == ["v2"]
        variables.require_deleted(database, "v2")
        other = [Connection("c1", "http", password="x")]
        assert imports.import_connections(database, _cipher(), other, overwrite=False).kept == ["c1"]
        # Lists without secrets need no key.
        assert [item.conn_id for item in connections.show_connections(database)] == ["c1"]
        assert variables.variable_keys(database) == [("v1", None)]


def test_an_older_key_still_decrypts(engine: Engine) -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    with transaction(engine) as database:
        variables.set_variable(database, Cipher([old], "test"), "v", "x")
        both = Cipher([new, old], "test")
        assert variables.get_variable(database, both, "v").value == "x"
        token = database.execute(select(tables.variable.c.val)).scalar_one()
        database.execute(update(tables.variable).values(val=both.rotate(token)))
        assert variables.get_variable(database, Cipher([new], "test"), "v").value == "x"


def test_variables_are_written_changed_and_deleted(engine: Engine, cipher: Cipher) -> None:
    with transaction(engine) as database:
        assert variables.set_variable(database, cipher, "k", "1", "words")
        assert not variables.set_variable(database, cipher, "k", "ü" * 100_000)
        found = variables.get_variable(database, cipher, "k")
        assert (found.value, found.description) == ("ü" * 100_000, "words")
        for key in ("", "x" * 251):
            with pytest.raises(UsageError):
                variables.set_variable(database, cipher, key, "v")
        assert variables.delete_variable(database, "k")
        assert not variables.delete_variable(database, "k")
        with pytest.raises(NotFound):
            variables.require_deleted(database, "k")


def test_pools_are_guarded(engine: Engine) -> None:
    with transaction(engine) as database:
        assert pools.set_pool(database, "p", 3, "words")
        assert not pools.set_pool(database, "p", 0)
        found = pools.get_pool(database, "p")
        assert (found.slots, found.used_slots, found.description) == (0, 0, "words")
        with pytest.raises(UsageError):
            pools.set_pool(database, "p", -1)
        with pytest.raises(GuardRefused):
            pools.delete_pool(database, "default_pool")
        store_dag(database, "d")
        start_run(database, "d", NOW, {"a": "running"})
        database.execute(update(tables.task_instance).values(pool="p"))
        with pytest.raises(GuardRefused, match="in flight"):
            pools.delete_pool(database, "p")
        database.execute(update(tables.task_instance).values(state="success"))
        pools.delete_pool(database, "p")
        with pytest.raises(NotFound):
            pools.get_pool(database, "p")


def test_an_import_says_of_each_item_what_became_of_it_and_a_second_one_changes_nothing(
    engine: Engine, cipher: Cipher
) -> None:
    items = [Connection("a", "http", host="1"), Connection("b", "http", host="1"), Connection("c", "http")]
    with transaction(engine) as database:
        connections.put_connection(database, cipher, Connection("a", "http", "mine", host="1"))
        connections.put_connection(database, cipher, Connection("b", "http", host="2"))
        done = imports.import_connections(database, cipher, items, overwrite=False)
        assert (done.unchanged, done.kept, done.added, done.replaced) == (["a"], ["b"], ["c"], [])
        done = imports.import_connections(database, cipher, items, overwrite=True)
        assert (done.unchanged, done.replaced) == (["a", "c"], ["b"])
        done = imports.import_connections(database, cipher, items, overwrite=True)
        assert done.unchanged == ["a", "b", "c"]
        assert connections.get_connection(database, cipher, "a").description == "mine"
        values = [variables.Variable("v", "1"), variables.Variable("w", "2", "d")]
        assert imports.import_variables(database, cipher, values, overwrite=True).added == ["v", "w"]
        assert imports.import_variables(database, cipher, values, overwrite=True).unchanged == ["v", "w"]
        sizes = [interchange.PoolFields("default_pool", 9, "Default pool"), interchange.PoolFields("q", 1)]
        done = imports.import_pools(database, sizes)
        assert (done.replaced, done.added) == (["default_pool"], ["q"])
        assert imports.import_pools(database, sizes).unchanged == ["default_pool", "q"]
