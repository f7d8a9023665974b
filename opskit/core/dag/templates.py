"""Jinja templates in the fields of a task. Jinja is loaded when the first real template turns up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opskit.core.dag.xcom_arg import ResolveMixin

if TYPE_CHECKING:
    from jinja2 import Environment

    from opskit.core.dag.base_operator import BaseOperator
    from opskit.core.dag.model import DAG

_MARKS = ("{{", "{%", "{#")
RENDERED = "_rendered_something"
"""Marks a task whose fields were rendered, and not all of them were left as they are."""


def render_fields(task: BaseOperator, context: Any, env: Any = None) -> None:
    """Render the template fields of a task in place, and mark it when that changed one. Fields without a template are
    left as they are, and so is what a mapped task has got from XComs."""
    resolved = task.__dict__.get("_resolved_values")
    leave = frozenset(map(id, resolved)) if resolved else frozenset()
    for name in task.template_fields:
        try:
            value = getattr(task, name)
        except AttributeError:
            raise AttributeError(
                f"{name!r} is a template field of {task.task_type}, but task {task.task_id} has no such attribute"
            ) from None
        if value is None:
            continue
        rendered = render(value, context, task, env, leave)
        if rendered is not value:
            setattr(task, name, rendered)
            task.__dict__[RENDERED] = True


def render(value: Any, context: Any, task: BaseOperator, env: Any = None, leave: frozenset[int] = frozenset()) -> Any:
    """`value` with all templates in it rendered, in texts, lists, tuples, sets, dicts, and in objects that name
    template_fields of their own. The value itself when nothing was to be done.

    A text that ends like one of the task's template_ext is the name of a file beside the DAG file or on
    template_searchpath. jinja2.UndefinedError for a name that does not exist. Objects with an id in `leave` stay as
    they are."""
    if leave and id(value) in leave:
        return value
    if isinstance(value, str):
        if task.template_ext and value.endswith(tuple(task.template_ext)):
            return _render_file(value, context, env or task.get_template_env())
        if any(mark in value for mark in _MARKS) or _gives_values(task):
            return _render_text(value, context, env or task.get_template_env())
        # What Jinja does to a text without marks.
        if "\r" in value:
            value = value.replace("\r\n", "\n").replace("\r", "\n")
        return value[:-1] if value.endswith("\n") else value
    if isinstance(value, ResolveMixin):
        return value.resolve(context)
    if isinstance(value, Mapping):
        items = {key: render(item, context, task, env, leave) for key, item in value.items()}
        return items if any(items[key] is not value[key] for key in items) else value
    if isinstance(value, (list, tuple, set, frozenset)):
        rendered = [render(item, context, task, env, leave) for item in value]
        if all(new is old for new, old in zip(rendered, value, strict=True)):
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*rendered)
        return type(value)(rendered)
    if hasattr(value, "template_fields") and not isinstance(value, type):
        for name in value.template_fields:
            inner = getattr(value, name, None)
            if inner:
                setattr(value, name, render(inner, context, task, env, leave))
    return value


def _gives_values(task: BaseOperator) -> bool:
    """Whether templates become Python values: then "[1, 2]" is a list, without any marks in it."""
    dag = task.get_dag()
    return dag is not None and dag.render_template_as_native_obj


def environment(dag: DAG | None, native: bool | None = None) -> Environment:
    """The Jinja environment of a DAG; made once per DAG and process. `native`: whether it gives Python values instead
    of texts (None: as the DAG says)."""
    if dag is None:
        return _make_environment(None, bool(native))
    wanted = dag.render_template_as_native_obj if native is None else native
    name = "_native_environment" if wanted else "_jinja_environment"
    made: Environment | None = dag.__dict__.get(name)
    if made is None:
        made = dag.__dict__[name] = _make_environment(dag, wanted)
    return made


def _make_environment(dag: DAG | None, native: bool) -> Environment:
    import jinja2

    from opskit.core.dag import jinja_environment

    folders = [*dag.template_searchpath, dag.folder] if dag is not None else []
    options: dict[str, Any] = {
        "loader": jinja2.FileSystemLoader(folders),
        "undefined": (dag.template_undefined if dag is not None else None) or jinja2.StrictUndefined,
        "extensions": ["jinja2.ext.do"],
        "cache_size": 0,
    }
    if dag is not None and dag.jinja_environment_kwargs:
        options.update(dag.jinja_environment_kwargs)
    env = jinja_environment.make(native, options)
    if dag is not None:
        env.globals.update(dag.user_defined_macros or {})
        env.filters.update(dag.user_defined_filters or {})
    return env


def _render_text(text: str, context: Any, env: Environment) -> Any:
    from opskit.core.dag import jinja_environment

    return jinja_environment.render(env.from_string(text), context)


def _render_file(name: str, context: Any, env: Environment) -> Any:
    from opskit.core.dag import jinja_environment

    return jinja_environment.render(env.get_template(name), context)
