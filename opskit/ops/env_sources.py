"""Opens what a command names as an environment: this installation, another home, a database, or a file."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit import config as settings
from opskit import platforms
from opskit.errors import ConfigError, UsageError
from opskit.ops import env_document
from opskit.ops.env_document import Document
from opskit.ops.env_secrets import Fingerprints, Rules, Secret, open_fingerprints
from opskit.platforms.base import Platform
from opskit.platforms.configuration import KINDS, Objects
from opskit.system import encryption

_EXPORTS = {"connections": "conn", "variables": "var", "pools": "pool"}
_PRODUCTION = ("prod", "production")


@dataclass(frozen=True, slots=True)
class Environment:
    """One side of a comparison or of a promotion."""

    label: str
    """For people: a path, or a database without its password."""
    name: str
    """As env.name or the file says; may be empty."""
    protected: bool
    document: Document
    platform: Platform | None = None
    """None for a file: nothing can be written to it."""


@dataclass(frozen=True, slots=True)
class Access:
    """What opening needs beyond the name."""

    platform: Platform
    """Of this installation."""
    only: tuple[str, ...] = ()
    """Globs over `kind/name`; empty: everything."""
    identities: tuple[Path, ...] = ()
    """Files of identities for encrypted exports, besides env.identity_file."""
    fernet_key_file: Path | None = None
    """Keys of a database that is named by its URL; None: those of this installation."""

    def secrets(self) -> list[str]:
        found = []
        configured = str(self.platform.config.get("env", "identity_file"))
        for path in [*self.identities, *([Path(configured).expanduser()] if configured else [])]:
            try:
                found += encryption.read_identities(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{path} can't be read: {error}") from error
        return found


def open_environment(spec: str, access: Access) -> Environment:
    """The environment that `spec` names, read.

    `.` is this installation; a folder is another OPSKIT_HOME; a URL is a metastore; a file is an export of ours
    (encrypted or not) or of Airflow's (`connections:FILE` where its name does not tell); `env:NAME` is whatever that
    environment variable holds, so that no password stands in a process list. UsageError for what is none of these.
    """
    if spec.startswith("env:"):
        value = os.environ.get(spec[4:], "")
        if not value:
            raise UsageError(f"the environment variable {spec[4:]} is not set")
        return open_environment(value, access)
    if spec in ("", "."):
        return _live(access.platform, access)
    if "://" in spec:
        return _live(*_of_url(spec, access))
    kind, separator, rest = spec.partition(":")
    if separator and kind in _EXPORTS:
        return _of_file(Path(rest), access, kind)
    path = Path(spec).expanduser()
    if path.is_dir():
        config = settings.load(path, {})
        return _live(platforms.find(config), access)
    return _of_file(path, access)


def _of_url(url: str, access: Access) -> tuple[Platform, Access]:
    config = access.platform.config
    if url == config.database_url:
        return access.platform, access
    values = {**config.values, "database.sql_alchemy_conn": url, "env.name": "", "env.protected": True}
    if access.fernet_key_file is not None:
        data, _ = env_document.read_bytes(access.fernet_key_file, ())
        values["core.fernet_key"] = ",".join(data.decode("utf-8", "replace").replace(",", " ").split())
    return platforms.find(dataclasses.replace(config, values=values)), access


def _live(platform: Platform, access: Access) -> Environment:
    config = platform.config
    name = str(config.get("env", "name"))
    label = platform.configuration.where
    document = Document(name, _chosen(platform.configuration.read(), access.only))
    protected = bool(config.get("env", "protected")) or name.lower() in _PRODUCTION
    return Environment(label, name, protected, document, platform)


def _of_file(path: Path, access: Access, kind: str = "") -> Environment:
    data, _ = env_document.read_bytes(path, _Lazy(access))
    where = str(path)
    name = path.name.removesuffix(".age")
    file_format = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".env": "env"}.get(Path(name).suffix.lower())
    if file_format is None:
        file_format = "env" if name == ".env" else "json"
    if not kind and file_format == "json":
        parsed = env_document.parse_json(data, where)
        if env_document.is_document(parsed):
            found = env_document.load(parsed, where)
            document = dataclasses.replace(found, objects=_chosen(found.objects, access.only))
            return Environment(where, document.environment, False, document)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is no UTF-8 text") from error
    kind = kind or _kind_of(name, file_format)
    if not kind:
        raise UsageError(
            f"{where} is no export of opskit, and its name does not tell what of Airflow's it is",
            hint=f"say it: connections:{path}, variables:{path} or pools:{path}",
        )
    objects = {kind: access.platform.configuration.parse(kind, text, file_format, where)}
    return Environment(where, "", False, Document("", _chosen(objects, access.only), "", (kind,)))


class _Lazy(Sequence[str]):
    """Identities that are read when something turns out to be encrypted."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._found: list[str] | None = None

    def _all(self) -> list[str]:
        if self._found is None:
            self._found = self._access.secrets()
        return self._found

    def __len__(self) -> int:
        return len(self._all())

    def __getitem__(self, index: Any) -> Any:
        return self._all()[index]


def _kind_of(name: str, file_format: str) -> str:
    found = [kind for kind, word in _EXPORTS.items() if word in name.lower()]
    if not found and file_format == "env":
        return "connections"  # Airflow writes nothing else in this form
    return found[0] if len(found) == 1 else ""


def chosen(kind: str, name: str, globs: Sequence[str]) -> bool:
    """Whether one of the globs over `kind/name` fits (`pg_*` is any kind)."""
    return any(fnmatch.fnmatchcase(f"{kind}/{name}" if "/" in glob else name, glob) for glob in globs)


def _chosen(objects: Objects, only: Sequence[str]) -> Objects:
    if not only:
        return objects
    return {
        kind: {name: fields for name, fields in objects[kind].items() if chosen(kind, name, only)}
        for kind in KINDS
        if kind in objects
    }


def rules_of(platform: Platform) -> Rules:
    return Rules(list(platform.config.get("env", "secret_names")))


def fingerprints_for(platform: Platform, *sides: Environment) -> Fingerprints:
    """The key with which these environments can be compared. ConfigError for a file whose fingerprints have another."""
    fingerprints = open_fingerprints(platform.config)
    for side in sides:
        if side.document.key_id not in ("", fingerprints.key_id) and _has_secrets(side.document.objects):
            raise ConfigError(
                f"the fingerprints of {side.label} were made with the key {side.document.key_id}, "
                f"here is {fingerprints.key_id}",
                hint="give all environments one key: opskit env key --help",
            )
    return fingerprints


def _has_secrets(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_secrets, value.values()))
    if isinstance(value, list):
        return any(map(_has_secrets, value))
    return isinstance(value, Secret)
