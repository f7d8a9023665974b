"""The DAG processor as a process: hostile files, folders that come and go, a metastore that is away."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.config import load
from opskit.core.dag.connection import Connection
from opskit.core.metastore import audit, dags, instances, variables
from opskit.core.metastore.connections import put_connection
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.dag_loads import read_files
from opskit.core.metastore.engine import Engine, open_engine, reading, transaction
from opskit.core.metastore.scheduling import read_dags
from opskit.system.wake import wake
from tests.daemons import Daemon, running
from tests.databases import Databases
from tests.proxy import Proxy
from tests.waiting import wait_until
from tests.workers import descendants, gone

GOOD = """
from datetime import datetime
from opskit import DAG
from opskit.operators import EmptyOperator

with DAG("{dag_id}", schedule="{schedule}", start_date=datetime(2026, 1, 1), catchup=True) as dag:
    EmptyOperator(task_id="a") >> EmptyOperator(task_id="b")
"""

HOSTILE = {
    "loops_for_ever.py": ("# opskit dag\nwhile True:\n    pass\n", "timed out after 2 s"),
    "calls_sys_exit.py": ("# opskit dag\nimport sys\nsys.exit(3)\n", "sys.exit(3)"),
    "calls_os_exit.py": ("# opskit dag\nimport os\nos._exit(7)\n", "7"),
    "segfaults.py": ("# opskit dag\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "SIGSEGV"),
    "eats_memory.py": ("# opskit dag\nhoard = []\nwhile True:\n    hoard.append(bytearray(2**20))\n", "memory"),
    "has_a_syntax_error.py": ("# opskit dag\ndef broken(:\n", "SyntaxError"),
    "raises.py": ("# opskit dag\nraise RuntimeError('no such luck')\n", "no such luck"),
}

Start = Callable[..., AbstractContextManager[Daemon]]


class Folder:
    """A DAG folder, and what the metastore knows of it."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.root = root
        self.engine = engine

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".new")
        temporary.write_text(text)
        temporary.rename(file)

    def write_dag(self, path: str, dag_id: str, schedule: str = "@daily") -> None:
        self.write(path, GOOD.format(dag_id=dag_id, schedule=schedule))

    def active(self) -> set[str]:
        with reading(self.engine) as connection:
            return {dag.dag_id for dag in dags.list_dags(connection)}

    def errors(self) -> dict[str, str]:
        with reading(self.engine) as connection:
            return {error.path: error.error for error in dags.import_errors(connection)}

    def wait_for(self, *dag_ids: str) -> None:
        """Until exactly these DAGs are active."""
        wait_until(lambda: self.active() == set(dag_ids), what=lambda: f"{dag_ids}, there are {self.active()}")


@pytest.fixture
def folder(home: Path, metastore_url: str) -> Iterator[Folder]:
    """On each kind of database."""
    yield from _folder(home, metastore_url)


@pytest.fixture
def sqlite_folder(home: Path, databases: Databases) -> Iterator[Folder]:
    url = databases.migrated("sqlite")
    yield from _folder(home, url)
    databases.drop(url)


def _folder(home: Path, url: str) -> Iterator[Folder]:
    engine = open_engine(url)
    yield Folder(home / "dags", engine)
    engine.dispose()


def start(folder: Folder, home: Path, **settings: str) -> AbstractContextManager[Daemon]:
    settings.setdefault("database__sql_alchemy_conn", folder.engine.url.render_as_string(hide_password=False))
    return running("dag-processor", home, **settings)


def test_hostile_files_become_import_errors_with_their_reason_and_the_others_go_on(folder: Folder, home: Path) -> None:
    for name, (text, _) in HOSTILE.items():
        folder.write(name, text)
    folder.write_dag("good.py", "good")
    with start(folder, home, core__dagbag_import_timeout="2", core__dag_file_memory_limit="256") as daemon:
        wait_until(lambda: folder.errors().keys() == HOSTILE.keys(), 60.0, what=lambda: f"{folder.errors()}")
        folder.wait_for("good")
        for name, (_, reason) in HOSTILE.items():
            assert reason in folder.errors()[name], folder.errors()[name]
        assert daemon.process.poll() is None
        folder.write_dag("raises.py", "repaired")
        folder.wait_for("good", "repaired")
        assert "raises.py" not in folder.errors()


