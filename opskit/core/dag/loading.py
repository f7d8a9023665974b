"""Import one DAG file in this process and collect its DAGs."""

from __future__ import annotations

import ast
import os
import sys
import types
from pathlib import Path
from typing import Any

from opskit.core.dag import airflow_gate, authoring_context, dialect, plugins, policies, secrets_backends, zones
from opskit.core.dag import xcom_backend as xcom_backends
from opskit.core.dag.model import DAG
from opskit.errors import DagInvalid

_FRAMES = 20
"""Frames of a DAG file's traceback that an import error shows."""


def load_file(
    path: Path | str,
    dags_folder: Path | str,
    default_timezone: str = "UTC",
    *,
    airflow_dialect: str = "auto",
    plugins_folder: str = "",
    config_folder: str = "",
    secrets_backend: str = "",
    secrets_backend_kwargs: str = "",
    xcom_backend: str = "",
) -> list[DAG]:
    """Run a DAG file as a module and give its DAGs, sorted by dag_id: those in its globals, and those opened by `with`
    or `@dag`. DAG, plugins and config folder are put on sys.path, and plugins are loaded. Airflow's names can be
    imported from then on. The other arguments are settings of the same names (`load_options.of_config`).

    DagInvalid for whatever the file raises (the message ends with the traceback below the file), for a DAG with a
    cycle or a bad schedule, and for two DAGs with the same dag_id. sys.exit() in the file is such an error, too;
    anything harder (os._exit, a signal) is the caller's to survive."""
    path, dags_folder = Path(path), Path(dags_folder)
    if str(dags_folder) not in sys.path:
        sys.path.insert(0, str(dags_folder))
    prepare(
        dags_folder,
        default_timezone,
        plugins_folder=plugins_folder,
        config_folder=config_folder,
        secrets_backend=secrets_backend,
        secrets_backend_kwargs=secrets_backend_kwargs,
        xcom_backend=xcom_backend,
    )
    authoring_context.forget()
    dags: list[DAG] = []
    for file, source in _texts(path):
        with dialect.speaking(None):
            module = _run(file, source, airflow_dialect)
        dags += [dag for dag in _collect(module) if not any(dag is known for known in dags)]
    authoring_context.forget()
    relative = os.path.relpath(path, dags_folder)
    by_id: dict[str, DAG] = {}
    for dag in dags:
        if by_id.setdefault(dag.dag_id, dag) is not dag:
            raise DagInvalid(f"the file defines two DAGs with the dag_id {dag.dag_id!r}")
        dag.fileloc = str(path)
        dag.relative_fileloc = relative
        if policies.accepted(dag):
            dag.validate()
        else:
            del by_id[dag.dag_id]
    return [by_id[dag_id] for dag_id in sorted(by_id)]


def prepare(
    dags_folder: Path | str,
    default_timezone: str = "UTC",
    *,
    plugins_folder: str = "",
    config_folder: str = "",
    secrets_backend: str = "",
    secrets_backend_kwargs: str = "",
    xcom_backend: str = "",
    **_: Any,
) -> None:
    """What is the same for all files of a DAG folder: zone, plugins, secrets backend, and Airflow's names."""
    zones.set_default_zone(default_timezone)
    if config_folder and config_folder not in sys.path and os.path.isdir(config_folder):
        sys.path.append(config_folder)
    airflow_gate.open_gate(str(dags_folder), plugins_folder, config_folder)
    if secrets_backend:
        secrets_backends.configure(secrets_backend, _json_object(secrets_backend_kwargs))
    if xcom_backend:
        xcom_backends.configure(xcom_backend)
    plugins.load(plugins_folder)
    policies.load(config_folder)


