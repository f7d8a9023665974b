"""Transactions, bulk statements and what is said when the database can't be reached, on each kind of database."""

from __future__ import annotations

import ssl
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, StatementError

from opskit.core.metastore.bulk import bulk_insert, bulk_update
from opskit.core.metastore.engine import (
    Engine,
    TransactionConflict,
    open_engine,
    ping,
    reading,
    transaction,
)
from opskit.core.metastore.tables import dag, pool, task_instance, variable, xcom
from opskit.errors import MetastoreUnavailable, SchemaNotCurrent
from tests.metastore_rows import NOW, start_run, store_dag

NASTY = "é😀\"'\\\n%s %% :x ? \t\u2028" + "long" * 20_000


def _some(engine: Engine, count: int) -> int:
    with transaction(engine) as connection:
        store_dag(connection, "d")
        run = start_run(connection, "d", NOW, {f"t{number}": None for number in range(count)})
    return run.id


@pytest.mark.parametrize("count", [1, 2, 500])
def test_many_rows_get_different_values_in_one_call(engine: Engine, count: int) -> None:
    run = _some(engine, count)
    zone = timezone(timedelta(hours=2))
    rows = [
        (
            run,
            f"t{n}",
            -1,
            "queued" if n % 2 else None,
            NOW.astimezone(zone) + timedelta(n) if n % 3 else None,
            n,
            "x" * n,
        )
        for n in range(count)
    ]
    with transaction(engine) as connection:
        found = bulk_update(
            connection,
            task_instance,
            ["dag_run_id", "task_id", "map_index"],
            ["state", "start_date", "pid", "reason"],
            [*rows, (run, "not there", -1, None, None, 0, "")],
        )
    assert found == count
    with reading(engine) as connection:
        read = {row.task_id: row for row in connection.execute(select(task_instance))}
    for _, task_id, _, state, start, pid, reason in rows:
        row = read[task_id]
        assert (row.state, row.start_date, row.pid, row.reason) == (state, start, pid, reason)


def test_a_guard_and_an_expected_value_decide_which_rows_are_found(engine: Engine) -> None:
    run = _some(engine, 4)
    keys = ["dag_run_id", "task_id"]
    with transaction(engine) as connection:
        bulk_update(connection, task_instance, keys, ["state", "dispatches"], [(run, "t1", "queued", 1)])
        changed = [(run, f"t{n}", "running") for n in range(4)]
        assert bulk_update(connection, task_instance, keys, ["state"], changed, "state = 'queued'") == 1
        expected = [(run, "t1", 2, "failed"), (run, "t2", 0, "failed")]
        assert bulk_update(connection, task_instance, [*keys, "dispatches"], ["state"], expected) == 1
        assert bulk_update(connection, task_instance, keys, ["state"], changed[:1], "state = 'queued'") == 0
        # The same values again: found, though nothing changes.
        assert (
            bulk_update(connection, task_instance, keys, ["state"], [(run, "t1", "running"), (run, "t2", "failed")])
            == 2
        )


@pytest.mark.parametrize("count", [1, 3])
def test_texts_of_any_kind_and_size_arrive_as_they_were(engine: Engine, count: int) -> None:
    run = _some(engine, 1)
    columns = ["dag_run_id", "task_id", "map_index", "key", "value", "created_at"]
    with transaction(engine) as connection:
        for value in (NASTY, NASTY * 3):
            rows = [(run, "t0", n, "k", value + str(n), NOW) for n in range(count)]
            bulk_insert(connection, xcom, columns, rows, on_conflict="update")
            bulk_insert(connection, xcom, columns, [(*row[:4], "other", NOW) for row in rows], on_conflict="ignore")
    with reading(engine) as connection:
        read = connection.execute(select(xcom.c.map_index, xcom.c.value)).all()
    assert sorted((row.map_index, row.value) for row in read) == [(n, NASTY * 3 + str(n)) for n in range(count)]


