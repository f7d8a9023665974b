"""Ask real Airflow what it makes of DAG files: `python -m compat_harness.airflow_side --home DIR`, with the
interpreter of an environment that has apache-airflow 2 or 3. Its metastore is a new SQLite file for each DAG file.

It executes foreign code: for files that are not ours, start it in a sandbox (compat_harness.sandbox)."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import shutil
import sqlite3
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compat_harness import answers, serving, surroundings

_WARM_2 = ("airflow.operators.bash", "airflow.operators.python", "airflow.decorators")
_WARM_3 = (
    "airflow.sdk",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.bash",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.api_fastapi.execution_api.app",
    "airflow.dag_processing.bundles.manager",
    "airflow.dag_processing.collection",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    home: Path = parser.parse_args().home.resolve()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    surroundings.prepare(
        home,
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT="60",
        AIRFLOW__API_AUTH__JWT_SECRET="for-comparisons-only-and-long-enough",
        AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
        AIRFLOW__EMAIL__EMAIL_BACKEND="airflow.utils.email.send_email_smtp",
        SCARF_ANALYTICS="false",
    )
    _initialise(home)
    serving.serve(_Child, home, replies)


def _is_3() -> bool:
    import airflow

    return not str(airflow.__version__).startswith("2")


def _initialise(home: Path) -> None:
    importlib.import_module("airflow.models")
    settings = importlib.import_module("airflow.settings")
    if hasattr(settings, "initialize"):
        settings.initialize()
    template = home / "template.db"
    if not template.exists():
        db = importlib.import_module("airflow.utils.db")
        db.initdb()
        with contextlib.suppress(Exception):  # initdb() may have made them
            db.create_default_connections()
        settings.engine.dispose()
        shutil.copy(home / "airflow" / "airflow.db", template)
    settings.engine.dispose()
    for name in _WARM_3 if _is_3() else _WARM_2:
        importlib.import_module(name)


class _Child(serving.Child):
    def load(self, plugins: Path | None) -> list[Any]:
        database = self.home / "airflow" / "airflow.db"
        for suffix in ("-wal", "-shm", "-journal"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
        shutil.copy(self.home / "template.db", database)
        if plugins is not None:
            _use_plugins(plugins)
        self.bag = _bag(self.path)
        self.result["import_errors"] = [str(text).strip() for text in self.bag.import_errors.values()]
        dags = [dag for dag in self.bag.dags.values() if not getattr(dag, "parent_dag", None)]
        for dag in self.bag.dags.values():
            self.result["dags"][dag.dag_id] = _structure(dag)
        return dags

    def run(self, dags: list[Any]) -> None:
        _store(self.bag)
        for companion in self.item.get("companion_paths", ()):
            with contextlib.suppress(Exception):
                _store(_bag(Path(companion)))
        for dag in dags[: surroundings.DAGS_AT_MOST]:
            answer = self.result["dags"][dag.dag_id]
            surroundings.impatient(dag, no_backoff=0 if _is_3() else False)
            at, moving = surroundings.logical_date(dag)
            answer["logical_date"] = "relative" if moving else at.isoformat()
            try:
                run = dag.test(logical_date=at, run_after=at) if _is_3() else dag.test(execution_date=at)
                answer["run"] = str(getattr(run.state, "value", run.state))
            except BaseException as error:  # noqa: BLE001 - whatever comes out of a run is its answer
                answer["run_error"] = f"{type(error).__name__}: {error}"[:300]
                traceback.print_exc()
            answer.update(_outcome(self.home / "airflow" / "airflow.db", dag.dag_id, plain="plain" in self.item))
            self.tell("ran")


def _bag(path: Path) -> Any:
    if _is_3():
        bag = importlib.import_module("airflow.dag_processing.dagbag").DagBag
        return bag(dag_folder=str(path), safe_mode=False, bundle_name="dags-folder", bundle_path=path.parent)
    bag = importlib.import_module("airflow.models.dagbag").DagBag
    return bag(dag_folder=str(path), include_examples=False, safe_mode=False, read_dags_from_db=False)


def _store(bag: Any) -> None:
    if not _is_3():
        bag.sync_to_db()
        return
    manager = importlib.import_module("airflow.dag_processing.bundles.manager").DagBundlesManager
    with importlib.import_module("airflow.utils.session").create_session() as session:
        manager().sync_bundles_to_db(session=session)
    importlib.import_module("airflow.dag_processing.dagbag").sync_bag_to_db(bag, "dags-folder", None)
    # dag.test() looks for its DAG in all bundles again otherwise.
    manager.get_all_dag_bundles = _nothing
    manager.sync_bundles_to_db = _nothing


def _nothing(*_: Any, **__: Any) -> list[Any]:
    return []


def _use_plugins(folder: Path) -> None:
    """Have plugins loaded anew from this folder."""
    os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(folder)
    importlib.import_module("airflow.settings").PLUGINS_FOLDER = str(folder)
    manager = importlib.import_module("airflow.plugins_manager")
    for name in ("plugins", "macros_modules", "timetable_classes", "priority_weight_strategy_classes"):
        if not callable(getattr(manager, name, len)):
            setattr(manager, name, None)
    if hasattr(manager, "loaded_plugins"):
        manager.loaded_plugins = set()
    for function in list(vars(manager).values()):
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def _structure(dag: Any) -> dict[str, Any]:
    tasks = {}
    for task in dag.tasks:
        flags = []
        if getattr(task, "is_mapped", False) or type(task).__name__.endswith("MappedOperator"):
            flags.append("mapped")
        flags += [name for name in ("setup", "teardown") if getattr(task, f"is_{name}", False)]
        kind = getattr(task, "task_type", None) or task.operator_name
        rule = str(getattr(task.trigger_rule, "value", task.trigger_rule))
        tasks[task.task_id] = [kind, sorted(task.upstream_task_ids), rule, *flags]
    timetable = dag.timetable
    return {
        "tasks": tasks,
        "schedule": f"{type(timetable).__name__}:{getattr(timetable, 'summary', '')}",
        "catchup": bool(dag.catchup),
        "params": sorted(dag.params or ()),
    }


def _outcome(database: Path, dag_id: str, *, plain: bool) -> dict[str, Any]:
    """Read from the tables themselves: models differ more between releases than columns do."""
    connection = sqlite3.connect(database)
    try:
        states = connection.execute("SELECT task_id, map_index, state FROM task_instance WHERE dag_id = ?", (dag_id,))
        ti = {answers.instance_key(task_id, index): state for task_id, index, state in states}
        xcoms, texts = {}, {}
        for task_id, index, key, value in _xcoms(connection, dag_id):
            name = answers.instance_key(task_id, index)
            name = name if key == "return_value" else f"{name}:{key}"
            xcoms[name], texts[name] = answers.xcom_hash(value), answers.xcom_text(value)
        rendered = {}
        for task_id, index, fields in connection.execute(
            "SELECT task_id, map_index, rendered_fields FROM rendered_task_instance_fields WHERE dag_id = ?", (dag_id,)
        ):
            name = answers.instance_key(task_id, index)
            rendered[name] = answers.field_hashes(json.loads(fields) or {})
            texts.update(
                {f"{name}.{field}": answers.field_text(value) for field, value in (json.loads(fields) or {}).items()}
            )
    finally:
        connection.close()
    return {
        "ti": dict(sorted(ti.items())),
        "xcom_sha": answers.first(xcoms, answers.XCOMS_AT_MOST),
        "rendered_sha": answers.first(rendered, answers.RENDERED_AT_MOST),
        **({"plain": texts} if plain else {}),
    }


def _xcoms(connection: sqlite3.Connection, dag_id: str) -> Iterator[tuple[str, int, str, Any]]:
    """`(task_id, map_index, key, value)`. The model of Airflow 2 shows a text for what JSON lacks; 3 has it in JSON."""
    if not _is_3():
        model = importlib.import_module("airflow.models.xcom").XCom
        with importlib.import_module("airflow.utils.session").create_session() as session:
            for row in session.query(model).filter(model.dag_id == dag_id):
                yield row.task_id, row.map_index, row.key, row.value
        return
    for task_id, index, key, value in connection.execute(
        "SELECT task_id, map_index, key, value FROM xcom WHERE dag_id = ?", (dag_id,)
    ):
        yield task_id, index, key, json.loads(value) if isinstance(value, (str, bytes)) else value


if __name__ == "__main__":
    sys.exit(main())