def test_a_dag_that_two_files_define_is_an_error_of_the_second_until_the_first_is_gone(
    folder: Folder, home: Path
) -> None:
    folder.write_dag("first.py", "twin")
    with start(folder, home):
        folder.wait_for("twin")
        folder.write_dag("second.py", "twin")
        wait_until(lambda: "second.py" in folder.errors(), what="an import error")
        assert "'twin' is already defined in first.py" in folder.errors()["second.py"]
        folder.write_dag("third.py", "other")
        folder.wait_for("twin", "other")
        (folder.root / "first.py").unlink()
        wait_until(lambda: not folder.errors(), what=lambda: f"no error: {folder.errors()}")
        folder.wait_for("twin", "other")
        with reading(folder.engine) as connection:
            assert dags.get_dag(connection, "twin").fileloc == "second.py"


def test_a_broken_file_keeps_the_last_good_version_of_its_dags(folder: Folder, home: Path) -> None:
    folder.write_dag("a.py", "a")
    with start(folder, home):
        folder.wait_for("a")
        with reading(folder.engine) as connection:
            version = dags.get_dag(connection, "a").version_hash
        folder.write("a.py", "# opskit dag\n1 / 0\n")
        wait_until(lambda: "a.py" in folder.errors(), what="an import error")
        with reading(folder.engine) as connection:
            dag = dags.get_dag(connection, "a")
        assert (dag.is_active, dag.version_hash) == (True, version)


def test_a_changed_dag_gets_a_new_version_a_next_run_and_a_higher_revision(folder: Folder, home: Path) -> None:
    folder.write_dag("a.py", "a", "@daily")
    with start(folder, home):
        folder.wait_for("a")
        with reading(folder.engine) as connection:
            before, revision = dags.get_dag(connection, "a"), read_dags(connection, ["a"])["a"].revision
        assert before.next_logical_date == datetime(2026, 1, 1, tzinfo=UTC)
        assert before.next_run_after == datetime(2026, 1, 2, tzinfo=UTC)
        folder.write_dag("a.py", "a", "@monthly")

        def changed() -> bool:
            with reading(folder.engine) as connection:
                return dags.get_dag(connection, "a").schedule == "@monthly"

        wait_until(changed, what="the new schedule")
        with reading(folder.engine) as connection:
            after, new_revision = dags.get_dag(connection, "a"), read_dags(connection, ["a"])["a"].revision
        assert after.version_hash != before.version_hash
        assert after.next_run_after == datetime(2026, 2, 1, tzinfo=UTC)
        assert new_revision > revision


def test_a_restart_over_an_unchanged_folder_changes_no_dag(folder: Folder, home: Path) -> None:
    folder.write_dag("a.py", "a")
    with start(folder, home) as daemon:
        daemon.wait_for_line("all DAG files are loaded")
    with reading(folder.engine) as connection:
        before = read_dags(connection, ["a"])["a"]
    with start(folder, home) as daemon:
        daemon.wait_for_line("all DAG files are loaded", count=2)
    with reading(folder.engine) as connection:
        after = read_dags(connection, ["a"])["a"]
    assert (after.revision, after.version_hash) == (before.revision, before.version_hash)


def test_a_removed_file_takes_its_dags_along_and_brings_them_back(folder: Folder, home: Path) -> None:
    for name in ("a", "b", "c"):
        folder.write_dag(f"{name}.py", name)
    with start(folder, home):
        folder.wait_for("a", "b", "c")
        (folder.root / "c.py").unlink()
        folder.wait_for("a", "b")
        folder.write_dag("c.py", "c")
        folder.wait_for("a", "b", "c")