@pytest.mark.parametrize("count", [1, 3])
def test_a_value_that_is_too_long_is_an_error_and_never_cut(engine: Engine, count: int) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no lengths")
    run = _some(engine, count)
    rows = [(run, f"t{n}", "s" * 21) for n in range(count)]
    with pytest.raises(DBAPIError), transaction(engine) as connection:
        bulk_update(connection, task_instance, ["dag_run_id", "task_id"], ["state"], rows)
    if engine.dialect.name != "postgresql":
        rows = [(run, f"t{n}", "é" * 40_000) for n in range(count)]
        with pytest.raises(DBAPIError), transaction(engine) as connection:
            bulk_update(connection, task_instance, ["dag_run_id", "task_id"], ["reason"], rows)


def test_more_than_one_statement_can_take_is_split(engine: Engine) -> None:
    run = _some(engine, 1)
    columns = ["dag_run_id", "task_id", "map_index", "key", "value", "created_at"]
    with transaction(engine) as connection:
        bulk_insert(connection, xcom, columns, [(run, "t0", n, "k", "v" * 1_000_000, NOW) for n in range(20)])
        sizes = connection.execute(select(func.length(xcom.c.value))).scalars().all()
    assert sizes == [1_000_000] * 20


def test_booleans_and_names_that_must_be_quoted(engine: Engine) -> None:
    with transaction(engine) as connection:
        store_dag(connection, "x")
        store_dag(connection, "y")
        bulk_update(connection, dag, ["dag_id"], ["is_paused"], [("x", True), ("y", False)])
        bulk_insert(connection, variable, ["key", "val", "is_encrypted"], [("a", "1", True), ("b", "2", False)])
        paused = {row.dag_id: row.is_paused for row in connection.execute(select(dag.c.dag_id, dag.c.is_paused))}
        assert bulk_update(connection, variable, ["key"], ["val"], [("a", "3"), ("b", "4")]) == 2
    assert paused == {"x": True, "y": False}


def test_a_naive_time_is_refused(engine: Engine) -> None:
    with pytest.raises((ValueError, StatementError)), transaction(engine) as connection:
        bulk_update(connection, dag, ["dag_id"], ["wake_at"], [("x", datetime(2026, 1, 1))])


def test_times_come_back_to_the_microsecond_and_in_utc(engine: Engine) -> None:
    at = datetime(2026, 7, 1, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=-7)))
    with transaction(engine) as connection:
        store_dag(connection, "d")
        bulk_update(connection, dag, ["dag_id"], ["wake_at"], [("d", at)])
        read = connection.execute(select(dag.c.wake_at)).scalar_one()
        assert connection.execute(select(dag.c.dag_id).where(dag.c.wake_at == at)).scalar() == "d"
    assert read == at
    assert read.tzinfo is UTC or read.utcoffset() == timedelta(0)


def test_ids_differ_by_case_and_accent(engine: Engine) -> None:
    with transaction(engine) as connection:
        for name in ("dag", "Dag", "däg", "dag-"):
            connection.execute(insert(pool).values(pool=name, slots=1, used_slots=0))
        assert connection.execute(select(func.count()).select_from(pool).where(pool.c.pool == "dag")).scalar() == 1


def test_what_fails_in_a_transaction_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(KeyError), transaction(engine) as connection:
        connection.execute(insert(variable).values(key="k", val="v", is_encrypted=False))
        raise KeyError
    with reading(engine) as connection:
        assert connection.execute(select(variable)).all() == []
        connection.execute(select(variable)).all()


def test_reading_never_writes(engine: Engine) -> None:
    with reading(engine) as connection:
        connection.execute(insert(variable).values(key="k", val="v", is_encrypted=False))
    with reading(engine) as connection:
        assert connection.execute(select(variable)).all() == []


