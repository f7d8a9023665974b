"""What opskit knows of a DAG and of its run, in the words of compat_harness.answers."""

from __future__ import annotations

import json
from typing import Any

from compat_harness import answers

_DEFAULT_CONNECTIONS: tuple[tuple[str, str, str | None, dict[str, Any]], ...] = (
    ("fs_default", "fs", None, {"extra": {"path": "/"}}),
    ("sqlite_default", "sqlite", "/tmp/sqlite_default.db", {}),
    ("http_default", "http", "https://www.httpbin.org/", {}),
    ("postgres_default", "postgres", "postgres", {"login": "postgres", "password": "airflow", "schema": "airflow"}),
    ("mysql_default", "mysql", "mysql", {"login": "root", "schema": "airflow"}),
    ("ssh_default", "ssh", "localhost", {}),
    ("sftp_default", "sftp", "localhost", {"port": 22, "login": "airflow"}),
    ("ftp_default", "ftp", "localhost", {"port": 21, "login": "airflow", "password": "airflow"}),
    ("aws_default", "aws", None, {}),
    ("redis_default", "redis", "redis", {"port": 6379, "extra": {"db": 0}}),
    ("spark_default", "spark", "yarn", {"extra": {"queue": "root.default"}}),
    ("kubernetes_default", "kubernetes", None, {}),
    ("airflow_db", "mysql", "mysql", {"login": "root", "schema": "airflow"}),
    ("google_cloud_default", "google_cloud_platform", None, {"schema": "default"}),
)
"""Those of a new Airflow that tasks without network can do something with."""

_LONGEST_FIELD = 4096
_CUT = "Truncated. You can change this behaviour in [core]max_templated_field_length. "


def default_connections() -> dict[str, Any]:
    from opskit.core.dag.connection import Connection

    return {
        conn_id: Connection(conn_id, conn_type=kind, host=host, **more)
        for conn_id, kind, host, more in _DEFAULT_CONNECTIONS
    }


def structure(dag: Any) -> dict[str, Any]:
    tasks: dict[str, Any] = {}
    for task in dag.tasks:
        flags = [
            name
            for name, attribute in (("mapped", "is_mapped"), ("setup", "is_setup"), ("teardown", "is_teardown"))
            if getattr(task, attribute, False)
        ]
        rule = task.trigger_rule
        tasks[task.task_id] = [
            task.task_type,
            sorted(task.upstream_task_ids),
            str(getattr(rule, "value", rule)),
            *flags,
        ]
    return {
        "tasks": tasks,
        "schedule": f"{type(dag.timetable).__name__}:{_summary(dag.timetable)}",
        "catchup": bool(dag.catchup),
        "params": sorted(dag.params),
    }


def _summary(timetable: Any) -> str:
    from opskit.core.dag import timetables

    own = getattr(timetable, "summary", None)
    return str(own) if own is not None else timetables.describe(timetable)


class Recorder:
    """Notes the states, the XComs and the rendered fields of the runs in this process."""

    def __init__(self, behind: Any, airflow: str) -> None:
        from opskit.core.dag import base_operator, runtime

        self._serialize = _field_in_3 if airflow.startswith("3") else _field_in_2
        self._airflow_2 = airflow.startswith("2")
        self._stores: list[Any] = []
        self._rendered: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, dict[str, str]] = {}
        set_store = runtime.set_store
        set_store(behind)

        def noting(store: Any) -> None:
            if store is not behind:
                store.dag_ids = behind.dag_ids
                self._stores.append(store)
            set_store(store)

        runtime.set_store = noting
        render = base_operator.BaseOperator.render_template_fields
        recorder = self

        def render_and_note(self: Any, context: Any, *arguments: Any, **named: Any) -> Any:
            result = render(self, context, *arguments, **named)
            recorder._note(result if isinstance(result, base_operator.BaseOperator) else self, context)
            return result

        base_operator.BaseOperator.render_template_fields = render_and_note  # type: ignore[method-assign]

    def _note(self, task: Any, context: Any) -> None:
        ti = context["ti"]
        fields = {name: self._cut(self._serialize(getattr(task, name, None))) for name in task.template_fields}
        key = answers.instance_key(ti.task_id, ti.map_index)
        self._rendered.setdefault(ti.dag_id, {})[key] = answers.field_hashes(fields)
        texts = {f"{key}.{name}": answers.field_text(value) for name, value in fields.items()}
        self._texts.setdefault(ti.dag_id, {}).update(texts)

    def _cut(self, value: Any) -> Any:
        """Of a field whose text is long, Airflow keeps the beginning."""
        text = str(value)
        if len(text) <= _LONGEST_FIELD:
            return value
        if self._airflow_2:
            return f"{_CUT}{text[: _LONGEST_FIELD - 79]!r}... "
        return f"{_CUT}{text[: _LONGEST_FIELD - len(_CUT) - 3].rstrip()}..."

    def take(self, dag_id: str, *, plain: bool) -> dict[str, Any]:
        states: dict[str, Any] = {}
        xcoms: dict[str, str] = {}
        for store in self._stores:
            for (owner, _), instances in store.states.items():
                if owner == dag_id:
                    states.update({answers.instance_key(*key): state for key, state in instances.items()})
            for (owner, _), values in store._xcoms.items():
                if owner == dag_id:
                    for (task_id, map_index, name), value in values.items():
                        key = answers.instance_key(task_id, map_index)
                        key = key if name == "return_value" else f"{key}:{name}"
                        shown = _shown_by_2(value) if self._airflow_2 else _as_kept_by_sqlite(_as_stored(value))
                        xcoms[key] = answers.xcom_hash(shown)
                        self._texts.setdefault(dag_id, {})[key] = answers.xcom_text(shown)
        return {
            "ti": dict(sorted(states.items())),
            "xcom_sha": dict(sorted(xcoms.items())),
            "rendered_sha": self._rendered.get(dag_id, {}),
            **({"plain": self._texts.get(dag_id, {})} if plain else {}),
        }