def test_the_metastore_may_be_away_at_the_start_and_in_between(home: Path, databases: Databases) -> None:
    url = databases.migrated("postgresql")
    proxy = Proxy(url)
    proxy.refuse()
    engine = open_engine(url)
    folder = Folder(home / "dags", engine)
    folder.write_dag("a.py", "a")
    try:
        with start(folder, home, database__sql_alchemy_conn=proxy.url) as daemon:
            daemon.wait_for_line("trying again in")
            proxy.accept()
            folder.wait_for("a")
            proxy.refuse()
            folder.write_dag("b.py", "b")
            (folder.root / "a.py").unlink()
            seen = daemon.log().count("trying again in")
            daemon.wait_for_line("trying again in", count=seen + 1)
            proxy.accept()
            folder.wait_for("b")
            assert daemon.process.poll() is None
    finally:
        proxy.close()
        engine.dispose()
        databases.drop(url)


def test_a_switched_link_is_seen_at_once(sqlite_folder: Folder, home: Path) -> None:
    for release in ("one", "two"):
        Folder(home / "releases" / release, sqlite_folder.engine).write_dag("a.py", f"from_{release}")
    (home / "dags").rmdir()
    (home / "dags").symlink_to("releases/one")
    with start(sqlite_folder, home, scheduler__refresh_interval="3600"):
        sqlite_folder.wait_for("from_one")
        (home / "next").symlink_to("releases/two")
        (home / "next").rename(home / "dags")
        sqlite_folder.wait_for("from_two")
        Folder(home / "releases" / "two", sqlite_folder.engine).write_dag("b.py", "added_later")
        sqlite_folder.wait_for("from_two", "added_later")


def test_a_folder_that_vanishes_or_is_emptied_takes_no_dag_away(sqlite_folder: Folder, home: Path) -> None:
    sqlite_folder.write_dag("a.py", "a")
    sqlite_folder.write_dag("b.py", "b")
    with start(sqlite_folder, home, scheduler__refresh_interval="0.2") as daemon:
        sqlite_folder.wait_for("a", "b")
        (home / "dags").rename(home / "away")
        daemon.wait_for_line("no DAG is deactivated")
        (home / "dags").mkdir()
        daemon.wait_for_line("no DAG is deactivated: the DAG folder is empty")
        assert sqlite_folder.active() == {"a", "b"}
        (home / "dags").rmdir()
        (home / "away").rename(home / "dags")
        sqlite_folder.write_dag("c.py", "c")
        sqlite_folder.wait_for("a", "b", "c")


def test_ignored_files_are_not_loaded_and_new_rules_take_dags_away(sqlite_folder: Folder, home: Path) -> None:
    sqlite_folder.write_dag("a.py", "a")
    sqlite_folder.write_dag("b.py", "b")
    sqlite_folder.write_dag("drafts/c.py", "c")
    sqlite_folder.write("not_a_dag.py", "raise RuntimeError('never loaded')\n")
    (sqlite_folder.root / ".airflowignore").write_text("drafts/\n")
    with start(sqlite_folder, home):
        sqlite_folder.wait_for("a", "b")
        (sqlite_folder.root / ".opskitignore").write_text("b.py\n")
        sqlite_folder.wait_for("a")
        assert not sqlite_folder.errors()


def test_a_module_that_dag_files_import_loads_them_again(sqlite_folder: Folder, home: Path) -> None:
    sqlite_folder.write("names.py", "NAME = 'before'\n")
    sqlite_folder.write(
        "a.py",
        "from opskit import DAG\nfrom opskit.operators import EmptyOperator\nfrom names import NAME\n"
        "with DAG(NAME, schedule=None) as dag:\n    EmptyOperator(task_id='a')\n",
    )
    with start(sqlite_folder, home):
        sqlite_folder.wait_for("before")
        sqlite_folder.write("names.py", "NAME = 'after'\n")
        sqlite_folder.wait_for("after")


