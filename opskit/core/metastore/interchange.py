"""Reads and writes the files in which Airflow exports connections, variables and pools: JSON, YAML and .env."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.core.dag.connection import Connection
from opskit.core.metastore.variables import Variable
from opskit.errors import ConfigError, OpskitError, UsageError

FORMATS = ("json", "yaml", "env")
SERIALIZATIONS = ("uri", "json")
_FIELDS = ("conn_type", "description", "login", "password", "host", "port", "schema", "extra")
"""In the order in which Airflow writes them."""
_DISPLAY = frozenset({"id", "connection_id", "is_encrypted", "is_extra_encrypted", "get_uri", "team_name"})
_ENV_LINE = re.compile(r"\s*(?:export\s+)?([^=\s]+?)\s*=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PoolFields:
    """A pool as files hold it."""

    pool: str
    slots: int
    description: str = ""


def format_of(path: Path, given: str | None = None) -> str:
    """json, yaml or env, by `given` or else by the end of the name. UsageError when neither tells."""
    kind = given or {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".env": "env"}.get(path.suffix.lower())
    if kind is None and path.name == ".env":
        kind = "env"
    if kind not in FORMATS:
        raise UsageError(f"{path}: the name does not tell its format", hint="end it with .json, .yaml or .env")
    return kind


# --- connections ---


def dump_connections(items: Iterable[Connection], kind: str, serialization: str = "uri") -> str:
    """The text of an export, secrets in the clear. `serialization` is for env: each value a URI or a JSON object.

    A URI holds no description.
    """
    if kind == "env":
        write = Connection.get_uri if serialization == "uri" else Connection.as_json
        return "".join(f"{item.conn_id}={write(item)}\n" for item in items)
    return _dump({str(item.conn_id): {name: getattr(item, name) for name in _FIELDS} for item in items}, kind)


def load_connections(text: str, kind: str, where: str) -> list[Connection]:
    """Connections of an export, in its order. UsageError naming `where` and the item for what can't be read.

    Each value is a mapping of fields, a URI, or (in env) the text of a JSON object.
    """
    return [item for item, _ in _connections(text, kind, where)]


def _connections(text: str, kind: str, where: str) -> Iterator[tuple[Connection, set[str]]]:
    """Each connection, and which of its fields the file says."""
    for conn_id, raw in _load(text, kind, where, ("conn_id", "connection_id")).items():
        value = _only(raw, conn_id, where) if isinstance(raw, list) else raw
        try:
            if isinstance(value, str):
                item = Connection.from_text(value, conn_id)
                said = set(json.loads(value)) if value.lstrip().startswith("{") else set(_FIELDS) - {"description"}
            else:
                if isinstance(value, Mapping):
                    value = _without_display(value)
                item = Connection.from_dict(value, conn_id)
                said = set(value)
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", hint=error.hint) from error
        if "uri" in said:
            said = {*_FIELDS} - {"description"} | said & {"description"}
        yield item, said & {*_FIELDS}


def _only(values: list[Any], name: str, where: str) -> Any:
    # A file of Airflow's local secrets backend may hold a list per name; Airflow takes no more than one from it either.
    if len(values) != 1:
        raise UsageError(f"{where}: {name} stands there {len(values)} times", hint="keep one of them")
    return values[0]


def _without_display(value: Mapping[str, Any]) -> dict[str, Any]:
    """A connection as Airflow lists it or its REST API answers, without what only describes it."""
    fields = {name: item for name, item in value.items() if name not in _DISPLAY}
    if "extra_dejson" in fields:
        fields["extra"] = fields.pop("extra_dejson")
    return fields


# --- variables ---


def dump_variables(items: Iterable[Variable], kind: str) -> str:
    """The text of an export. A value becomes JSON where reading it back gives the same text, else it stays a text."""
    data: dict[str, Any] = {}
    for item in items:
        value = _readable(item.value)
        if item.description or (isinstance(value, dict) and "value" in value):
            value = {"description": item.description or "", "value": value}
        data[item.key] = value
    if kind == "env":
        raise UsageError("variables have no .env form", hint="choose a file that ends with .json or .yaml")
    return _dump(data, kind)


def load_variables(text: str, kind: str, where: str) -> list[Variable]:
    """Variables of an export, in its order; UsageError naming `where` for what can't be read."""
    found = []
    for key, value in _load(text, kind, where, ("key",)).items():
        description = None
        if isinstance(value, Mapping) and "val" in value and "key" in value:
            value = {**value, "value": value["val"]}  # a row as Airflow lists it
        if isinstance(value, Mapping) and "value" in value:
            description = value.get("description") or None
            value = value["value"]
        found.append(Variable(key, value if isinstance(value, str) else _variable_text(value), description))
    return found


def _variable_text(value: Any) -> str:
    # As Airflow's Variable.set(…, serialize_json=True) stores it.
    return json.dumps(value, indent=2)


def _readable(text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant)
        return value if not isinstance(value, str) and _variable_text(value) == text else text
    except (ValueError, RecursionError):
        return text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# --- pools ---


