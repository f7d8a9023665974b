"""What `airflow.utils.operator_helpers`, `airflow.utils.context` and their like offer beside the context itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

from opskit.compat.exceptions import RemovedInAirflow3Warning

__all__ = [
    "AIRFLOW_VAR_NAME_FORMAT_MAPPING",
    "DEFAULT_FORMAT_PREFIX",
    "ENV_VAR_FORMAT_PREFIX",
    "AirflowContextDeprecationWarning",
    "KeywordParameters",
    "context_copy_partial",
    "context_get_outlet_events",
    "context_merge",
    "context_to_airflow_vars",
    "determine_kwargs",
    "make_kwargs_callable",
]

DEFAULT_FORMAT_PREFIX = "airflow.ctx."
ENV_VAR_FORMAT_PREFIX = "AIRFLOW_CTX_"
_NAMES = ("DAG_ID", "TASK_ID", "LOGICAL_DATE", "EXECUTION_DATE", "TRY_NUMBER", "DAG_RUN_ID", "DAG_OWNER", "DAG_EMAIL")
AIRFLOW_VAR_NAME_FORMAT_MAPPING = {
    f"AIRFLOW_CONTEXT_{name}": {
        "default": DEFAULT_FORMAT_PREFIX + name.lower(),
        "env_var_format": ENV_VAR_FORMAT_PREFIX + name,
    }
    for name in _NAMES
}
"""What the parts of a context are called in a configuration, and in the environment of a command."""


class AirflowContextDeprecationWarning(RemovedInAirflow3Warning):
    """An entry of the context that Airflow 3 does not have."""


def context_to_airflow_vars(context: Mapping[str, Any], in_env_var_format: bool = False) -> dict[str, str]:
    """DAG, task, run and owner of a context as texts; names as in the mapping above."""
    task, ti, dag_run = (context.get(name) for name in ("task", "task_instance", "dag_run"))
    ti = ti or context.get("ti")
    email = getattr(task, "email", None)
    logical_date = getattr(dag_run, "logical_date", None) or getattr(ti, "execution_date", None)
    values = {
        "DAG_EMAIL": ",".join([email] if isinstance(email, str) else email or []),
        "DAG_OWNER": getattr(task, "owner", None),
        "DAG_ID": getattr(ti, "dag_id", None),
        "TASK_ID": getattr(ti, "task_id", None),
        "LOGICAL_DATE": logical_date,
        "EXECUTION_DATE": logical_date,
        "TRY_NUMBER": getattr(ti, "try_number", None),
        "DAG_RUN_ID": getattr(dag_run, "run_id", None),
    }
    form = "env_var_format" if in_env_var_format else "default"
    return {
        AIRFLOW_VAR_NAME_FORMAT_MAPPING[f"AIRFLOW_CONTEXT_{name}"][form]: (
            value.isoformat() if isinstance(value, datetime) else str(value)
        )
        for name, value in values.items()
        if value
    }


def context_merge(context: Any, *args: Any, **kwargs: Any) -> None:
    """Put more entries into a context; they stand before what it has."""
    context.update(*args, **kwargs)


def context_copy_partial(source: Any, keys: Collection[str]) -> Any:
    """A context with these entries only."""
    return {key: source[key] for key in keys if key in source}


def context_get_outlet_events(context: Any) -> Any:
    """Where a task notes what it says about its outlets."""
    return context["outlet_events"]


class KeywordParameters:
    """Which of the keyword arguments at hand a function takes."""

    def __init__(self, kwargs: Mapping[str, Any], *, wildcard: bool) -> None:
        self._kwargs = kwargs
        self._wildcard = wildcard

    @classmethod
    def determine(cls, func: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]) -> KeywordParameters:
        """ValueError when a positional argument takes the place of a keyword that is at hand, too."""
        parameters = inspect.signature(func).parameters
        wildcard = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        filled = [name for name, parameter in parameters.items() if parameter.kind in positional][: len(args)]
        twice = [name for name in filled if name in kwargs]
        if twice and not wildcard:
            raise ValueError(f"the arguments {', '.join(map(repr, twice))} are given twice")
        usable = {key: value for key, value in kwargs.items() if key not in filled}
        if not wildcard:
            usable = {key: value for key, value in usable.items() if key in parameters}
        return cls(usable, wildcard=wildcard)

    def unpacking(self) -> Mapping[str, Any]:
        """For `f(**…)`."""
        return self._kwargs

    def serializing(self) -> dict[str, Any]:
        return dict(self._kwargs)


def determine_kwargs(func: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of `kwargs` that the function takes."""
    return KeywordParameters.determine(func, args, kwargs).unpacking()


def make_kwargs_callable(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which leaves out the keyword arguments that it does not take."""

    @wraps(func)
    def call(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **determine_kwargs(func, args, kwargs))

    return call
