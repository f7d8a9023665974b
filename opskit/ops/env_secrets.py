"""Tells what in connections and variables is secret, and puts a keyed fingerprint in its place.

The fingerprint is an HMAC-SHA256, cut to 96 bits: environments that share the key can compare secrets that neither
shows, and without the key a fingerprint can't be guessed from a list of passwords.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.config import Config
from opskit.errors import ConfigError
from opskit.platforms.configuration import Unreadable, is_secret_name

KEY_FILE = "env.key"
MARK = "$secret"
_UNREADABLE = "$unreadable"
_ESCAPED = re.compile(r"\$+(secret|unreadable)")
_LENGTH = 24
_KEY = re.compile(r"[0-9a-f]{64}")

_MORE_NAMES = re.compile(
    r"credential|kube_?config|pwd|pass_?(?:code|word|phrase)|(?:^|_)(?:pass|jwt|dsn|cookie|signature|bearer|pat)(?:_|$)"
    r"|connection_?string|conn_?string|webhook|private|keyfile|key_?(?:content|json|data|value)"
    r"|(?:account|access|shared|app|application|routing|integration|encryption|master|auth|signing|license|ssl|tls"
    r"|client|session|ssh|storage|subscription)_?key(?:$|_?\d)|^key$|sas_|_sas$|session_id|secret_id|role_id"
)
"""What connection types call their secrets, beyond Airflow's own list of sensitive names."""
_ID_NAMES = re.compile(r"(?:access_key_id|key_id|key_name|key_path|_path|_file|_url|_uri|verify|_type|_timeout)$")
"""Names that speak of a secret but hold something else; what they hold is still judged by its look."""
_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*(?:PRIVATE KEY|CERTIFICATE|SECRET)"
    r"|[a-z][a-z0-9+.-]*://[^/\s@]*:[^/\s@]+@"  # credentials in a URL
    r"|hooks\.slack\.com/(?:services|workflows)/|webhook\.office\.com/|discord(?:app)?\.com/api/webhooks/"
    r"|\beyJ[\w-]{8,}\.[\w-]{4,}\.|\bxox[abposre]-|\bgh[pousr]_\w{20}|\bglpat-|\bsk-\w{16}|\bsk_(?:live|test)_"
    r"|\bAIza[\w-]{30}|\bya29\.|\bdapi[0-9a-f]{16}|\bSG\.[\w-]{16}|\bAGE-SECRET-KEY-1|\bhvs\.\w{16}|\bnpm_\w{20}"
    r"|(?:[?&;\s]|^)(?:pass(?:word|wd)?|pwd|token|secret|sig|signature|api_?key|access_?key|account_?key|sharedaccesskey"
    r"|client_?secret)\s*=\s*[^\s&;]{3}",
    re.IGNORECASE,
)
_BASIC = re.compile(r"^(?:bearer|basic|token|apikey)\s+\S{6}", re.IGNORECASE)
_OPAQUE = re.compile(r"(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])(?=\D*\d)[A-Za-z0-9+/=_-]{24,}|[0-9a-f]{32,}")
_USERINFO = re.compile(r"^[^/\s@]+:[^/\s@]+@")


@dataclass(frozen=True, slots=True)
class Secret:
    """Stands for a secret of which only the fingerprint is known."""

    fingerprint: str


