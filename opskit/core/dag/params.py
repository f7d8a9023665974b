"""Params: values that a run may be given, with defaults and simple rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from opskit.core.dag.exceptions import ParamValidationError
from opskit.core.dag.xcom_arg import ResolveMixin


class _NotSet:
    def __repr__(self) -> str:
        return "NOTSET"

    def __bool__(self) -> bool:
        return False


NOTSET: Any = _NotSet()
"""No value was given; None is a value."""

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, (list, tuple)),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
}
_LENGTHS: dict[str, Callable[[int, int], bool]] = {
    "minLength": lambda length, bound: length >= bound,
    "maxLength": lambda length, bound: length <= bound,
}


class Param:
    """One param: a default and the JSON-schema words `type`, `enum`, `const`, bounds, lengths and `pattern`.

    Other schema words are kept (the web UI reads `title`, `format` …) and not enforced."""

    def __init__(self, default: Any = NOTSET, description: str | None = None, **kwargs: Any) -> None:
        self.value = default
        self.description = description
        self.schema: dict[str, Any] = dict(kwargs.pop("schema", None) or {})
        self.schema.update(kwargs)

    @property
    def has_value(self) -> bool:
        return self.value is not NOTSET

    def resolve(self, value: Any = NOTSET, suppress_exception: bool = False) -> Any:
        """The value given here, else the default, when the rules allow it. ParamValidationError when not; with
        `suppress_exception` None instead."""
        candidate = value if value is not NOTSET else self.value
        if candidate is NOTSET and "const" in self.schema:
            candidate = self.schema["const"]
        try:
            if candidate is NOTSET:
                raise ParamValidationError("no value was given, and there is no default")
            self._check(candidate)
        except ParamValidationError:
            if suppress_exception:
                return None
            raise
        return candidate

    def _check(self, value: Any) -> None:
        schema = self.schema
        if "const" in schema and value != schema["const"]:
            raise ParamValidationError(f"{value!r} is not {schema['const']!r}")
        if "enum" in schema and value not in schema["enum"]:
            raise ParamValidationError(f"{value!r} is not one of {schema['enum']!r}")
        if "type" in schema:
            kinds = schema["type"] if isinstance(schema["type"], (list, tuple)) else [schema["type"]]
            unknown = [kind for kind in kinds if kind not in _TYPES]
            if unknown:
                raise ParamValidationError(f"{unknown[0]!r} is no type; choose of {', '.join(_TYPES)}")
            if not any(_TYPES[kind](value) for kind in kinds):
                raise ParamValidationError(f"{value!r} is not of type {' or '.join(kinds)}")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            for word, holds in _BOUNDS.items():
                if word in schema and not holds(value, schema[word]):
                    raise ParamValidationError(f"{value!r} breaks {word} {schema[word]!r}")
        if isinstance(value, str):
            for word, fits in _LENGTHS.items():
                if word in schema and not fits(len(value), schema[word]):
                    raise ParamValidationError(f"{value!r} breaks {word} {schema[word]!r}")
            if "pattern" in schema:
                import re

                if not re.search(schema["pattern"], value):
                    raise ParamValidationError(f"{value!r} does not match {schema['pattern']!r}")

    def dump(self) -> dict[str, Any]:
        return {"value": self.value if self.has_value else None, "description": self.description, "schema": self.schema}

    def __repr__(self) -> str:
        return f"Param({self.value!r})"


class ParamsDict(MutableMapping[str, Any]):
    """Params by name. Reading gives values, writing changes the value and keeps the rules."""

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._params: dict[str, Param] = {}
        if isinstance(values, ParamsDict):
            self._params.update(values._params)
        elif values:
            for name, value in values.items():
                self._params[name] = value if isinstance(value, Param) else Param(value)

    def __getitem__(self, name: str) -> Any:
        return self._params[name].resolve()

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, Param):
            self._params[name] = value
            return
        old = self._params.get(name)
        new = Param(value, old.description, schema=old.schema) if old else Param(value)
        new.resolve()
        self._params[name] = new

    def __delitem__(self, name: str) -> None:
        del self._params[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)

    def __contains__(self, name: object) -> bool:
        return name in self._params

    def __repr__(self) -> str:
        return repr(self._params)

    def get_param(self, name: str) -> Param:
        return self._params[name]

    def copy(self) -> ParamsDict:
        return ParamsDict(self)

    def merged(self, values: Mapping[str, Any] | None) -> ParamsDict:
        """These, overridden by `values` (values, or Params, which replace the rules as well). Not checked."""
        result = ParamsDict(self)
        if isinstance(values, ParamsDict):
            result._params.update(values._params)
        else:
            for name, value in (values or {}).items():
                old = result._params.get(name)
                if isinstance(value, Param):
                    result._params[name] = value
                else:
                    result._params[name] = Param(value, old.description, schema=old.schema) if old else Param(value)
        return result

    def validate(self) -> dict[str, Any]:
        """All values. ParamValidationError naming the param that has none or a forbidden one."""
        values: dict[str, Any] = {}
        for name, param in self._params.items():
            try:
                values[name] = param.resolve()
            except ParamValidationError as error:
                raise ParamValidationError(f"param {name}: {error}") from None
        return values

    def dump(self) -> dict[str, Any]:
        """Values without checks; None where there is none."""
        return {name: (param.value if param.has_value else None) for name, param in self._params.items()}


class DagParam(ResolveMixin):
    """A value that stands for a param until the task runs: `dag.param("x")`, an argument of an `@dag` function."""

    def __init__(self, name: str, default: Any = NOTSET) -> None:
        self.name = name
        self.default = default

    def resolve(self, context: Any) -> Any:
        """From the run's conf, else the DAG's params, else the default. ParamValidationError when there is none."""
        params = context["params"]
        if self.name in params:
            return params[self.name]
        if self.default is not NOTSET:
            return self.default
        raise ParamValidationError(f"param {self.name} has no value")