def test_a_file_that_hangs_keeps_no_other_waiting(sqlite_folder: Folder, home: Path) -> None:
    sqlite_folder.write("hangs.py", HOSTILE["loops_for_ever.py"][0])
    sqlite_folder.write("hangs_too.py", HOSTILE["loops_for_ever.py"][0])
    with start(sqlite_folder, home, core__dagbag_import_timeout="600") as daemon:
        daemon.wait_for_line("DAG folder")
        sqlite_folder.write_dag("a.py", "a")
        sqlite_folder.wait_for("a")
        sqlite_folder.write_dag("hangs.py", "repaired")
        sqlite_folder.wait_for("a", "repaired")


def test_a_file_is_loaded_again_when_the_metastore_forgot_it(sqlite_folder: Folder, home: Path) -> None:
    sqlite_folder.write_dag("a.py", "a")
    with start(sqlite_folder, home, scheduler__refresh_interval="3600"):
        sqlite_folder.wait_for("a")
        with transaction(sqlite_folder.engine) as connection:
            dags.delete_dag(connection, "a")
            audit.write(connection, "dags delete", datetime.now(UTC), dag_id="a")
        wake(home / "run", "dag_processor")
        sqlite_folder.wait_for("a")


def test_one_dag_processor_runs_per_home_and_it_says_when_it_starts_and_ends(
    sqlite_folder: Folder, home: Path, opskit: Callable[..., object]
) -> None:
    sqlite_folder.write_dag("a.py", "a")
    with start(sqlite_folder, home) as daemon:
        sqlite_folder.wait_for("a")
        second = opskit("dag-processor", check=False)
        assert second.returncode == 11  # type: ignore[attr-defined]

        def beating() -> bool:
            with reading(sqlite_folder.engine) as connection:
                found = instances.list_instances(connection, kind="dag_processor", living_only=True)
            return bool(found) and found[0].pid == daemon.pid and found[0].detail.get("dags") == 1

        wait_until(beating, what="a heartbeat with the number of DAGs")
        assert daemon.stop(signal.SIGTERM) == 0
        with reading(sqlite_folder.engine) as connection:
            assert not instances.list_instances(connection, kind="dag_processor", living_only=True)
    assert not list((home / "run").glob("dag_processor.*"))


def test_a_file_that_can_not_be_read_is_an_import_error(sqlite_folder: Folder, home: Path) -> None:
    if os.geteuid() == 0:
        # Root reads everything; a link to itself is what nobody can open.
        (sqlite_folder.root / "a.py").symlink_to("a.py")
        sqlite_folder.write_dag("b.py", "b")
        with start(sqlite_folder, home):
            sqlite_folder.wait_for("b")
        return
    sqlite_folder.write_dag("a.py", "a")
    (sqlite_folder.root / "a.py").chmod(0)
    with start(sqlite_folder, home):
        wait_until(lambda: "a.py" in sqlite_folder.errors(), what="an import error")


def test_what_is_known_of_files_is_in_the_metastore(folder: Folder, home: Path) -> None:
    folder.write_dag("team/a.py", "a")
    folder.write("team/b.py", "# opskit dag\n1 / 0\n")
    with start(folder, home):
        folder.wait_for("a")
        wait_until(folder.errors, what="an import error")
    with reading(folder.engine) as connection:
        files = read_files(connection)
        assert "with DAG" in (dags.get_source(connection, "a") or "")
    assert files["team/a.py"].dag_ids == ["a"]
    assert files["team/a.py"].import_error is None
    assert "ZeroDivisionError" in (files["team/b.py"].import_error or "")


ASKS = """
from datetime import datetime
from opskit import DAG, Variable
from opskit.hooks import BaseHook
from opskit.operators import EmptyOperator

with DAG(Variable.get("name"), schedule=None, tags=[BaseHook.get_connection("lake").host]):
    EmptyOperator(task_id="a")
"""


def set_variable(folder: Folder, home: Path, key: str, value: str) -> None:
    with transaction(folder.engine) as connection:
        variables.set_variable(connection, open_cipher(load(home)), key, value)
    wake(home / "run", "dag_processor")


def set_connection(folder: Folder, home: Path, host: str) -> None:
    with transaction(folder.engine) as connection:
        lake = Connection("lake", "postgres", host=host, password="s3cret")
        put_connection(connection, open_cipher(load(home)), lake, overwrite=True)
    wake(home / "run", "dag_processor")