class Rules:
    """What is secret here: names, looks of values, and the globs of env.secret_names."""

    def __init__(self, globs: list[str] | None = None) -> None:
        self._globs = [glob.lower() for glob in globs or []]
        self._known: dict[str, bool] = {}

    def by_name(self, name: str) -> bool:
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._by_name(name)
        return found

    def _by_name(self, name: str) -> bool:
        lowered = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")
        if any(fnmatch.fnmatchcase(name.lower(), glob) for glob in self._globs):
            return True
        if _ID_NAMES.search(lowered) and "webhook" not in lowered:
            return False
        return is_secret_name(name) or is_secret_name(lowered) or bool(_MORE_NAMES.search(lowered))

    def by_look(self, text: str) -> bool:
        """Whether a text is, or holds, something that looks like a secret."""
        if len(text) < 4:
            return False
        if _VALUE.search(text) or _BASIC.match(text) or _USERINFO.match(text) or _OPAQUE.fullmatch(text):
            return True
        if text.lstrip()[:1] in ("{", "["):
            try:
                return any(True for _ in self.leaves(json.loads(text)))
            except (ValueError, RecursionError):
                return False
        return False

    def is_leaf(self, name: str, value: Any) -> bool:
        """Whether a value is hidden as a whole. Nothing, and yes or no, are no secrets whatever they are called."""
        if value is None or isinstance(value, bool) or value == "" or value == {} or value == []:
            return False
        if isinstance(value, Secret):
            return True
        return self.by_name(name) or (isinstance(value, str) and self.by_look(value))

    def leaves(self, value: Any, name: str = "") -> Iterator[Any]:
        """The secrets inside a JSON value."""
        if name and self.is_leaf(name, value):
            yield value
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from self.leaves(item, str(key))
        elif isinstance(value, list):
            for item in value:
                yield from self.leaves(item)
        elif isinstance(value, str) and self.by_look(value):
            yield value

    def is_secret(self, kind: str, name: str, path: tuple[str, ...], value: Any) -> bool:
        """Whether the value at `path` (of the fields of an object) is hidden as a whole."""
        if kind == "connections":
            return self.is_leaf(path[-1], value)
        if kind == "variables" and path == ("value",):
            return self.is_leaf(name, value)
        return isinstance(value, Secret) or (isinstance(value, str) and self.by_look(value))


class Fingerprints:
    """Keyed fingerprints of JSON values."""

    def __init__(self, key: str, origin: str) -> None:
        """`key`: 64 hexadecimal digits. ConfigError, which does not repeat it, for another text."""
        if not _KEY.fullmatch(key):
            raise ConfigError(f"{origin} holds no key of fingerprints", hint="see: opskit env key")
        self._key = bytes.fromhex(key)
        self.key = key
        self.key_id = hashlib.sha256(b"opskit env key\n" + self._key).hexdigest()[:16]
        """Tells this key from another without giving it away."""

    def of(self, value: Any) -> str:
        return hmac.digest(self._key, b"secret\n" + canonical(value).encode(), "sha256").hex()[:_LENGTH]

    def sign(self, purpose: str, text: str) -> str:
        """Only who has the key can make it."""
        return hmac.digest(self._key, f"{purpose}\n{text}".encode(), "sha256").hex()


def redact(rules: Rules, fingerprints: Fingerprints, kind: str, name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with a Secret in the place of each secret."""

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, (Secret, Unreadable)):
            return value
        if rules.is_secret(kind, name, path, value):
            return Secret(fingerprints.of(value))
        if isinstance(value, dict):
            return {key: walk(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item, (*path, str(index))) for index, item in enumerate(value)]
        return value

    return {field: walk(value, (field,)) for field, value in fields.items()}


def to_json(value: Any) -> Any:
    """A JSON value in which secrets are `{"$secret": fingerprint}`; keys that look like the mark are escaped."""
    if isinstance(value, Secret):
        return {MARK: value.fingerprint}
    if isinstance(value, Unreadable):
        return {_UNREADABLE: True}
    if isinstance(value, dict):
        return {f"${key}" if _ESCAPED.fullmatch(key) else key: to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any) -> Any:
    """The reverse."""
    if isinstance(value, dict):
        if len(value) == 1:
            if isinstance(value.get(MARK), str):
                return Secret(value[MARK])
            if _UNREADABLE in value:
                return Unreadable()
        return {key[1:] if _ESCAPED.fullmatch(key) else key: from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_json(item) for item in value]
    return value


def canonical(value: Any) -> str:
    """The same text for the same JSON value (Secrets and Unreadables included)."""
    return _encode(value)


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=to_json).encode


def open_fingerprints(config: Config) -> Fingerprints:
    """Those of this installation: env.fingerprint_key, else {home}/env.key, which is made when it is not there."""
    configured = str(config.get("env", "fingerprint_key")).strip()
    if configured:
        return Fingerprints(configured, "env.fingerprint_key")
    path = config.home / KEY_FILE
    try:
        if not path.exists():
            write_key(path, secrets.token_hex(32))
        return Fingerprints(path.read_text(encoding="utf-8").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read or made: {error}") from error


def write_key(path: Path, key: str, *, replace: bool = False) -> bool:
    """Write a key file (0600), whole; whether it was written: another one stays unless `replace`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
        if replace:
            fresh.replace(path)
            return True
        try:
            os.link(fresh, path)
        except FileExistsError:
            return False
        return True
    finally:
        fresh.unlink(missing_ok=True)