def test_transactions_that_read_and_then_write_do_not_lose_updates(engine: Engine) -> None:
    with transaction(engine) as connection:
        connection.execute(insert(pool).values(pool="p", slots=0, used_slots=0))
    failures: list[Exception] = []

    def add() -> None:
        try:
            for _ in range(25):
                with transaction(engine) as connection:
                    slots = connection.execute(
                        select(pool.c.slots).where(pool.c.pool == "p").with_for_update()
                    ).scalar_one()
                    connection.execute(update(pool).where(pool.c.pool == "p").values(slots=slots + 1))
        except MetastoreUnavailable as error:
            failures.append(error)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with reading(engine) as connection:
        assert connection.execute(select(pool.c.slots).where(pool.c.pool == "p")).scalar() == 100


def test_of_two_transactions_in_a_deadlock_one_gives_way_and_says_so(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer: there is no deadlock")
    with transaction(engine) as connection:
        for name in ("p", "q"):
            connection.execute(insert(pool).values(pool=name, slots=0, used_slots=0))
    barrier = threading.Barrier(2)
    caught: list[Exception] = []

    def lock(first: str, second: str) -> None:
        try:
            with transaction(engine) as connection:
                connection.execute(update(pool).where(pool.c.pool == first).values(slots=1))
                barrier.wait()
                connection.execute(update(pool).where(pool.c.pool == second).values(slots=1))
        except TransactionConflict as error:
            caught.append(error)

    threads = [threading.Thread(target=lock, args=pair) for pair in (("p", "q"), ("q", "p"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(caught) == 1


def test_a_connection_that_the_server_closed_is_unavailable_once_and_then_replaced(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no server")
    mysql = engine.dialect.name != "postgresql"
    number = "SELECT CONNECTION_ID()" if mysql else "SELECT pg_backend_pid()"
    other = open_engine(engine.url.render_as_string(hide_password=False))
    with pytest.raises(MetastoreUnavailable) as caught, transaction(engine) as connection:
        victim = connection.exec_driver_sql(number).scalar()
        with transaction(other) as killer:
            killer.execute(text(f"KILL {victim}" if mysql else f"SELECT pg_terminate_backend({victim})"))
        connection.execute(select(pool)).all()
    assert str(engine.url.port) in str(caught.value)
    ping(engine)
    other.dispose()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_refuses_is_unavailable_and_the_password_is_not_told(scheme: str) -> None:
    engine = open_engine(f"{scheme}://user:geheim@127.0.0.1:1/opskit")
    with pytest.raises(MetastoreUnavailable) as caught:
        ping(engine)
    assert "127.0.0.1:1" in caught.value.message
    assert "geheim" not in caught.value.message + str(caught.value.hint)
    engine.dispose()


def test_a_database_that_is_not_there_says_so(database_url: str) -> None:
    url = database_url + "_missing"
    engine = open_engine(url)
    with pytest.raises(MetastoreUnavailable) as caught:
        ping(engine)
    assert "opskit db migrate" in str(caught.value.hint)
    engine.dispose()
    assert not url.startswith("sqlite") or not Path(url.removeprefix("sqlite:///")).exists()


def test_a_missing_table_is_a_schema_that_is_not_current(engine: Engine) -> None:
    with pytest.raises(SchemaNotCurrent), transaction(engine) as connection:
        connection.execute(text("SELECT * FROM does_not_exist"))


def test_a_value_of_a_failed_statement_is_not_in_the_message(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as caught, transaction(engine) as connection:
        for _ in range(2):
            connection.execute(insert(variable).values(key="k", val="geheim", is_encrypted=False))
    assert "geheim" not in str(caught.value)


def test_a_connection_to_mariadb_reads_no_certificates_that_it_would_not_verify(
    mariadb_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("certificates are read")

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", refuse)
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", refuse)
    engine = open_engine(mariadb_url)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()
    # Asked for a verified server, it does read them: the server has none to show, or others.
    engine = open_engine(f"{mariadb_url}?ssl_verify_cert=true&ssl_ca=/nowhere.pem")
    with pytest.raises(AssertionError, match="certificates are read"), reading(engine):
        pass
    engine.dispose()
