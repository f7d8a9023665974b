"""The Fernet keys of the bundled core: a setting, or a file of OPSKIT_HOME that running processes read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from opskit.config import Config
from opskit.errors import ConfigError
from opskit.platforms.secret_keys import StoredSecret

if TYPE_CHECKING:
    from opskit.core.metastore.crypto import Cipher
    from opskit.core.metastore.engine import Engine

RETIRED = "fernet.key.retired"


class CoreSecretKeys:
    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def are_in_a_file(self) -> bool:
        return not str(self._config.get("core", "fernet_key")).strip()

    @property
    def origin(self) -> str:
        return str(self._path) if self.are_in_a_file else "core.fernet_key"

    def fingerprints(self) -> list[str]:
        return list(self._cipher().fingerprints)

    def secrets(self) -> list[StoredSecret]:
        from opskit.core.metastore import stored_secrets
        from opskit.core.metastore.engine import reading

        with self._engine() as engine, reading(engine) as database:
            return stored_secrets.list_secrets(database, self._cipher())

    def new(self) -> str:
        from opskit.core.metastore.crypto import new_key

        return new_key()

    def add(self, *, first: bool) -> str:
        from opskit.core.metastore.crypto import fingerprint, new_key, read_keys, write_keys

        fresh, present = new_key(), read_keys(self._path)
        write_keys(self._path, [fresh, *present] if first else [*present, fresh])
        return fingerprint(fresh)

    def promote(self) -> str:
        from opskit.core.metastore.crypto import fingerprint, read_keys, write_keys

        *rest, last = read_keys(self._path)
        write_keys(self._path, [last, *rest])
        return fingerprint(last)

    def reencrypt(self, batch_size: int, after_batch: Callable[[int, int], None]) -> int:
        from opskit.core.metastore import stored_secrets
        from opskit.core.metastore.crypto import Cipher, read_keys

        cipher, retired = self._cipher(), read_keys(self._retired)
        with self._engine() as engine:
            changed = stored_secrets.reencrypt(engine, cipher, batch_size=batch_size, after_batch=after_batch)
            if retired:
                changed += len(stored_secrets.adopt(engine, cipher, Cipher(retired, str(self._retired))))
        return changed

    def retire(self) -> list[str]:
        from opskit.core.metastore.crypto import fingerprint, read_keys, write_keys

        newest, *old = read_keys(self._path)
        if old:
            # First beside, then out of use: at no moment is a key nowhere.
            write_keys(self._retired, list(dict.fromkeys([*old, *read_keys(self._retired)])))
            write_keys(self._path, [newest])
        return [fingerprint(key) for key in old]

    def adopt(self, key_files: Sequence[Path]) -> list[str]:
        from opskit.core.metastore import stored_secrets
        from opskit.core.metastore.crypto import Cipher, read_keys

        keys: list[str] = []
        for path in key_files:
            found = read_keys(path)
            if not found:
                raise ConfigError(f"{path} holds no Fernet key")
            keys += Cipher(found, str(path)).fingerprints and found
        keys += read_keys(self._retired)
        if not keys:
            return []
        with self._engine() as engine:
            return stored_secrets.adopt(engine, self._cipher(), Cipher(keys, "the given files"))

    def set(self, values: Mapping[str, str | None], now: datetime) -> None:
        from opskit.core.metastore import audit, stored_secrets
        from opskit.core.metastore.engine import transaction

        with self._engine() as engine, transaction(engine) as database:
            stored_secrets.set_secrets(database, self._cipher(), values)
            given = {name: "emptied" if value is None else "set" for name, value in values.items()}
            audit.write(database, "fernet repair", now, extra={"values": sorted(given), "how": sorted(given.values())})

    @property
    def _path(self) -> Path:
        from opskit.core.metastore.crypto import KEY_FILE

        return self._config.home / KEY_FILE

    @property
    def _retired(self) -> Path:
        return self._config.home / RETIRED

    def _cipher(self) -> Cipher:
        from opskit.core.metastore.crypto import open_cipher

        if self.are_in_a_file and not self._path.exists():
            raise ConfigError(f"{self._path} is not there", hint="opskit db migrate makes one; or put the old one back")
        return open_cipher(self._config)

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        from opskit.core.metastore import schema
        from opskit.core.metastore.engine import open_engine

        engine = open_engine(self._config, pool_size=1)
        try:
            schema.check(engine)
            yield engine
        finally:
            engine.dispose()
