"""Connection: how to reach an outside system; read from and written to Airflow's URI and JSON forms."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from opskit.core.dag.exceptions import AirflowNotFoundException
from opskit.core.dag.secret_names import is_secret_name
from opskit.core.dag.stored_class import StoredClass
from opskit.errors import UsageError

EXTRA_KEY = "__extra__"
"""Query argument that holds extras which are not a flat set of strings."""
ENV_PREFIXES = ("OPSKIT_CONN_", "AIRFLOW_CONN_")
FIELDS = ("conn_type", "description", "host", "login", "password", "schema", "port", "extra")


class Connection(metaclass=StoredClass):
    """One connection. `extra` is the text of a JSON object (a dict is accepted and stored as its text)."""

    EXTRA_KEY = EXTRA_KEY
    model = "ConnectionModel"

    def __init__(
        self,
        conn_id: str | None = None,
        conn_type: str | None = None,
        description: str | None = None,
        host: str | None = None,
        login: str | None = None,
        password: str | None = None,
        schema: str | None = None,
        port: int | str | None = None,
        extra: str | Mapping[str, Any] | None = None,
        uri: str | None = None,
    ) -> None:
        """UsageError for a port that is no number, an extra that is no JSON object, a malformed URI, or a URI
        together with fields that it already holds."""
        self.conn_id = conn_id
        self.description = description
        if uri is not None:
            if any(value is not None for value in (conn_type, host, login, password, schema, port, extra)):
                raise UsageError(f"connection {conn_id}: both a URI and single fields are given", hint="give one")
            fields = _parse_uri(uri, conn_id)
            conn_type, host, login = fields["conn_type"], fields["host"], fields["login"]
            password, schema, port, extra = fields["password"], fields["schema"], fields["port"], fields["extra"]
        self.conn_type = conn_type
        self.host = host
        self.login = login
        self.password = password
        self.schema = schema
        self.port = _port(port, conn_id)
        self.extra = _extra_text(extra, conn_id)

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """The extras as a dict; empty when there are none."""
        if not self.extra:
            return {}
        loaded = json.loads(self.extra)
        return loaded if isinstance(loaded, dict) else {}

    def get_extra_dejson(self, nested: bool = False) -> dict[str, Any]:
        """The extras; with `nested`, string values that are JSON themselves are read too."""
        extra = self.extra_dejson
        if nested:
            for key, value in extra.items():
                if isinstance(value, str):
                    try:
                        extra[key] = json.loads(value)
                    except ValueError:
                        pass  # plain text
        return extra

    def get_password(self) -> str | None:
        return self.password

    def get_extra(self) -> str | None:
        return self.extra

    def set_password(self, value: str | None) -> None:
        self.password = value

    def set_extra(self, value: str | None) -> None:
        self.extra = value

    def get_uri(self) -> str:
        """The URI form, which `Connection(uri=…)` reads back to the same fields (but the description)."""
        uri = f"{self.conn_type.lower().replace('_', '-')}://" if self.conn_type else "//"
        host = self.host or ""
        if "://" in host:
            protocol, host = host.split("://", 1)
            uri += f"{protocol}://"
        authority = ""
        if self.login is not None:
            authority += quote(self.login, safe="")
        if self.password is not None:
            authority += ":" + quote(self.password, safe="")
        if authority:
            authority += "@"
        authority += quote(host, safe="")
        if self.port is not None:
            # A port without a host needs the @ that separates it from what could be a login.
            authority += f":{self.port}" if host or authority.endswith("@") else f"@:{self.port}"
        uri += authority
        if self.schema:
            uri += "/" + quote(self.schema, safe="")
        if self.extra:
            uri += "?" if self.schema else "/?"
            extra = self.extra_dejson
            flat = extra and all(isinstance(value, str) for value in extra.values()) and EXTRA_KEY not in extra
            uri += urlencode(extra) if flat else urlencode({EXTRA_KEY: self.extra})
        return uri

    @classmethod
    def from_json(cls, text: str, conn_id: str | None = None) -> Connection:
        """From the text of a JSON object with the field names (conn_type … extra; extra may be an object)."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UsageError(f"connection {conn_id}: the JSON can't be read: {error}") from error
        return cls.from_dict(data, conn_id)

    @classmethod
    def from_dict(cls, data: Any, conn_id: str | None = None) -> Connection:
        """From a mapping of field names, as in Airflow's JSON export. `uri` may stand for the fields."""
        if not isinstance(data, Mapping):
            raise UsageError(f"connection {conn_id}: a JSON object is needed, this is {type(data).__name__}")
        fields = {key: value for key, value in data.items() if key != "conn_id"}
        unknown = sorted(fields.keys() - {*FIELDS, "uri"})
        if unknown:
            raise UsageError(
                f"connection {conn_id}: unknown field {', '.join(map(repr, unknown))}",
                hint=f"fields are {', '.join(FIELDS)}",
            )
        for key in ("conn_type", "description", "host", "login", "password", "schema"):
            if fields.get(key) is not None and not isinstance(fields[key], str):
                raise UsageError(f"connection {conn_id}: {key} must be a text, this is {type(fields[key]).__name__}")
        if fields.get("port") == "":
            fields["port"] = None
        return cls(conn_id=conn_id or data.get("conn_id"), **fields)

    @classmethod
    def from_text(cls, text: str, conn_id: str | None = None) -> Connection:
        """From a URI or the text of a JSON object, whichever it is: the two forms an environment variable may hold."""
        text = text.strip()
        return cls.from_json(text, conn_id) if text.startswith("{") else cls(conn_id=conn_id, uri=text)

    def to_dict(self) -> dict[str, Any]:
        """Field names to plain values, without the conn_id; as Airflow's JSON export holds them, secrets included."""
        return {name: getattr(self, name) for name in FIELDS}

    def as_json(self) -> str:
        """The JSON form without empty fields; extras as an object. `from_json` reads it back."""
        data: dict[str, Any] = {name: getattr(self, name) for name in FIELDS if getattr(self, name) not in (None, "")}
        if self.extra:
            data["extra"] = self.extra_dejson
        return json.dumps(data)

    def secrets(self) -> list[str]:
        """The strings of this connection that must not appear in logs."""
        from opskit.core.dag.secret_names import secret_values

        found = [self.password] if self.password else []
        return found + secret_values(None, self.extra_dejson)

    @classmethod
    def get_connection_from_secrets(cls, conn_id: str) -> Connection:
        """The connection of this id: from the secrets backend (where there is one), from the environment, from the
        metastore.

        AirflowNotFoundException when there is none."""
        from opskit.core.dag import secrets_backends

        if secrets_backends.configured():
            kept = secrets_backends.connection(conn_id)
            if kept is not None:
                return kept
        for prefix in ENV_PREFIXES:
            text = os.environ.get(prefix + conn_id.upper())
            if text:
                return cls.from_text(text, conn_id)
        from opskit.core.dag import runtime

        found = runtime.store().get_connection(conn_id)
        if found is None:
            raise AirflowNotFoundException(f"The conn_id `{conn_id}` isn't defined")
        return found

    get = get_connection_from_secrets

    def get_hook(self, *, hook_params: dict[str, Any] | None = None) -> Any:
        """The hook for connections of this type. AirflowException when there is none."""
        from importlib import import_module

        # Named, not imported: the room of the providers lies above this one.
        return import_module("opskit.providers.registry").hook_for(self, hook_params)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Connection):
            return NotImplemented
        return self.conn_id == other.conn_id and self._comparable() == other._comparable()

    def _comparable(self) -> dict[str, Any]:
        return {**self.to_dict(), "extra": self.extra_dejson}

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return self.conn_id or ""

    def __repr__(self) -> str:
        shown: list[str] = []
        for name in ("conn_id", *FIELDS):
            value = getattr(self, name)
            if value in (None, ""):
                continue
            if name == "password":
                value = "***"
            elif name == "extra":
                value = {key: "***" if is_secret_name(key) else "…" for key in self.extra_dejson}
            elif name == "host" and "@" in value:
                value = "***"  # credentials that were put into the host
            shown.append(f"{name}={value!r}")
        return f"Connection({', '.join(shown)})"