def test_a_file_may_read_variables_and_connections_and_is_loaded_again_when_they_change(
    folder: Folder, home: Path
) -> None:
    set_connection(folder, home, "north")
    folder.write("asks.py", ASKS)
    folder.write_dag("other.py", "other")
    with start(folder, home, scheduler__refresh_interval="3600") as daemon:
        wait_until(lambda: "asks.py" in folder.errors(), what=lambda: f"an import error:\n{daemon.log()}")
        assert "Variable name does not exist" in folder.errors()["asks.py"]
        folder.wait_for("other")
        set_variable(folder, home, "name", "first")
        folder.wait_for("first", "other")
        assert not folder.errors()

        def tags() -> list[str]:
            with reading(folder.engine) as connection:
                return list(dags.get_dag(connection, "first").tags)

        assert tags() == ["north"]
        set_connection(folder, home, "south")
        wait_until(lambda: tags() == ["south"], what="the other host")
        set_variable(folder, home, "name", "second")
        folder.wait_for("second", "other")
        loads = daemon.log().count("loading asks.py again")
        for _ in range(3):  # the same values, written again
            set_connection(folder, home, "south")
        folder.write_dag("third.py", "third")
        folder.wait_for("second", "other", "third")
        assert daemon.log().count("loading asks.py again") == loads


def test_a_change_that_nobody_tells_of_is_seen_after_the_refresh_interval(sqlite_folder: Folder, home: Path) -> None:
    set_connection(sqlite_folder, home, "north")
    set_variable(sqlite_folder, home, "name", "first")
    sqlite_folder.write("asks.py", ASKS)
    with start(sqlite_folder, home, scheduler__variable_refresh_interval="1"):
        sqlite_folder.wait_for("first")
        with transaction(sqlite_folder.engine) as connection:
            variables.set_variable(connection, open_cipher(load(home)), "name", "second")
        sqlite_folder.wait_for("second")


def test_a_file_that_asks_waits_for_the_metastore_until_its_time_is_over_and_is_loaded_when_that_is_back(
    home: Path, databases: Databases
) -> None:
    url = databases.migrated("postgresql")
    proxy = Proxy(url)
    proxy.refuse()
    engine = open_engine(url)
    folder = Folder(home / "dags", engine)
    set_connection(folder, home, "north")
    set_variable(folder, home, "name", "first")
    folder.write("asks.py", ASKS)
    settings = {"core__dagbag_import_timeout": "4", "scheduler__variable_refresh_interval": "1"}
    try:
        with start(folder, home, database__sql_alchemy_conn=proxy.url, **settings) as daemon:
            # The gateway's word, not the processor's.
            daemon.wait_for_line("gateway", timeout=60)
            proxy.accept()
            folder.wait_for("first")
            assert not folder.errors()
            folder.write_dag("other.py", "other")
            folder.wait_for("first", "other")
    finally:
        proxy.close()
        engine.dispose()
        databases.drop(url)


def test_the_gateway_of_the_dag_processor_ends_with_it(sqlite_folder: Folder, home: Path) -> None:
    set_connection(sqlite_folder, home, "north")
    set_variable(sqlite_folder, home, "name", "first")
    sqlite_folder.write("asks.py", ASKS)
    with start(sqlite_folder, home) as daemon:
        sqlite_folder.wait_for("first")
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in descendants(daemon.pid)}
        gateways = [pid for pid, name in names.items() if name == "opskit-gateway"]
        assert len(gateways) == 1, names
        assert list((home / "run").glob("dag-gateway.*.sock"))
        os.kill(daemon.pid, signal.SIGKILL)
        wait_until(lambda: gone(gateways[0]), what="its end")
    with start(sqlite_folder, home) as daemon:
        daemon.wait_for_line("all DAG files are loaded", count=2)
        assert len(list((home / "run").glob("dag-gateway.*.sock"))) == 1
        assert daemon.stop() == 0
    assert not list((home / "run").glob("dag-gateway.*.sock"))
