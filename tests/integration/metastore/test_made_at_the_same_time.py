"""Connections, variables and pools that two make at the same time: one makes them, the other sees that."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from cryptography.fernet import Fernet

from opskit.core.dag.connection import Connection
from opskit.core.metastore import connections, pools, variables
from opskit.core.metastore import engine as engines
from opskit.core.metastore.crypto import Cipher
from opskit.errors import UsageError

CIPHER = Cipher([Fernet.generate_key().decode()], "test")


@pytest.mark.parametrize("what", ["connections", "variables", "pools"])
def test_of_two_who_make_the_same_at_once_one_makes_it_and_neither_fails(metastore_url: str, what: str) -> None:
    makers: dict[str, Callable[[engines.Connection], bool]] = {
        "connections": lambda database: connections.put_connection(
            database, CIPHER, Connection("same", "http"), overwrite=True
        ),
        "variables": lambda database: variables.set_variable(database, CIPHER, "same", "1"),
        "pools": lambda database: pools.set_pool(database, "same", 1),
    }
    together = Barrier(2)

    def make(_: int) -> bool:
        # SQLite lets one begin at a time: there they meet before.
        if engine.dialect.name == "sqlite":
            together.wait(20)
        with engines.transaction(engine) as database:
            if engine.dialect.name != "sqlite":
                database.exec_driver_sql("SELECT 1")
                together.wait(20)
            return makers[what](database)

    engine = engines.open_engine(metastore_url)
    try:
        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(make, range(2))) == [False, True]
    finally:
        engine.dispose()


def test_a_connection_that_is_there_is_not_written_over_by_chance(metastore_url: str) -> None:
    engine = engines.open_engine(metastore_url)
    try:
        with engines.transaction(engine) as database:
            connections.put_connection(database, CIPHER, Connection("same", "http", host="a"))
            with pytest.raises(UsageError, match="already"):
                connections.put_connection(database, CIPHER, Connection("same", "http", host="b"))
            assert connections.show_connection(database, "same").host == "a"
    finally:
        engine.dispose()
