"""The Jinja side of templates: Airflow's filters, and a context asked name by name. Importing this loads Jinja."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from jinja2 import Environment, Template
from jinja2.nativetypes import NativeEnvironment
from jinja2.sandbox import SandboxedEnvironment


class _Sandbox(SandboxedEnvironment):
    """Names with one leading underscore may be used, as in Airflow; those with two may not."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return not attr.startswith("__")


class _NativeSandbox(NativeEnvironment, _Sandbox):
    """Gives Python values instead of texts."""


class _Names(Mapping[str, Any]):
    """The task's context first, the environment's globals after it. Nothing is computed before it is asked for."""

    def __init__(self, context: Mapping[str, Any], env_globals: Mapping[str, Any]) -> None:
        self._context = context
        self._globals = env_globals

    def __getitem__(self, name: str) -> Any:
        return self._context[name] if name in self._context else self._globals[name]

    def __contains__(self, name: object) -> bool:
        return name in self._context or name in self._globals

    def __iter__(self) -> Iterator[str]:
        yield from self._context
        for name in self._globals:
            if name not in self._context:
                yield name

    def __len__(self) -> int:
        return len(set(self._context) | set(self._globals))

    def keys(self) -> Any:
        return list(self)


def make(native: bool, options: dict[str, Any]) -> Environment:
    """An environment with Airflow's filters."""
    env = (_NativeSandbox if native else _Sandbox)(**options)
    env.filters.update(_FILTERS)
    return env


def render(template: Template, context: Mapping[str, Any]) -> Any:
    """The text (or, in a native environment, the value) of a template."""
    env = template.environment
    names: Any = _Names(context, template.globals)
    jinja_context = env.context_class(env, names, template.name, template.blocks)
    parts = template.root_render_func(jinja_context)
    return env.concat(parts)


def _nodash(text: str) -> str:
    return text.replace("-", "").replace(":", "")


def _ds(value: datetime | None) -> str | None:
    return None if value is None else value.strftime("%Y-%m-%d")


def _ts(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _ds_nodash(value: datetime | None) -> str | None:
    return None if value is None else value.strftime("%Y%m%d")


def _ts_nodash(value: datetime | None) -> str | None:
    return None if value is None else value.strftime("%Y%m%dT%H%M%S")


def _ts_nodash_with_tz(value: datetime | None) -> str | None:
    return None if value is None else _nodash(value.isoformat())


_FILTERS = {
    "ds": _ds,
    "ds_nodash": _ds_nodash,
    "ts": _ts,
    "ts_nodash": _ts_nodash,
    "ts_nodash_with_tz": _ts_nodash_with_tz,
}
