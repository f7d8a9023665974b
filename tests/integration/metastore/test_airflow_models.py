"""Airflow's models, sessions and SQL over our tables, on each kind of database."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from sqlalchemy import and_, func, inspect, select, text, update
from sqlalchemy.orm import load_only

from opskit import DAG
from opskit.compat import db_cleanup, local_client
from opskit.compat.exceptions import DagNotFound, DagRunNotFound, PoolNotFound, TaskNotFound
from opskit.core.dag import runtime
from opskit.core.dag.connection import Connection
from opskit.core.dag.variable import Variable
from opskit.core.metastore import airflow_models as airflow
from opskit.core.metastore import connections, crypto, dag_loads, pools, runs, scheduling, tables, variables, xcoms
from opskit.core.metastore.airflow_models import database
from opskit.core.metastore.direct_store import DirectStore
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.errors import GuardRefused, UsageError
from tests.databases import KINDS, Databases
from tests.metastore_rows import NOW, start_run, store_dag


class State(str, Enum):  # noqa: UP042 -- as Airflow's is
    FAILED = "failed"


@pytest.fixture(scope="module", params=KINDS)
def opened(
    request: pytest.FixtureRequest, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """One metastore of each kind for all tests here: to make one takes longer than they do."""
    url = databases.migrated(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSKIT_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("OPSKIT__DATABASE__SQL_ALCHEMY_CONN", url)
        database.forget()
        engine = open_engine(url)
        yield engine
        database.forget()
        engine.dispose()
    databases.drop(url)


@pytest.fixture
def engine(opened: Engine) -> Engine:
    """Of the metastore that DAG files find; with DAGs d and e, whose runs are 0, 10, 20 and 30 days old."""
    with transaction(opened) as connection:
        for table in tables.metadata.tables.values():
            if table is not tables.pool:
                connection.execute(table.delete())
        connection.execute(update(tables.pool).values(used_slots=0))
        for dag_id in ("d", "e"):
            store_dag(connection, dag_id, tags=["red", "blue"])
            for number in range(4):
                run = start_run(
                    connection,
                    dag_id,
                    NOW - timedelta(days=10 * number),
                    {"a": "success", "b": "failed" if number else "running", "c": None if number == 0 else "success"},
                    state="failed" if number else "running",
                    run_type="manual" if number % 2 else "scheduled",
                )
                xcoms.set_xcom(connection, dag_id, run.run_id, "a", -1, "return_value", {"n": number}, NOW)
    return opened


@pytest.fixture
def session(engine: Engine) -> Iterator[Any]:
    del engine
    found = airflow.Session()
    yield found
    found.close()


def _revisions(engine: Engine) -> dict[str, int]:
    with reading(engine) as connection:
        return {row.dag_id: row.revision for row in connection.execute(select(tables.dag))}


def _left(engine: Engine) -> dict[str, int]:
    with reading(engine) as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (tables.dag_run, tables.task_instance, tables.xcom, tables.dag, tables.log)
        }


def test_old_runs_go_with_what_is_theirs_but_the_last_scheduled_one_of_each_dag(session: Any, engine: Engine) -> None:
    # As the best-known clean-up DAG does it, in the style of SQLAlchemy 1.4.
    old = NOW - timedelta(days=5)
    newest = session.query(func.max(airflow.DagRun.execution_date)).filter(airflow.DagRun.external_trigger.is_(False))
    newest = newest.filter(airflow.DagRun.state == State.FAILED).group_by(airflow.DagRun.dag_id).from_self()
    query = session.query(airflow.DagRun).options(load_only(airflow.DagRun.execution_date))
    query = query.filter(and_(airflow.DagRun.execution_date.notin_(newest)), and_(airflow.DagRun.execution_date <= old))
    before = _revisions(engine)
    entries = query.all()
    assert [entry.__dict__["execution_date"] for entry in entries if entry.dag_id == "d"]
    assert len(entries) == query.count() == 4
    assert query.delete(synchronize_session=False) == 4
    assert _left(engine)["dag_run"] == 8, "nothing is seen before the commit"
    session.commit()
    assert _left(engine) == {"dag_run": 4, "task_instance": 12, "xcom": 4, "dag": 2, "log": 0}
    assert {name: number - before[name] for name, number in _revisions(engine).items()} == {"d": 1, "e": 1}
    kept = session.query(airflow.DagRun.execution_date).filter(airflow.DagRun.dag_id == "d").all()
    assert {row[0] for row in kept} == {NOW, NOW - timedelta(days=20)}


def test_raw_sql_finds_airflows_tables_and_columns(session: Any) -> None:
    counted = session.execute(
        text("SELECT dag_id, state, count(*) FROM task_instance WHERE execution_date < :at GROUP BY dag_id, state"),
        {"at": NOW.replace(tzinfo=None)},
    )
    assert sorted(map(tuple, counted)) == [
        (dag_id, state, many) for dag_id in ("d", "e") for state, many in (("failed", 3), ("success", 6))
    ]
    joined = "WITH r AS (SELECT run_id FROM dag_run WHERE external_trigger = true AND dag_id = 'd') "
    joined += "SELECT count(*) FROM r JOIN xcom ON xcom.run_id = r.run_id AND xcom.dag_id <> 'it''s dag_run'"
    assert session.execute(joined).scalar() == 4
    assert session.scalar("select count(*) from sla_miss") == 0
    assert dict(session.execute(text("select name, count(*) from dag_tag group by name")).all()) == {
        "red": 2,
        "blue": 2,
    }
    session.execute("create table copied as select dag_id from dag where not is_paused and is_active")
    done = session.execute(
        text("update dag set is_paused = :yes where dag_id in (select dag_id from copied)"), {"yes": True}
    )
    assert done.rowcount == 2
    unpause = "UPDATE dag d SET is_paused=false FROM copied c WHERE d.dag_id = c.dag_id AND c.dag_id = 'd'"
    unpaused = session.execute(unpause)
    assert unpaused.rowcount == 1
    session.execute("drop table copied")
    session.commit()
    assert session.execute("select dag_id from dag where is_paused").scalars().all() == ["e"]
    done = session.execute(
        text("delete from xcom where dag_id = 'd' and execution_date < :at"), {"at": NOW.replace(tzinfo=None)}
    )
    assert done.rowcount == 3


def test_the_engine_takes_text_and_gives_a_raw_connection(session: Any, engine: Engine) -> None:
    del session
    assert airflow.engine.execute("SELECT count(*) FROM dag_run").scalar() == 8
    raw = airflow.engine.raw_connection()
    cursor = raw.cursor()
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    cursor.execute(f"SELECT dag_id, run_type FROM dag_run WHERE state = {mark} ORDER BY dag_id", ("running",))
    assert cursor.fetchall() == [("d", "scheduled"), ("e", "scheduled")]
    assert [column[0] for column in cursor.description] == ["dag_id", "run_type"]
    cursor.execute(f"DELETE FROM dag_run WHERE dag_id = {mark} AND state = 'failed'", ("d",))
    assert cursor.rowcount == 3
    raw.commit()
    raw.close()
    assert _left(engine)["dag_run"] == 5
    with pytest.raises(UsageError, match="COPY"):
        cursor.copy_expert("COPY dag_run FROM STDIN", None)


def test_a_task_instance_is_marked_and_cleared_as_by_hand(session: Any, engine: Engine) -> None:
    run = airflow.DagRun.find(dag_id="d", state=State.FAILED)[0]
    before = _revisions(engine)
    one = run.get_task_instance("b")
    assert (one.state, one.execution_date, one.dag_id) == ("failed", NOW - timedelta(days=30), "d")
    assert one.set_state(None)
    assert one.current_state() is None
    assert airflow.DagRun.find(dag_id="d", run_id=run.run_id)[0].state == "running", "its run goes on"
    assert _revisions(engine)["d"] > before["d"]
    airflow.clear_task_instances(run.get_task_instances(state="success"), session)
    session.commit()
    assert {each.state for each in run.get_task_instances()} == {None}
    with reading(engine) as connection:
        tries = connection.execute(select(tables.task_attempt)).all()
    assert {row.state for row in tries} == {"failed", "success"}, "the tries so far are kept"
    with pytest.raises(UsageError, match="queued"):
        run.get_task_instance("a").set_state("queued")


def test_slots_of_what_was_in_flight_are_given_back(session: Any, engine: Engine) -> None:
    def used() -> int:
        with reading(engine) as connection:
            return pools.get_pool(connection, "default_pool").used_slots

    with transaction(engine) as connection:
        connection.execute(update(tables.pool).values(used_slots=2))
    query = session.query(airflow.TaskInstance).filter(
        airflow.TaskInstance.dag_id == "d", airflow.TaskInstance.state == "running"
    )
    assert query.update({"state": "failed"}, synchronize_session=False) == 1
    session.commit()
    assert used() == 1
    run = session.query(airflow.DagRun).filter_by(dag_id="e", state="running").one()
    run.state = "failed"
    session.merge(run)
    session.commit()
    assert used() == 0
    assert airflow.TaskInstance.get_task_instance("e", run.run_id, "b").state == "failed"


def test_a_task_instance_of_a_run_that_goes_on_is_made_anew(session: Any) -> None:
    query = session.query(airflow.TaskInstance).filter(airflow.TaskInstance.dag_id == "d")
    assert query.delete(synchronize_session=False) == 12
    session.commit()
    left = query.all()
    assert {(one.task_id, one.state) for one in left} == {("a", None), ("b", None), ("c", None)}


def test_a_dag_goes_with_its_tags_and_keeps_its_runs(session: Any, engine: Engine) -> None:
    found = session.query(airflow.DagModel).filter(airflow.DagModel.tags.any(airflow.DagTag.name == "red")).all()
    assert sorted(one.dag_id for one in found) == ["d", "e"]
    assert found[0].fileloc.endswith(f"/dags/{found[0].dag_id}.py")
    with pytest.raises(GuardRefused, match="in flight"):
        session.query(airflow.DagModel).delete(synchronize_session=False)
    session.rollback()
    session.query(airflow.TaskInstance).filter(airflow.TaskInstance.state == "running").update({"state": "failed"})
    gone = next(one for one in found if one.dag_id == "d")
    session.delete(gone)
    session.delete(gone.serialized_dag)
    session.commit()
    assert _left(engine)["dag"] == 1
    assert _left(engine)["dag_run"] == 8
    session.query(airflow.DagTag).filter(airflow.DagTag.name == "red").delete()
    session.commit()
    assert [tag.name for tag in session.query(airflow.DagModel).one().tags] == ["blue"]


def test_a_dag_is_paused(session: Any, engine: Engine) -> None:
    before = _revisions(engine)
    airflow.DagModel.get_dagmodel("d").set_is_paused(True)
    assert airflow.DagModel.get_paused_dag_ids(["d", "e"]) == {"d"}
    assert _revisions(engine)["d"] == before["d"] + 1
    model = session.query(airflow.DagModel).filter(airflow.DagModel.dag_id == "d").first()
    model.is_paused = False
    session.commit()
    assert not airflow.DagModel.get_dagmodel("d").is_paused


def test_secrets_are_encrypted_whatever_way_they_come(session: Any, engine: Engine) -> None:
    session.add(Variable("first", "v1", description="text"))
    second = Variable()
    second.key = "second"
    second.set_val("v2")
    session.add_all([second, Connection(conn_id="c", conn_type="http", password="p1", extra={"token": "x"})])
    session.execute(text("INSERT INTO variable (\"key\", val) VALUES ('third', 'v3')".replace('"', _quote(engine))))
    session.commit()
    session.execute(text("UPDATE connection SET password = 'p2' WHERE conn_id = 'c'"))
    session.commit()
    cipher = crypto.open_cipher(database.config())
    with reading(engine) as connection:
        stored = connection.execute(select(tables.variable.c.val)).scalars().all()
        assert not {"v1", "v2", "v3"} & set(stored)
        assert [one.value for one in variables.list_variables(connection, cipher)] == ["v1", "v2", "v3"]
        kept = connections.get_connection(connection, cipher, "c")
        assert (kept.password, kept.extra_dejson, kept.conn_type) == ("p2", {"token": "x"}, "http")
    third = Connection()
    third.conn_id, third.conn_type, third.port = "late", "postgres", 5432
    third.set_password("p3")
    pool = airflow.Pool()
    pool.pool, pool.slots, pool.description = "dwh", 10, "at most ten"
    session.add_all([third, pool])
    session.commit()
    with reading(engine) as connection:
        assert connections.get_connection(connection, cipher, "late").password == "p3"
        assert pools.get_pool(connection, "dwh").slots == 10
    session.delete(session.get(airflow.Pool, "dwh"))
    session.delete(third)
    found = session.query(Connection).filter(Connection.conn_id == "c").first()
    assert (found.get_password(), found.get_uri()) == ("p2", "http://:p2@/?token=x")
    assert session.query(Variable).filter(Variable.key == "first").one().val == "v1"
    assert session.query(airflow.SerializedDagModel._data).first()[0]["dag"]["tasks"][0]["task_id"] == "a"
    assert "_data" in dir(airflow.SerializedDagModel)
    session.delete(found)
    session.query(Variable).filter(Variable.key.like("%d")).delete(synchronize_session=False)
    session.commit()
    assert (session.query(Variable.key).all(), session.query(Connection).count()) == ([("first",)], 0)


def _quote(engine: Engine) -> str:
    return "`" if engine.dialect.name in ("mysql", "mariadb") else '"'


def test_xcoms_pools_and_lines_of_the_log(session: Any) -> None:
    run = airflow.DagRun.get_latest_runs()[0]
    get = {"dag_id": run.dag_id, "run_id": run.run_id, "task_id": "a", "key": "return_value"}
    assert airflow.XCom.get_one(**get) == {"n": 0}
    airflow.XCom.set(value=[1, NOW], **get)
    assert airflow.XCom.get_one(**get) == [1, NOW]
    assert airflow.XCom.get_many(run_id=run.run_id, dag_ids=run.dag_id, session=session).count() == 1
    airflow.XCom.clear(dag_id=run.dag_id, run_id=run.run_id, task_id="a")
    assert airflow.XCom.get_one(**get) is None
    assert airflow.Pool.create_or_update_pool("p", 3, "three").open_slots() == 3
    assert airflow.Pool.create_or_update_pool("p", 4, "four").slots == 4
    airflow.Pool.delete_pool("p")
    assert [pool.pool for pool in airflow.Pool.get_pools()] == ["default_pool"]
    session.add(airflow.Log(event="cleaned", owner="me", extra="free text"))
    session.commit()
    line = session.query(airflow.Log).filter(airflow.Log.dttm >= NOW - timedelta(days=9000)).one()
    assert (line.event, line.owner, line.id > 0) == ("cleaned", "me", True)
    assert session.query(airflow.Log).delete() == 1


def test_broken_files_and_processes_are_listed(session: Any, engine: Engine) -> None:
    broken = dag_loads.LoadedFile("broken.py", content_hash="0" * 64, import_error="Traceback: 1/0")
    with transaction(engine) as connection:
        dag_loads.store_loaded_files(connection, [broken], NOW)
    error = session.query(airflow.ImportError).one()
    assert error.filename.endswith("/dags/broken.py")
    assert error.stacktrace == "Traceback: 1/0"
    session.delete(error)
    session.commit()
    assert session.query(airflow.ImportError).count() == 0
    assert session.query(airflow.BaseJob).filter(airflow.BaseJob.latest_heartbeat < NOW).all() == []
    for empty in (airflow.SlaMiss, airflow.TaskReschedule, airflow.RenderedTaskInstanceFields):
        assert session.query(empty).filter(empty.execution_date <= NOW).delete(synchronize_session=False) == 0


def test_assets_have_the_names_of_both_releases(session: Any, opened: Engine, engine: Engine) -> None:
    del engine
    with transaction(opened) as connection:
        asset = {"hash": "h", "name_hash": "n", "uri_hash": "u", "name": "sales", "uri": "s3://sales", "extra": "{}"}
        done = connection.execute(tables.asset.insert().values(**asset, asset_group="asset", created_at=NOW))
        number = done.inserted_primary_key[0]
        event = {"asset_id": number, "at": NOW, "extra": '{"rows": 3}', "aliases": "[]", "source_map_index": -1}
        connection.execute(tables.asset_event.insert().values(**event, source_dag_id="d"))
        connection.execute(tables.asset_queue.insert().values(event_id=1, dag_id="e", asset_id=number, counts=True))
    assert session.query(airflow.DatasetModel).one().uri == "s3://sales"
    found = session.query(airflow.DatasetEvent).filter(airflow.DatasetEvent.timestamp <= NOW).one()
    assert (found.extra, found.source_dag_id) == ({"rows": 3}, "d")
    assert session.scalar("SELECT count(*) FROM asset_event WHERE asset_id = dataset_id") == 1
    for name in ("dag_schedule_asset_reference", "task_outlet_dataset_reference", "dagrun_asset_event"):
        assert session.scalar(f"SELECT count(*) FROM {name}") == 0
    session.execute("DELETE FROM dataset_event")
    session.commit()
    assert session.scalar("SELECT count(*) FROM asset_dag_run_queue") == 0
    with pytest.raises(UsageError, match="dataset"):
        session.execute("DELETE FROM dataset")


def test_a_run_that_a_dag_file_adds_is_triggered(session: Any, engine: Engine) -> None:
    at = NOW + timedelta(days=1)
    session.add(airflow.DagRun(dag_id="d", run_id="mine", execution_date=at, run_type="manual", conf={"a": 1}))
    session.commit()
    with reading(engine) as connection:
        run = runs.get_run(connection, "d", "mine")
    assert (run.state, run.logical_date, run.conf) == ("queued", at, {"a": 1})


def test_what_can_not_be_kept_is_refused_by_name(session: Any) -> None:
    with pytest.raises(UsageError, match=r"dag\.default_view"):
        session.query(airflow.DagModel).update({"default_view": "graph"}, synchronize_session=False)
    with pytest.raises(UsageError, match="task_instance"):
        session.execute("INSERT INTO task_instance (dag_id) VALUES ('d')")
    with pytest.raises(UsageError, match="dag_version"):
        session.execute("DELETE FROM dag_version")
    with pytest.raises(UsageError, match="dag_run"):
        session.execute("DROP TABLE dag_run")
    with pytest.raises(UsageError, match="RETURNING"):
        session.execute("DELETE FROM dag_run WHERE id = 1 RETURNING id")
    with pytest.raises(AttributeError, match="no 'email' in"):
        airflow.SlaMiss.email  # noqa: B018
    assert [column.name for column in inspect(airflow.DagRun).columns][:3] == ["id", "dag_id", "run_id"]


def test_a_session_that_is_forgotten_holds_no_lock(session: Any, engine: Engine) -> None:
    assert session.query(airflow.DagRun).count() == 8
    with transaction(engine) as connection:
        connection.execute(tables.dag_run.delete())  # would wait, or fail, if the session were in a transaction
    assert session.query(airflow.DagRun).count() == 0
    with airflow.create_session() as other:
        other.add(Variable("k", "v"))
    with pytest.raises(KeyError), airflow.create_session() as other:
        other.add(Variable("k2", "v"))
        other.flush()
        raise KeyError
    assert session.query(Variable).count() == 1


def test_a_fork_opens_a_connection_of_its_own(session: Any) -> None:
    assert session.query(airflow.DagRun).count() == 8
    here, there = multiprocessing.get_context("fork").Pipe()

    def child() -> None:
        there.send((session.query(airflow.DagRun).count(), session.connection().connection.dbapi_connection is theirs))

    theirs = session.connection().connection.dbapi_connection
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert here.poll(30)
    assert here.recv() == (8, False)
    process.join()
    assert session.query(airflow.DagRun).count() == 8


def test_a_function_is_given_a_session(session: Any) -> None:
    @airflow.provide_session
    def count(model: Any, session: Any = None) -> int:
        return int(session.query(model).count())

    assert count(airflow.DagRun) == 8
    assert count(airflow.DagRun, session=session) == count(airflow.DagRun, session) == 8
    with pytest.raises(ValueError, match="session"):
        airflow.provide_session(lambda: None)


def test_a_clean_up_by_airflows_own_function_keeps_the_last_scheduled_runs(engine: Engine) -> None:
    before = NOW - timedelta(days=5)
    db_cleanup.run_cleanup(clean_before_timestamp=before, table_names=["dag_run"], dry_run=True)
    assert _left(engine)["dag_run"] == 8
    tables_to_clean = ["dag_run", "xcom", "celery_taskmeta"]
    db_cleanup.run_cleanup(
        clean_before_timestamp=before, table_names=tables_to_clean, confirm=False, skip_archive=True, dag_ids=["d"]
    )
    # Of d the runs of 10, 20 and 30 days ago are old; the scheduled ones are those of today and of 20 days ago.
    assert _left(engine)["dag_run"] == 8 - 3
    db_cleanup.run_cleanup(clean_before_timestamp=NOW + timedelta(days=1), confirm=False, exclude_dag_ids=["d"])
    with reading(engine) as connection:
        left = connection.execute(select(tables.dag_run.c.dag_id, tables.dag_run.c.run_type)).all()
    assert sorted(left) == [("d", "scheduled"), ("e", "scheduled")]


class Named:
    def __init__(self, dag_id: str) -> None:
        self.dag_id = dag_id


def _running(engine: Engine, dag_id: str) -> str:
    with reading(engine) as connection:
        running = (tables.dag_run.c.dag_id == dag_id) & (tables.dag_run.c.state == "running")
        return str(connection.execute(select(tables.dag_run.c.run_id).where(running)).scalar_one())


def test_the_local_client_triggers_reads_and_deletes(engine: Engine, opened: Engine) -> None:
    runtime.set_store(DirectStore(opened, crypto.Cipher([crypto.new_key()], "a test")))
    try:
        client = local_client.Client(None, None)
        made = client.trigger_dag("d", run_id="mine", conf='{"n": 1}')
        assert (made["dag_run_id"], made["conf"], made["state"]) == ("mine", {"n": 1}, "queued")
    finally:
        runtime.set_store(None)
    assert client.create_pool("p", "3", "few", False) == ("p", 3, "few")
    assert client.get_pool("p") == ("p", 3, "few", False)
    assert client.delete_pool("p") == ("p", 3, "few")
    with pytest.raises(PoolNotFound):
        client.get_pool("p")
    assert {"p"}.isdisjoint(name for name, *_ in client.get_pools())
    day = NOW - timedelta(days=10)
    assert local_client.get_dag_run_state("d", day) == {"state": "failed"}
    assert local_client.get_task_instance("d", "a", day).state == "success"
    assert len(local_client.get_dag_runs("d", state="FAILED")) == 3
    for error, ask in (
        (DagRunNotFound, lambda: local_client.get_dag_run_state("d", NOW + timedelta(days=1))),
        (TaskNotFound, lambda: local_client.get_task_instance("d", "none", day)),
        (DagNotFound, lambda: client.delete_dag("none")),
    ):
        with pytest.raises(error):
            ask()
    with pytest.raises(GuardRefused, match="in flight"):
        client.delete_dag("e")
    local_client.set_dag_run_state_to_failed(dag=Named("e"), run_id=_running(engine, "e"), commit=True)
    assert client.delete_dag("e") == "Removed 1 record(s)"
    assert _left(engine)["dag"] == 1


def test_a_run_can_be_marked_by_airflows_function(engine: Engine, session: Any) -> None:
    run = session.query(airflow.DagRun).filter(airflow.DagRun.dag_id == "d", airflow.DagRun.state == "running").one()
    dag = session.query(airflow.DagModel).filter(airflow.DagModel.dag_id == "d").one()
    session.commit()
    would = local_client.set_dag_run_state_to_failed(dag=dag, run_id=run.run_id)
    assert sorted(one.task_id for one in would) == ["b", "c"]
    assert local_client.get_dag_run_state("d", NOW) == {"state": "running"}
    local_client.set_dag_run_state_to_failed(dag=dag, run_id=run.run_id, commit=True)
    with reading(engine) as connection:
        states = dict(
            connection.execute(
                select(tables.task_instance.c.task_id, tables.task_instance.c.state).where(
                    tables.task_instance.c.dag_run_id == run.id
                )
            ).all()
        )
    assert states == {"a": "success", "b": "failed", "c": "failed"}
    assert local_client.get_dag_run_state("d", NOW) == {"state": "failed"}


def test_what_the_scheduler_keeps_beside_xcoms_is_no_xcom(engine: Engine, session: Any) -> None:
    before = session.query(airflow.XCom).count()
    with transaction(engine) as connection:
        number = connection.execute(select(func.min(tables.dag_run.c.id))).scalar_one()
        scheduling.insert_xcoms(connection, [(number, "", -1, scheduling.MISSED_KEY, "[]", NOW)])
        scheduling.insert_xcoms(connection, [(number, "a", -1, scheduling.DEFER_KEY, "{}", NOW)])
    session.commit()
    assert session.query(airflow.XCom).count() == before
    assert session.execute(text("SELECT count(*) FROM xcom")).scalar() == before


def test_a_dag_tells_of_its_runs(engine: Engine) -> None:
    dag = DAG("d", start_date=NOW, schedule=None)
    runtime.set_store(DirectStore(engine, crypto.Cipher([crypto.new_key()], "a test")))
    try:
        assert not dag.is_paused
    finally:
        runtime.set_store(None)
    newest = dag.get_last_dagrun(include_externally_triggered=True)
    assert (newest.execution_date, dag.latest_execution_date) == (NOW, NOW)
    assert dag.get_active_runs() == [NOW]
    assert (dag.get_num_active_runs(), dag.get_num_active_runs(external_trigger=True)) == (1, 0)
    assert dag.get_last_dagrun().run_type == "scheduled"
    assert dag.get_dagrun(run_id=newest.run_id).state == "running"
    assert dag.get_dagrun(execution_date=NOW + timedelta(days=1)) is None
    assert len(dag.get_dagruns_between(NOW - timedelta(days=10), NOW)) == 2
    assert {one.task_id for one in dag.get_task_instances(state="failed")} == {"b"}
    assert not DAG("new", start_date=NOW, schedule=None).has_dag_runs()