def dump_pools(items: Iterable[PoolFields], kind: str) -> str:
    """The text of an export."""
    if kind == "env":
        raise UsageError("pools have no .env form", hint="choose a file that ends with .json or .yaml")
    return _dump(
        {
            item.pool: {"slots": item.slots, "description": item.description, "include_deferred": False}
            for item in items
        },
        kind,
    )


def load_pools(text: str, kind: str, where: str) -> list[PoolFields]:
    """Pools of an export, in its order; UsageError naming `where` and the pool for what can't be read."""
    found = []
    for name, value in _load(text, kind, where, ("name", "pool")).items():
        slots = value.get("slots") if isinstance(value, Mapping) else None
        if isinstance(slots, bool) or not isinstance(slots, int) or slots < 0:
            raise UsageError(f"{where}: pool {name}: slots must be a number, 0 or more", hint='{"name": {"slots": 8}}')
        found.append(PoolFields(name, slots, str(value.get("description") or "")))
    return found


# --- all kinds ---


def load_fields(what: str, text: str, kind: str, where: str) -> dict[str, dict[str, Any]]:
    """The connections, variables or pools (`what`) of a file as plain fields by name; those that it does not say are
    absent. Extras are a dict. UsageError as above."""
    if what == "connections":
        found = {}
        for item, said in _connections(text, kind, where):
            fields = {**item.to_dict(), "conn_type": item.conn_type or "", "extra": item.extra_dejson}
            fields["description"] = item.description or None
            found[str(item.conn_id)] = {name: value for name, value in fields.items() if name in said}
        return found
    if what == "variables":
        return {
            item.key: {"value": item.value, **({} if item.description is None else {"description": item.description})}
            for item in load_variables(text, kind, where)
        }
    if what == "pools":
        return {
            item.pool: {"slots": item.slots, "description": item.description or None}
            for item in load_pools(text, kind, where)
        }
    raise UsageError(f"{where}: Airflow has no export of {what}")


# --- files ---


def read_file(path: Path) -> str:
    """The text of a file. UsageError when it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text") from error


def write_secret_file(path: Path, text: str) -> None:
    """Write a file that only its owner reads, from its first byte on; it takes its place complete or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OpskitError(f"{path} can't be written: {error.strerror}") from error


def _dump(data: Mapping[str, Any], kind: str) -> str:
    if kind == "json":
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    # NEL, LS and PS end a line in YAML: where they occur, everything beyond ASCII is written escaped.
    readable = not any(mark in json.dumps(data, ensure_ascii=False) for mark in "\x85\u2028\u2029")
    text: str = _yaml().safe_dump(data, sort_keys=False, allow_unicode=readable)
    return text


def _load(text: str, kind: str, where: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """An object with a name per item; or a list of objects that hold their name under one of `keys`."""
    if kind == "env":
        return _load_env(text, where)
    if kind == "json":
        try:
            data = json.loads(text, object_pairs_hook=lambda pairs: _without_doubles(pairs, where))
        except RecursionError as error:
            raise UsageError(f"{where} is no JSON that can be read: it is nested too deeply") from error
        except ValueError as error:
            raise UsageError(f"{where} is no JSON: {error}") from error
    else:
        yaml = _yaml()
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            # The error quotes the line, and that may hold a secret.
            mark = getattr(error, "problem_mark", None)
            place = f", line {mark.line + 1}" if mark else ""
            raise UsageError(f"{where} is no YAML{place}: {getattr(error, 'problem', None) or 'malformed'}") from error
        data = {} if data is None else data
    if isinstance(data, dict) and "total_entries" in data and len(data) == 2:
        data = next(value for name, value in data.items() if name != "total_entries")  # an answer of the REST API
    if isinstance(data, list) and keys:
        return _without_doubles([_named(item, keys, where) for item in data], where)
    if not isinstance(data, dict):
        raise UsageError(f"{where}: an object with a name per item is needed, this is {type(data).__name__}")
    return {str(name): value for name, value in data.items()}


def _named(item: Any, keys: Sequence[str], where: str) -> tuple[str, Any]:
    name = next((item[key] for key in keys if item.get(key)), None) if isinstance(item, Mapping) else None
    if not isinstance(name, str):
        raise UsageError(f"{where}: an object with a name per item is needed, or a list of objects with {keys[0]}")
    return name, item


def _without_doubles(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{where}: {double!r} stands there twice", hint="keep one of them")
    return data


def _load_env(text: str, where: str) -> dict[str, Any]:
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        if match is None:
            # The line may hold a secret, so it is not repeated.
            raise UsageError(f"{where}, line {number}: not of the form conn_id=value")
        pairs.append((match[1], match[2].strip()))
    return _without_doubles(pairs, where)


def _yaml() -> Any:
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ConfigError(
            "YAML files need the Python package pyyaml", hint="install it with: pip install 'opskit[yaml]', or use JSON"
        ) from error
    return yaml