def _port(port: int | str | None, conn_id: str | None) -> int | None:
    if port is None or port == "":
        return None
    if isinstance(port, bool):
        raise UsageError(f"connection {conn_id}: the port {port!r} is no number")
    try:
        return int(port)
    except (ValueError, TypeError) as error:
        raise UsageError(f"connection {conn_id}: the port {port!r} is no number") from error


def _extra_text(extra: str | Mapping[str, Any] | None, conn_id: str | None) -> str | None:
    if extra is None or extra == "":
        return None
    if isinstance(extra, Mapping):
        try:
            return json.dumps(dict(extra))
        except (TypeError, ValueError) as error:
            raise UsageError(f"connection {conn_id}: extra can't be written as JSON: {error}") from error
    try:
        loaded = json.loads(extra)
    except (TypeError, ValueError) as error:
        raise UsageError(f"connection {conn_id}: extra is not JSON", hint='write it as {"key": "value"}') from error
    if not isinstance(loaded, dict):
        raise UsageError(f"connection {conn_id}: extra must be a JSON object", hint='write it as {"key": "value"}')
    return extra


def _parse_uri(uri: str, conn_id: str | None) -> dict[str, Any]:
    """The fields of `type://login:password@host:port/schema?extras`, every part percent-encoded.

    `type://protocol://host` keeps the protocol in the host, as Airflow writes it for HTTP connections."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        if not uri.startswith("//"):
            raise UsageError(
                f"connection {conn_id}: the URI has no type", hint="type://login:password@host:port/schema"
            )
        scheme, rest = "", uri[2:]
    before_query = rest.split("?", 1)[0]
    protocol = ""
    if "://" in before_query:
        protocol, _, rest = rest.partition("://")
        if "@" in protocol or ":" in protocol or "/" in protocol:
            raise UsageError(f"connection {conn_id}: the URI can't be read", hint="percent-encode reserved characters")
    try:
        parts = urlsplit("//" + rest)
        port = parts.port
    except ValueError as error:
        # The text of the error may quote the whole netloc, password included.
        raise UsageError(
            f"connection {conn_id}: the URI can't be read",
            hint="percent-encode reserved characters; the port is a number",
        ) from error
    if parts.fragment:
        raise UsageError(f"connection {conn_id}: the URI holds a bare #", hint="write # as %23")
    host = _host(parts.netloc)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra: Any = query.get(EXTRA_KEY, query)
    schema = unquote(parts.path[1:]) if parts.path[1:] else None
    conn_type = scheme.lower().replace("-", "_")
    return {
        "conn_type": ("postgres" if conn_type == "postgresql" else conn_type) or None,
        "host": (f"{protocol}://{host}" if protocol else host) or None,
        "login": unquote(parts.username) if parts.username is not None and _has_login(parts.netloc) else None,
        "password": unquote(parts.password) if parts.password is not None else None,
        "schema": schema,
        "port": port,
        "extra": extra or None,
    }


def _host(netloc: str) -> str:
    """The host with its case kept: urlsplit lowers it, which breaks encoded and case-sensitive names."""
    host = netloc.rpartition("@")[2]
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return unquote(host.partition(":")[0])


def _has_login(netloc: str) -> bool:
    """Whether something stands before the password: `:secret@host` has no login, `@host` neither."""
    return bool(netloc.rpartition("@")[0].partition(":")[0])
