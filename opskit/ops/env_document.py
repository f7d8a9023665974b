"""The file of an environment: JSON with a fixed order, so that git shows what changed and the same state is the same
bytes. JSON, because every tool writes it alike; a field a line.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError, UsageError
from opskit.ops.env_secrets import Fingerprints, Rules, Secret, from_json, redact, to_json
from opskit.platforms.configuration import KINDS, Objects, Unreadable
from opskit.system import encryption

FORMAT = "opskit-env/1"
_AGE = b"age-encryption.org/"
_SURROGATE = re.compile("[\ud800-\udfff]")
_TYPES: dict[str, dict[str, tuple[type, ...]]] = {
    "connections": {
        **dict.fromkeys(("description", "host", "login", "password", "schema"), (str, type(None))),
        "conn_type": (str,),
        "port": (int, type(None)),
        "extra": (dict,),
    },
    "variables": {"value": (str,), "description": (str, type(None))},
    "pools": {"slots": (int,), "description": (str, type(None))},
    "dags": {"paused": (bool,)},
}


@dataclass(frozen=True, slots=True)
class Document:
    """The objects of an environment, and where they are from. Some values may be Secrets: then only a fingerprint is
    known, made with the key of `key_id`."""

    environment: str
    objects: Objects
    key_id: str = ""
    """Empty: nothing is redacted."""
    kinds: tuple[str, ...] = field(default=KINDS)
    """That it speaks of: a kind that is not among them is unknown, not empty."""


def dump(document: Document, rules: Rules, fingerprints: Fingerprints | None) -> str:
    """The text of a document: with fingerprints for secrets or, for None, with the secrets themselves."""
    data: dict[str, Any] = {
        "format": FORMAT,
        "environment": document.environment,
        "fingerprint_key": fingerprints.key_id if fingerprints else None,
    }
    for kind in document.kinds:
        data[kind] = {
            name: to_json(redact(rules, fingerprints, kind, name, fields) if fingerprints else fields)
            for name, fields in sorted(document.objects[kind].items())
        }
    return json_text(data)


def json_text(data: Any) -> str:
    """JSON for people and git: UTF-8 as it is; sorted below the first level, which keeps its order."""
    ordered = {name: _sorted(value) for name, value in data.items()}
    text = json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"
    # Half a character is no UTF-8; inside of JSON strings it can be escaped.
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def is_document(data: Any) -> bool:
    return isinstance(data, dict) and str(data.get("format", "")).startswith("opskit-env/")


def load(data: dict[str, Any], where: str) -> Document:
    """A document of parsed JSON. UsageError naming `where` and the object for what does not fit."""
    if data["format"] != FORMAT:
        raise UsageError(f"{where} has the format {data['format']!r}, this opskit reads {FORMAT}")
    unknown = sorted(data.keys() - {"format", "environment", "fingerprint_key", *KINDS})
    if unknown:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}")
    objects: Objects = {}
    for kind in (kind for kind in KINDS if kind in data):
        if not isinstance(data[kind], dict):
            raise UsageError(f"{where}: {kind} must be an object with a name per item")
        objects[kind] = {name: _fields(kind, name, value, where) for name, value in data[kind].items()}
    key_id = data.get("fingerprint_key") or ""
    return Document(str(data.get("environment") or ""), objects, str(key_id), tuple(objects))


def _fields(kind: str, name: str, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {kind}/{name} must be an object of fields")
    fields = {field_name: from_json(raw) for field_name, raw in value.items()}
    check_fields(kind, name, fields, where)
    return fields


def check_fields(kind: str, name: str, fields: dict[str, Any], where: str) -> None:
    """UsageError naming the first field that is unknown or has a wrong type."""
    types = _TYPES[kind]
    for field_name, value in fields.items():
        if field_name not in types:
            raise UsageError(
                f"{where}: {kind}/{name}: unknown field {field_name!r}", hint=f"fields: {', '.join(types)}"
            )
        if isinstance(value, (Secret, Unreadable)):
            continue
        # True is an int to Python, and no number to anybody else.
        if not isinstance(value, types[field_name]) or (isinstance(value, bool) and bool not in types[field_name]):
            raise UsageError(f"{where}: {kind}/{name}: {field_name} can't be {type(value).__name__}")


def unreadable(objects: Objects) -> list[str]:
    """The values (`connections/x/password`) that could not be decrypted."""
    return [
        f"{kind}/{name}/{field_name}"
        for kind, items in objects.items()
        for name, fields in items.items()
        for field_name, value in fields.items()
        if isinstance(value, Unreadable)
    ]


# --- files ---


def read_bytes(path: Path, identities: Sequence[str]) -> tuple[bytes, bool]:
    """The content of a file, and whether it was encrypted. UsageError when it can't be read; GuardRefused when no
    identity fits."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}") from error
    if not data.startswith(_AGE):
        return data, False
    try:
        return encryption.decrypt_bytes(data, identities), True
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def parse_json(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is no UTF-8 text") from error
    except RecursionError as error:
        raise UsageError(f"{where} is nested too deeply") from error
    except ValueError as error:
        raise UsageError(f"{where} is no JSON: {error}") from error


def write_file(path: Path, data: bytes, *, force: bool = False) -> None:
    """Write a file that only its owner reads, from its first byte on; whole or not at all, and never over another one
    without `force` (UsageError)."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if force:
                fresh.replace(path)
            else:
                os.link(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{path} is there already", hint="choose another name, or --force to replace it") from error
    except OSError as error:
        raise OpskitError(f"{path} can't be written: {error.strerror}") from error
