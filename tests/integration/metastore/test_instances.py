"""The rows of the processes, on each kind of database."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import event

from opskit.core.metastore import instances
from opskit.core.metastore.engine import Connection, Engine, open_engine, reading, transaction
from tests.metastore_rows import NOW


def _register(connection: Connection, hostname: str = "host", later: timedelta = timedelta(0)) -> None:
    instances.register(
        connection,
        instance_id="w",
        kind="worker",
        hostname=hostname,
        home="/h",
        pid=1,
        pid_started=2.0,
        now=NOW + later,
    )


def test_a_process_that_was_taken_for_dead_goes_on_with_its_row(engine: Engine) -> None:
    with transaction(engine) as connection:
        _register(connection)
        assert instances.end(connection, "w", NOW) and not instances.beat(connection, "w", NOW)
        _register(connection, later=timedelta(seconds=9))
        (row,) = instances.list_instances(connection)
    assert row.ended_at is None
    assert (row.started_at, row.heartbeat_at) == (NOW, NOW + timedelta(seconds=9))


def test_two_that_meet_a_worker_in_the_same_moment_both_register_it(engine: Engine) -> None:
    """Each of two schedulers has seen that there is no row before the other one has written it."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer: the second sees the row")
    other = open_engine(engine.url.render_as_string(hide_password=False))
    held = threading.Event()
    rest: list[threading.Thread] = []

    def first() -> None:
        with transaction(other) as connection:
            _register(connection, "first")
            held.set()

    def in_between(*_: object) -> None:
        if not rest:
            rest.append(threading.Thread(target=first))
            rest[0].start()
            assert held.wait(20)
            rest[0].join(20)

    with transaction(engine) as connection:
        # The statement that looks for the row has run, the one that writes it has not.
        event.listen(connection, "after_cursor_execute", in_between)
        _register(connection, "second")
    assert len(rest) == 1 and not rest[0].is_alive()
    with reading(engine) as connection:
        assert [row.hostname for row in instances.list_instances(connection)] == ["first"]
    other.dispose()
