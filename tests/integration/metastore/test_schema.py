"""The schema on a database of each kind: migrations, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, select, text

from opskit.core.metastore import partitions, schema, tables
from opskit.core.metastore.engine import Connection, Engine, open_engine, reading, transaction
from opskit.errors import GuardRefused, MetastoreUnavailable, SchemaNotCurrent

MIGRATIONS = Path(schema.__file__).parent / "migrations"


def test_the_migrated_schema_equals_the_tables(database_url: str) -> None:
    engine = open_engine(database_url)
    schema.migrate(engine)
    with reading(engine) as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_object": _is_no_partition}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
        migrated = _described(connection)
    schema.reset(engine)
    with transaction(engine) as connection:
        tables.metadata.drop_all(connection)
        tables.metadata.create_all(connection)
        partitions.begin(connection)
        tables.metadata.create_all(connection)
        partitions.begin(connection)
    with reading(engine) as connection:
        created = _described(connection)
    engine.dispose()
    assert migrated == created
    assert set(created) == set(tables.metadata.tables)


def _is_no_partition(_: Any, name: str | None, kind: str, *rest: Any) -> bool:
    return kind != "table" or not partitions.is_partition(str(name))


def _described(connection: Connection) -> dict[str, Any]:
    """All that the database itself says of its tables: types, nullability, comments, keys, options."""
    inspector = inspect(connection)
    described: dict[str, Any] = {}
    for name in inspector.get_table_names():
        if name == "alembic_version" or partitions.is_partition(name):
            continue
        described[name] = {
            "columns": [{**column, "type": repr(column["type"])} for column in inspector.get_columns(name)],
            "pk": inspector.get_pk_constraint(name),
            "fk": inspector.get_foreign_keys(name),
            "unique": sorted(inspector.get_unique_constraints(name), key=repr),
            "indexes": sorted(inspector.get_indexes(name), key=repr),
            "options": inspector.get_table_options(name),
        }
    return described


def test_head_is_the_newest_migration() -> None:
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [schema.HEAD]


def test_migrating_twice_changes_nothing_and_default_pool_has_its_slots(database_url: str) -> None:
    engine = open_engine(database_url)
    first = schema.migrate(engine, default_pool_slots=7)
    second = schema.migrate(engine, default_pool_slots=9)
    with reading(engine) as connection:
        rows = connection.execute(select(tables.pool.c.pool, tables.pool.c.slots)).all()
        assert schema.current_revision(connection) == schema.HEAD
    schema.check(engine)
    engine.dispose()
    assert (first.changed, second.changed) == (True, False)
    assert [tuple(row) for row in rows] == [("default_pool", 7)]


def test_an_empty_database_is_told_from_a_current_one(database_url: str) -> None:
    engine = open_engine(database_url)
    with pytest.raises(MetastoreUnavailable) as caught:
        schema.check(engine)
    assert "opskit db migrate" in str(caught.value.hint)
    engine.dispose()


@pytest.mark.parametrize(
    ("revision", "error", "says"), [("9999", SchemaNotCurrent, "newer"), ("74effc47d867", GuardRefused, "of its own")]
)
def test_the_schema_of_a_newer_opskit_or_another_program_is_refused(
    metastore_url: str, revision: str, error: type[Exception], says: str
) -> None:
    engine = open_engine(metastore_url)
    with transaction(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    for verb in (schema.check, schema.migrate, schema.reset):
        with pytest.raises(error) as caught:
            verb(engine)
        assert says in caught.value.hint  # type: ignore[attr-defined]
    engine.dispose()


def test_tables_of_somebody_else_are_left_alone(database_url: str) -> None:
    engine = open_engine(database_url)
    schema.migrate(engine)
    with transaction(engine) as connection:
        connection.execute(text("DROP TABLE alembic_version"))
    with pytest.raises(GuardRefused, match="did not make"):
        schema.migrate(engine)
    with reading(engine) as connection:
        assert inspect(connection).has_table("dag_run")
    engine.dispose()


def test_a_first_migration_that_was_killed_between_two_tables_is_done_again(mariadb_url: str) -> None:
    engine = open_engine(mariadb_url)
    with transaction(engine) as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        tables.dag_run.create(connection)
        tables.xcom.create(connection)
    schema.migrate(engine)
    schema.check(engine)
    engine.dispose()


def test_reset_empties_our_tables_and_leaves_others(metastore_url: str) -> None:
    engine = open_engine(metastore_url)
    with transaction(engine) as connection:
        connection.execute(insert(tables.variable).values(key="a", val="b", is_encrypted=False))
        connection.execute(text("CREATE TABLE theirs (id INTEGER PRIMARY KEY)"))
    schema.reset(engine)
    with reading(engine) as connection:
        assert connection.execute(select(tables.variable)).all() == []
        assert inspect(connection).has_table("theirs")
    schema.check(engine)
    engine.dispose()


_MIGRATE = """
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from opskit.core.metastore import schema
from opskit.core.metastore.engine import open_engine
engine = open_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(schema.migrate(engine).changed)
"""


def test_processes_that_migrate_at_once_do_it_once(database_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _MIGRATE, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    answers = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        answers.append(process.communicate(timeout=120)[0].strip())
        assert process.returncode == 0
    assert sorted(answers) == ["False", "False", "True"]


def test_a_new_sqlite_file_is_only_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "new" / "opskit.db"
    engine = open_engine(f"sqlite:///{path}")
    schema.migrate(engine)
    engine.dispose()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_many_first_connections_to_a_new_sqlite_file_all_succeed(tmp_path: Path) -> None:
    for number in range(10):
        path = tmp_path / f"{number}.db"
        path.touch()
        engines = [open_engine(f"sqlite:///{path}") for _ in range(12)]
        together = threading.Barrier(len(engines))

        def connect(engine: Engine, together: threading.Barrier = together) -> str:
            together.wait()
            with reading(engine) as connection:
                return str(connection.exec_driver_sql("PRAGMA journal_mode").scalar())

        with ThreadPoolExecutor(len(engines)) as pool:
            assert set(pool.map(connect, engines)) == {"wal"}
        for engine in engines:
            engine.dispose()


def test_a_sqlite_file_in_a_folder_that_can_not_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    engine = open_engine(f"sqlite:///{tmp_path}/file/opskit.db")
    with pytest.raises(MetastoreUnavailable, match="can't be created"):
        schema.migrate(engine)
