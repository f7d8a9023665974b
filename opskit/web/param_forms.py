"""A form made from the params of a DAG: which field each has, and what was written into them as values.

What the schema says is checked as a run's conf is, so a form never allows what a trigger refuses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from opskit.core.dag import json_schema
from opskit.core.dag.params import ParamsDict
from opskit.core.dag.run_conf import params_of
from opskit.core.dag.serialized import SerializedDag

PREFIX = "param:"
"""Before the names of fields, so that a param may be called like another field of the form."""
_TYPES = ("string", "number", "integer", "boolean", "array", "object")
_ATTRIBUTES = {"minimum": "min", "maximum": "max", "multipleOf": "step", "minLength": "minlength"}
_ATTRIBUTES |= {"maxLength": "maxlength", "pattern": "pattern"}
_FORMATS = {"date": "date", "date-time": "datetime", "time": "time", "multiline": "multiline"}


@dataclass(slots=True)
class Field:
    """One param as a field. `kind`: text, multiline, number, integer, boolean, choice, choices, date, datetime, time,
    lines, json or fixed."""

    name: str
    kind: str
    label: str
    schema: dict[str, Any]
    value: str = ""
    """As the field shows it."""
    chosen: tuple[str, ...] = ()
    """Of a field of several choices."""
    hint: str = ""
    section: str = ""
    required: bool = False
    nullable: bool = False
    options: Sequence[tuple[str, str]] = ()
    """(JSON, label)"""
    suggestions: Sequence[str] = ()
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name in the form."""
        return PREFIX + self.name


def fields_of(dag: SerializedDag, values: Mapping[str, Any] | None = None) -> list[Field]:
    """In the order in which the author wrote the params; `values` take the place of defaults."""
    return fields_of_params(params_of(dag), dag.ui.get("param_order", ()), values)


def fields_of_params(
    params: ParamsDict, order_of: Sequence[str], values: Mapping[str, Any] | None = None
) -> list[Field]:
    """As `fields_of`, of params in this order."""
    made = []
    order = {name: place for place, name in enumerate(order_of)}
    for name in sorted(params, key=lambda name: order.get(name, len(order))):
        param = params.get_param(name)
        schema = param.schema if isinstance(param.schema, dict) else {}
        value = (values or {}).get(name, param.value if param.has_value else None)
        one = _field(name, schema, value, param.description or "")
        one.required = not one.nullable and not param.has_value and one.kind != "boolean"
        made.append(one)
    return made


def from_text(texts: Sequence[str], schema: Mapping[str, Any], default: Any) -> Any:
    """What the query of an address says about one param, where it can be read; else the default."""
    one = _field("", dict(schema), default, "")
    try:
        if one.kind == "choice" and texts[0] not in {value for value, _ in one.options}:
            return _value(one, [json.dumps(texts[0])])
        return texts[0] == "True" or texts[0] == "true" if one.kind == "boolean" else _value(one, list(texts))
    except ValueError:
        return default


def sections(fields: Sequence[Field]) -> list[tuple[str, list[Field]]]:
    """(title, fields), in the order in which the sections first occur; fields without one first."""
    found: dict[str, list[Field]] = {"": []}
    for one in fields:
        found.setdefault(one.section, []).append(one)
    return [(title, members) for title, members in found.items() if members]


def _field(name: str, schema: dict[str, Any], value: Any, description: str) -> Field:
    types = _types(schema, value)
    one = Field(
        name,
        _kind(schema, types, value),
        str(schema.get("title") or name),
        schema,
        hint=str(description or schema.get("description") or schema.get("description_md") or ""),
        section=str(schema.get("section") or ""),
        nullable="null" in types or (not schema and value is None),
        attributes={_ATTRIBUTES[word]: str(schema[word]) for word in _ATTRIBUTES if word in schema},
    )
    if one.kind == "choice":
        one.options = _options(schema["enum"], schema.get("values_display"))
        one.nullable = one.nullable or None in schema["enum"]
    elif one.kind == "choices":
        items = schema.get("items")
        possible = (items.get("enum") if isinstance(items, dict) else None) or schema.get("examples") or []
        one.options = _options(possible, schema.get("values_display"))
    elif one.kind == "text":
        one.suggestions = [str(example) for example in schema.get("examples") or ()]
    if one.kind not in ("text", "multiline"):
        one.attributes = {key: text for key, text in one.attributes.items() if key in ("min", "max", "step")}
    show(one, schema.get("const", value))
    return one