def _json_object(text: str) -> dict[str, Any]:
    import json

    from opskit.errors import ConfigError

    try:
        found = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ConfigError(f"secrets.backend_kwargs is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError("secrets.backend_kwargs must be a JSON object")
    return found


def module_name(path: Path) -> str:
    """A name that no other file's module has."""
    from hashlib import sha1

    digest = sha1(str(path).encode(), usedforsecurity=False).hexdigest()
    return f"unusual_prefix_{digest}_{path.stem.replace('.', '_')}"


def _texts(path: Path) -> list[tuple[Path, bytes]]:
    """The file; of an archive, which goes on sys.path, the modules at its top that may define DAGs."""
    try:
        if path.suffix != ".zip":
            return [(path, path.read_bytes())]
        from opskit.core.dag import archives

        texts = archives.dag_modules(path)
    except OSError as error:
        raise DagInvalid(f"{path.name} can't be read: {error.strerror or error}") from error
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    return [(path / name, text) for name, text in texts]


def _run(path: Path, source: bytes, airflow_dialect: str) -> types.ModuleType:
    name = module_name(path)
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # A class that is pickled, a dataclass, get_type_hints: all look the module up.
    sys.modules[name] = module
    try:
        # Without a .pyc: the DAG folder may be read-only, and is deployed and compared file by file.
        text: Any = source
        if b"airflow" in source:
            text = compile(source, str(path), "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
            dialect.settle(dialect.of_tree(text, airflow_dialect))
        code = compile(text, str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - running the author's file is the purpose
    except Exception as error:
        sys.modules.pop(name, None)
        authoring_context.forget()
        raise DagInvalid(_explain(error, path), hint=getattr(error, "hint", None)) from error
    except SystemExit as error:
        sys.modules.pop(name, None)
        authoring_context.forget()
        code_text = "" if error.code is None else repr(error.code)
        raise DagInvalid(
            f"the file calls sys.exit({code_text})", hint="put it below if __name__ == '__main__'"
        ) from error
    return module


def _collect(module: types.ModuleType) -> list[DAG]:
    foreign = sorted(name for name, value in module.__dict__.items() if _is_real_airflows(value))
    if foreign:
        raise DagInvalid(
            f"{', '.join(foreign)}: the DAG of an Airflow that is installed here, not opskit's",
            hint="uninstall apache-airflow from this environment, or import DAG from opskit",
        )
    found: list[DAG] = []
    for value in [*module.__dict__.values(), *authoring_context.registered]:
        if isinstance(value, DAG) and not any(value is known for known in found):
            found.append(value)
    for dag in found:  # those that are found on the way have sub-DAGs, too
        found.extend(sub for sub in dag.subdags if not any(sub is known for known in found))
    return found


def _is_real_airflows(value: Any) -> bool:
    kind = type(value)
    return kind.__name__ == "DAG" and kind.__module__.startswith("airflow.") and not isinstance(value, DAG)


def _explain(error: BaseException, path: Path) -> str:
    """What went wrong and where, from the first frame of the DAG file on: frames above it are ours."""
    import traceback

    if isinstance(error, SyntaxError):
        return "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    first = next((number for number, frame in enumerate(frames) if frame.filename == str(path)), 0)
    own = str(Path(__file__).parent)
    shown = [frame for frame in frames[first:] if not frame.filename.startswith(own)] or frames[first:]
    what = error.message if isinstance(error, DagInvalid) else "".join(traceback.format_exception_only(error)).strip()
    return what + "\n" + "".join(traceback.format_list(shown[-_FRAMES:])).rstrip()


def needs_warmup(dags: list[DAG]) -> set[str]:
    """Modules that the attempts of these DAGs will need: imported before forking, they cost an attempt nothing."""
    needed: set[str] = set()
    for dag in dags:
        for task in dag.tasks:
            needed |= _needs_of(task)
        if any(params.has_schema for params in (dag.params, *(task.params for task in dag.tasks))):
            needed.add("jsonschema")
    return needed


# Context entries that are pendulum datetimes.
_MOMENTS = frozenset(
    {
        "data_interval_end",
        "data_interval_start",
        "execution_date",
        "logical_date",
        "next_execution_date",
        "prev_data_interval_end_success",
        "prev_data_interval_start_success",
        "prev_execution_date",
        "prev_execution_date_success",
        "prev_start_date_success",
    }
)


def _needs_of(task: Any) -> set[str]:
    import inspect

    needed: set[str] = set()
    if task.task_type in ("BashOperator", "_BashDecoratedOperator", "BashSensor"):
        needed |= {"subprocess", "tempfile"}
    if any(_has_template(getattr(task, name, None), tuple(task.template_ext)) for name in task.template_fields):
        needed |= {"jinja2", "pendulum"}
    functions = [getattr(task, "python_callable", None)]
    for name in ("on_execute_callback", "on_success_callback", "on_failure_callback", "on_retry_callback"):
        if getattr(task, name):
            needed.add("pendulum")  # a callback is given the whole context
    for function in functions:
        if function is None:
            continue
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):
            continue
        if any(p.kind is p.VAR_KEYWORD or name in _MOMENTS for name, p in parameters.items()):
            needed.add("pendulum")
    if functions == [None] and not task.inherits_from_empty_operator and task.task_type != "BashOperator":
        # An operator's own execute(context) may use any entry.
        needed.add("pendulum")
    return needed


def _has_template(value: Any, extensions: tuple[str, ...]) -> bool:
    if isinstance(value, str):
        return "{{" in value or "{%" in value or "{#" in value or bool(extensions and value.endswith(extensions))
    if isinstance(value, dict):
        return any(_has_template(item, extensions) for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return any(_has_template(item, extensions) for item in value)
    return False
