"""The configuration of the bundled core, as verbs see it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opskit.config import Config
from opskit.errors import GuardRefused
from opskit.platforms.configuration import KINDS, Accept, Fields, Objects, Write

if TYPE_CHECKING:
    from opskit.core.metastore.crypto import Cipher
    from opskit.core.metastore.engine import Engine


class CoreConfiguration:
    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def where(self) -> str:
        from opskit.core.metastore.engine import redacted

        return redacted(self._config.database_url)

    def read(self, kinds: Collection[str] = KINDS) -> Objects:
        from opskit.core.metastore import objects, schema
        from opskit.core.metastore.engine import reading

        with self._engine() as engine:
            schema.check(engine)
            with reading(engine) as database:
                return objects.read_objects(database, self._reading_cipher, kinds)

    def write(
        self, writes: Sequence[Write], accept: Accept, now: datetime, event: str, extra: Mapping[str, Any]
    ) -> None:
        from opskit.core.metastore import audit, objects, schema
        from opskit.core.metastore.engine import transaction
        from opskit.system.wake import wake

        with self._engine() as engine:
            schema.check(engine)
            with transaction(engine) as database:
                there = self._require(objects, database, writes, accept)
                objects.write_objects(database, self._cipher, writes, now, there)
                audit.write(database, event, now, extra=extra)
        wake(self._config.run_folder)

    def _require(self, objects: Any, database: Any, writes: Sequence[Write], accept: Accept) -> set[tuple[str, str]]:
        """The objects that are there, locked, all of them accepted."""
        moved: list[str] = []
        found: set[tuple[str, str]] = set()
        for kind in KINDS:
            names = [write.name for write in writes if write.kind == kind]
            there = objects.read_some(database, self._reading_cipher, kind, names) if names else {}
            found |= {(kind, name) for name in there}
            moved += [f"{kind}/{name}" for name in names if not accept(kind, name, there.get(name))]
        if moved:
            raise GuardRefused(
                f"{len(moved)} objects have changed since this was decided: {', '.join(moved[:10])}",
                hint="nothing was written; look at the present state and decide again",
            )
        return found

    def parse(self, kind: str, text: str, file_format: str, where: str) -> dict[str, Fields]:
        from opskit.core.metastore import interchange

        return interchange.load_fields(kind, text, file_format, where)

    def seal(self, text: str) -> str:
        return self._cipher.encrypt(text)

    def unseal(self, sealed: str, what: str) -> str:
        return self._cipher.decrypt(sealed, what)

    @cached_property
    def _cipher(self) -> Cipher:
        from opskit.core.metastore.crypto import open_cipher

        return open_cipher(self._config)

    @cached_property
    def _reading_cipher(self) -> Cipher | None:
        """None where there is no key yet: looking makes none."""
        from opskit.core.metastore.crypto import KEY_FILE

        configured = str(self._config.get("core", "fernet_key")).strip()
        return self._cipher if configured or (self._config.home / KEY_FILE).exists() else None

    @contextmanager
    def _engine(self) -> Iterator[Engine]:
        from opskit.core.metastore.engine import open_engine

        engine = open_engine(self._config, pool_size=1)
        try:
            yield engine
        finally:
            engine.dispose()