def _types(schema: Mapping[str, Any], value: Any) -> tuple[str, ...]:
    named = schema.get("type")
    if isinstance(named, str):
        return (named,)
    if isinstance(named, list):
        return tuple(str(one) for one in named)
    by_value = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return (by_value[type(value)],) if type(value) in by_value else ("string", "null") if not schema else ()


def _kind(schema: Mapping[str, Any], types: tuple[str, ...], value: Any) -> str:
    if "const" in schema:
        return "fixed"
    if isinstance(schema.get("enum"), list):
        return "choice"
    real = [one for one in types if one in _TYPES]
    if real == ["string"] or (not real and isinstance(value, str)):
        named = _FORMATS.get(str(schema.get("format")), "")
        return named or ("multiline" if isinstance(value, str) and "\n" in value else "text")
    if real in (["number"], ["integer"], ["boolean"]):
        return real[0]
    if set(real) == {"number", "integer"}:
        return "number"
    if real == ["array"]:
        items = schema.get("items")
        if (isinstance(items, dict) and isinstance(items.get("enum"), list)) or schema.get("examples"):
            return "choices"
        plain = isinstance(items, dict) and items.get("type") == "string"
        if plain or (items is None and isinstance(value, list) and all(isinstance(one, str) for one in value)):
            return "lines"
    return "json"


def _options(values: Sequence[Any], labels: Any) -> list[tuple[str, str]]:
    named = labels if isinstance(labels, dict) else {}
    return [(json.dumps(value), str(named.get(str(value), "(none)" if value is None else value))) for value in values]


def show(one: Field, value: Any) -> None:
    """Put a value into a field, as text."""
    if one.kind in ("choice", "fixed"):
        one.value = json.dumps(value)
    elif one.kind == "choices":
        one.chosen = tuple(json.dumps(item) for item in value) if isinstance(value, list) else ()
    elif value is None:
        one.value = ""
    elif one.kind == "boolean":
        one.value = "true" if value is True else ""
    elif one.kind == "lines" and isinstance(value, list):
        one.value = "\n".join(str(item) for item in value)
    elif one.kind == "json":
        one.value = json.dumps(value, indent=2, ensure_ascii=False)
    elif one.kind == "datetime":
        one.value = _as_local(str(value))
    else:
        one.value = str(value)


def _as_local(text: str) -> str:
    """As a field for dates with times wants it, in UTC; what is no date stays, and is refused when it is sent."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    moment = moment if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="seconds")


def read(fields: Sequence[Field], posted: Mapping[str, Sequence[str]]) -> tuple[dict[str, Any], dict[str, str]]:
    """(values, errors) by param; the fields show what was posted."""
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for one in fields:
        given = [text.replace("\r\n", "\n") for text in posted.get(one.key, ())]
        if one.kind == "choices":
            one.chosen = tuple(given)
        elif one.kind != "fixed":
            one.value = given[0] if given else ""
        try:
            value = _value(one, given)
            wrong = json_schema.problem(value, one.schema) if one.schema else None
        except ValueError as error:
            wrong = str(error)
        if wrong:
            errors[one.name] = wrong
        else:
            values[one.name] = value
    return values, errors


def _value(one: Field, given: list[str]) -> Any:
    """ValueError that tells what is wrong."""
    if one.kind == "fixed":
        return one.schema["const"]
    if one.kind == "boolean":
        return bool(given)
    if one.kind == "choices":
        return [_chosen(one, text) for text in given]
    text = given[0] if given else ""
    if one.kind == "choice":
        return _chosen(one, text) if text or not one.nullable else None
    if one.kind == "lines":
        return [line for raw in text.split("\n") if (line := raw.strip())] if text.strip() or not one.nullable else None
    if not text.strip():
        if one.nullable:
            return None
        if one.kind in ("text", "multiline") and not one.required:
            return text
        raise ValueError("a value is needed")
    return _parsed(one.kind, text)


def _chosen(one: Field, text: str) -> Any:
    if text not in {option for option, _ in one.options}:
        raise ValueError("choose one of the values")
    return json.loads(text)


def _parsed(kind: str, text: str) -> Any:
    if kind == "integer":
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{text!r} is no whole number") from None
    if kind == "number":
        return _number(text)
    if kind == "json":
        try:
            return json.loads(text, parse_constant=_no_constant)
        except json.JSONDecodeError as error:
            raise ValueError(f"this is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    if kind == "datetime":
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(f"{text!r} is no date with time like 2026-03-29T06:30") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
    return text


def _number(text: str) -> float | int:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"{text!r} is no number that JSON has")
    whole = text.strip().lstrip("+-")
    return int(text) if whole.isdecimal() else number


def _no_constant(name: str) -> Any:
    raise ValueError(f"this is no JSON: {name}")
