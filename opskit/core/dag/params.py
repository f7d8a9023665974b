"""Params: values that a run may be given, with defaults and a JSON schema for each."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from typing import Any

from opskit.core.dag import dialect
from opskit.core.dag.exceptions import ParamValidationError
from opskit.core.dag.xcom_arg import ResolveMixin


class _NotSet:
    def __repr__(self) -> str:
        return "NOTSET"

    def __bool__(self) -> bool:
        return False


NOTSET: Any = _NotSet()
"""No value was given; None is a value."""


class Param:
    """One param: a default, and the words of a JSON schema as further arguments (`type`, `enum`, `minimum` …). The web
    UI reads `title`, `format`, `examples` and their like. ParamValidationError for a default that is no JSON value."""

    def __init__(
        self, default: Any = NOTSET, description: str | None = None, source: str | None = None, **kwargs: Any
    ) -> None:
        self._any_class = dialect.current() == 2  # Airflow 2 only warns of values that are no JSON
        if default is not NOTSET and not self._any_class:
            _check_json(default)
        self.value = default
        self.description = description
        self.source = source
        self.schema: dict[str, Any] = dict(kwargs.pop("schema", None) or {})
        self.schema.update(kwargs)

    @property
    def has_value(self) -> bool:
        return self.value is not NOTSET and self.value is not None

    def resolve(self, value: Any = NOTSET, suppress_exception: bool = False) -> Any:
        """The value given here, else the default, when the schema allows it. ParamValidationError when not; with
        `suppress_exception` None instead."""
        candidate = value if value is not NOTSET else self.value
        try:
            if candidate is NOTSET:
                raise ParamValidationError("no value was given, and there is no default")
            if not self._any_class:
                _check_json(candidate)
            if self.schema:
                from opskit.core.dag import json_schema

                plain = list(candidate) if isinstance(candidate, tuple) else candidate
                try:
                    wrong = json_schema.problem(plain, self.schema)
                except (TypeError, ValueError) as error:
                    raise ParamValidationError(f"its schema is wrong: {error}") from None
                if wrong:
                    raise ParamValidationError(wrong)
        except ParamValidationError:
            if suppress_exception:
                return None
            raise
        return candidate

    def dump(self) -> dict[str, Any]:
        value = None if self.value is NOTSET else self.value
        return {"value": value, "description": self.description, "schema": self.schema}

    def __repr__(self) -> str:
        return f"Param({self.value!r})"


def _check_json(value: Any) -> None:
    if isinstance(value, (str, int, float, type(None))):
        return
    import json

    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise ParamValidationError(f"{value!r} is no JSON value (texts, numbers, lists, dicts)") from None


class ParamsDict(MutableMapping[str, Any]):
    """Params by name. Reading gives values, writing changes the value and keeps the rules."""

    def __init__(self, values: Mapping[str, Any] | None = None, suppress_exception: bool = False) -> None:
        self._params: dict[str, Param] = {}
        self.suppress_exception = suppress_exception
        if isinstance(values, ParamsDict):
            self._params.update(values._params)
        elif values:
            for name, value in values.items():
                self._params[name] = value if isinstance(value, Param) else Param(value)

    @property
    def has_schema(self) -> bool:
        """Whether a value of one of them must fit a schema."""
        return any(param.schema for param in self._params.values())

    def __getitem__(self, name: str) -> Any:
        return self._params[name].resolve(suppress_exception=self.suppress_exception)

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, Param):
            self._params[name] = value
            return
        old = self._params.get(name)
        new = Param(value, old.description, schema=old.schema) if old else Param(value)
        try:
            new.resolve(suppress_exception=self.suppress_exception)
        except ParamValidationError as error:
            raise ParamValidationError(f"Invalid input for param {name}: {error}") from None
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

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ParamsDict):
            return self.dump() == other.dump()
        return self.dump() == other if isinstance(other, dict) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def items(self) -> ItemsView[str, Any]:
        """Names and Params, as in Airflow: `params[name]` gives the value."""
        return self._params.items()

    def values(self) -> ValuesView[Any]:
        """The Params."""
        return self._params.values()

    def get_param(self, name: str) -> Param:
        return self._params[name]

    def copy(self) -> ParamsDict:
        return ParamsDict(self, self.suppress_exception)

    __copy__ = copy

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
                values[name] = param.resolve(suppress_exception=self.suppress_exception)
            except ParamValidationError as error:
                raise ParamValidationError(f"Invalid input for param {name}: {error}") from None
        return values

    def dump(self) -> dict[str, Any]:
        """Values; None where there is none that is allowed."""
        return {name: param.resolve(suppress_exception=True) for name, param in self._params.items()}


class DagParam(ResolveMixin):
    """A value that stands for a param until the task runs: `dag.param("x")`, an argument of an `@dag` function."""

    def __init__(self, name: str, default: Any = NOTSET) -> None:
        self.name = name
        self.default = default

    def resolve(self, context: Any) -> Any:
        """From the run's conf, else the default, else the DAG's params. RuntimeError when there is none."""
        conf = context["dag_run"].conf or {}
        if self.name in conf:
            return conf[self.name]
        if self.default is not NOTSET:
            return self.default
        params = context["params"]
        if self.name in params:
            return params[self.name]
        raise RuntimeError(f"No value could be resolved for parameter {self.name}")