def _shown_by_2(value: Any) -> Any:
    """An XCom as the model of Airflow 2 shows it: what JSON lacks as a text; tuples inside of others as lists."""
    if isinstance(value, dict) and "__classname__" in value:
        data = value.get("__data__")
        if isinstance(data, list):
            inside = ",".join(str(data))
        elif isinstance(data, dict):
            inside = ",".join(f"{key}={_shown_by_2(item)}" for key, item in data.items())
        else:
            inside = str(data)
        return f"{value['__classname__']}@version={value.get('__version__', 1)}({inside})"
    return _lists_for_tuples(value)


def _lists_for_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return [_lists_for_tuples(item) for item in value]
    if isinstance(value, dict):
        if value.get("__classname__") == "builtins.tuple":
            return _lists_for_tuples(value["__data__"])
        if "__classname__" in value:
            return _shown_by_2(value)
        return {key: _lists_for_tuples(item) for key, item in value.items()}
    return value


def _as_kept_by_sqlite(value: Any) -> Any:
    """The answers of Airflow 3 were read from SQLite, to which a column of type JSON is one of numbers: a float without
    fraction comes back as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_stored(value: Any) -> Any:
    """An XCom as opskit stores it, as Airflow stores it."""
    if isinstance(value, list):
        return [_as_stored(item) for item in value]
    if isinstance(value, dict):
        name, data = value.get("__classname__"), value.get("__data__")
        if name == "datetime.datetime":
            return _moment(data)
        if name is not None and name.startswith("airflow.datasets."):
            # The answers of Airflow 2 were read with its ORM, which makes texts of objects.
            fields = ",".join(f"{key}={_as_stored(item)}" for key, item in data.items())
            return f"{name}@version={value['__version__']}({fields})"
        if name is not None:
            return {**value, "__data__": _as_stored(data)}
        return {key: _as_stored(item) for key, item in value.items()}
    return value


def _moment(text: str) -> dict[str, Any]:
    from datetime import datetime

    moment = datetime.fromisoformat(text)
    data = {"timestamp": moment.timestamp(), "tz": None}
    if moment.tzinfo is not None:
        data["tz"] = {
            "__classname__": "builtins.tuple",
            "__version__": 1,
            "__data__": ["UTC", "pendulum.tz.timezone.Timezone", 1, True],
        }
    return {"__classname__": "datetime.datetime", "__version__": 2, "__data__": data}


def _field_in_2(value: Any) -> Any:
    """A rendered field as Airflow 2 keeps it: as it is when it is JSON, else as text."""
    try:
        json.dumps(value)
    except (TypeError, OverflowError):
        return str(value)
    return value


def _field_in_3(value: Any) -> Any:
    """Airflow 3 makes JSON of what is inside, too."""
    import inspect

    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, dict):
        pairs = [(str(_field_in_3(key)), _field_in_3(item)) for key, item in value.items()]
        return dict(sorted(pairs, key=lambda pair: pair[0]))
    if isinstance(value, (list, tuple)):
        return [_field_in_3(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_field_in_3(item) for item in value), key=lambda item: (type(item).__name__, str(item)))
    if callable(inspect.getattr_static(value, "serialize", None)):
        return _field_in_3(value.serialize())
    if callable(value):
        return f"<callable {_name_of(value)}>"
    kind = type(value)
    if kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__:
        return str(value)
    return f"<{_name_of(kind)} object>"


def _name_of(thing: Any) -> str:
    return f"{thing.__module__.rpartition('.')[2]}.{thing.__qualname__}"
