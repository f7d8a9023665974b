"""Whether a JSON value fits a JSON schema (draft 2020-12): what params need, without references to other schemas.

Words that only describe (`title`, `examples`, `section` …) and unknown formats check nothing, as in the standard."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
_NUMBERS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "multipleOf": lambda value, step: (
        abs(value / step - round(value / step)) < 1e-9 if isinstance(value / step, float) else not value % step
    ),
}
_SIZES: dict[str, tuple[type, int]] = {
    "minLength": (str, 1),
    "maxLength": (str, -1),
    "minItems": (list, 1),
    "maxItems": (list, -1),
    "minProperties": (dict, 1),
    "maxProperties": (dict, -1),
}


def problem(value: Any, schema: Any) -> str | None:
    """What is wrong with the value, or None. ValueError for a schema that is none, or that refers to another one."""
    return next(_problems(value, schema), None)


def _problems(value: Any, schema: Any) -> Iterator[str]:
    if schema is True or schema == {}:
        return
    if schema is False:
        yield f"{value!r} is not allowed"
        return
    if not isinstance(schema, dict):
        raise ValueError(f"{schema!r} is no JSON schema")
    if "$ref" in schema:
        raise ValueError("$ref in a JSON schema is not supported: write the schema out")
    yield from _of_any_type(value, schema)
    yield from _combined(value, schema)
    if isinstance(value, str):
        yield from _of_text(value, schema)
    elif isinstance(value, list):
        yield from _of_array(value, schema)
    elif isinstance(value, dict):
        yield from _of_object(value, schema)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        for word, holds in _NUMBERS.items():
            if word in schema and not holds(value, schema[word]):
                yield f"{value!r} breaks {word} {schema[word]!r}"
    size = len(value) if isinstance(value, (str, list, dict)) else 0
    for word, (kind, sign) in _SIZES.items():
        if word in schema and isinstance(value, kind) and (size - schema[word]) * sign < 0:
            yield f"{value!r} breaks {word} {schema[word]!r}"


def _of_any_type(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    if "const" in schema and not _equal(value, schema["const"]):
        yield f"{value!r} is not {schema['const']!r}"
    if "enum" in schema and not any(_equal(value, allowed) for allowed in schema["enum"]):
        yield f"{value!r} is not one of {schema['enum']!r}"
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], (list, tuple)) else [schema["type"]]
        unknown = [kind for kind in kinds if kind not in _TYPES]
        if unknown:
            yield f"{unknown[0]!r} is no type; choose of {', '.join(_TYPES)}"
        elif not any(_TYPES[kind](value) for kind in kinds):
            yield f"{value!r} is not of type {' or '.join(kinds)}"


def _combined(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    for part in schema.get("allOf", ()):
        yield from _problems(value, part)
    if "anyOf" in schema and all(problem(value, part) for part in schema["anyOf"]):
        yield f"{value!r} fits none of anyOf"
    if "oneOf" in schema:
        fitting = sum(1 for part in schema["oneOf"] if problem(value, part) is None)
        if fitting != 1:
            yield f"{value!r} fits {fitting} of oneOf, it must be one"
    if "not" in schema and problem(value, schema["not"]) is None:
        yield f"{value!r} fits what it must not"
    if "if" in schema:
        branch = "then" if problem(value, schema["if"]) is None else "else"
        yield from _problems(value, schema.get(branch, True))


def _of_text(value: str, schema: dict[str, Any]) -> Iterator[str]:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{value!r} does not match {schema['pattern']!r}"
    check = _FORMATS.get(schema.get("format", ""))
    if check is not None and not check(value):
        yield f"{value!r} is not a {schema['format']!r}"


def _of_array(value: list[Any], schema: dict[str, Any]) -> Iterator[str]:
    first = schema.get("prefixItems", ())
    for item, part in zip(value, first, strict=False):
        yield from _problems(item, part)
    if "items" in schema:
        for item in value[len(first) :]:
            yield from _problems(item, schema["items"])
    if schema.get("uniqueItems") and any(
        _equal(item, other) for number, item in enumerate(value) for other in value[:number]
    ):
        yield f"{value!r} has an element twice"
    if "contains" in schema:
        count = sum(1 for item in value if problem(item, schema["contains"]) is None)
        if not schema.get("minContains", 1) <= count <= schema.get("maxContains", count):
            yield f"{value!r} does not contain what it must"


def _of_object(value: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{name!r} is missing in {value!r}"
    for name, others in schema.get("dependentRequired", {}).items():
        for other in others if name in value else ():
            if other not in value:
                yield f"{other!r} is missing beside {name!r} in {value!r}"
    for name, item in value.items():
        if "propertyNames" in schema:
            yield from _problems(name, schema["propertyNames"])
        known = name in schema.get("properties", {})
        if known:
            yield from _problems(item, schema["properties"][name])
        for pattern, part in schema.get("patternProperties", {}).items():
            if re.search(pattern, name):
                known = True
                yield from _problems(item, part)
        if not known and "additionalProperties" in schema:
            if schema["additionalProperties"] is False:
                yield f"{name!r} is not allowed in {value!r}"
            else:
                yield from _problems(item, schema["additionalProperties"])


def _equal(one: Any, other: Any) -> bool:
    """True is not 1 in JSON."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _parses(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            parse(value)
        except (ValueError, re.error):
            return False
        return True

    return check


def _date(value: str) -> None:
    from datetime import date

    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError(value)
    date.fromisoformat(value)


def _moment(value: str) -> None:
    from datetime import datetime

    datetime.fromisoformat(value)


def _time(value: str) -> None:
    from datetime import datetime

    datetime.strptime(value, "%H:%M:%S")  # noqa: DTZ007 - a time of day, as jsonschema has it


def _address(version: int) -> Callable[[str], None]:
    def parse(value: str) -> None:
        import ipaddress

        if ipaddress.ip_address(value).version != version:
            raise ValueError(value)

    return parse


def _uuid(value: str) -> None:
    from uuid import UUID

    UUID(value)
    if [value[index : index + 1] for index in (8, 13, 18, 23)] != ["-"] * 4:
        raise ValueError(value)


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _parses(_date),
    "date-time": _parses(_moment),
    "email": lambda value: "@" in value,
    "idn-email": lambda value: "@" in value,
    "ipv4": _parses(_address(4)),
    "ipv6": _parses(_address(6)),
    "regex": _parses(re.compile),
    "time": _parses(_time),
    "uuid": _parses(_uuid),
}
