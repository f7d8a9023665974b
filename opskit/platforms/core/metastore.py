"""The core's metastore as verbs see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.config import Config
from opskit.core.metastore.contents import ALGORITHMS, Secrets
from opskit.core.metastore.snapshots import Copier, DatabaseInfo, Replacement, Snapshot, Target, open_copier
from opskit.system.daemon import is_alive, read_pid_files

if TYPE_CHECKING:
    from opskit.core.metastore.crypto import Cipher
    from opskit.core.metastore.engine import Engine


class CoreMetastore:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._copier = self._copier_of(config.database_url)
        self.dump_name = self._copier.dump_name

    def describe(self) -> DatabaseInfo:
        return self._copier.describe()

    def algorithm_text(self, algorithm: str) -> str:
        return ALGORITHMS[algorithm]

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        return self._copier.snapshot()

    def small_set(self, source: Snapshot | Target) -> dict[str, Any]:
        from opskit.core.metastore import recovery

        if isinstance(source, Snapshot):
            return recovery.small_set(source.rows)
        with self._reading(source.url) as connection:
            return recovery.read_small_set(connection)

    def prove_small_set(self, data: Mapping[str, Any]) -> dict[str, Any]:
        from opskit.core.metastore.recovery import rehearse_small_set

        return rehearse_small_set(data)

    def apply_small_set(self, data: Mapping[str, Any], now: datetime) -> dict[str, int]:
        from opskit.core.metastore.engine import transaction
        from opskit.core.metastore.recovery import apply_small_set

        with self._engine(self._config.database_url) as engine, transaction(engine) as connection:
            return apply_small_set(connection, data, now)

    def secrets(self, small_set: Mapping[str, Any]) -> Secrets:
        from opskit.core.metastore.recovery import check_secrets

        cipher = self._cipher()
        return check_secrets(small_set, cipher.decrypt if cipher else None)

    def key_fingerprints(self) -> list[str]:
        cipher = self._cipher()
        return list(cipher.fingerprints) if cipher else []

    def _cipher(self) -> Cipher | None:
        """None where there is no key yet: looking must not make one, least of all where a backup comes back to."""
        from opskit.core.metastore.crypto import KEY_FILE, open_cipher

        configured = str(self._config.get("core", "fernet_key")).strip()
        return open_cipher(self._config) if configured or (self._config.home / KEY_FILE).exists() else None

    def throwaway(self) -> AbstractContextManager[Target]:
        return self._copier.throwaway(str(self._config.get("backup", "drill_url")))

    def replacement(self, url: str = "") -> AbstractContextManager[Replacement]:
        return (self._copier_of(url) if url else self._copier).replacement()

    def revision(self, target: Target) -> str | None:
        from opskit.core.metastore.recovery import revision_of

        with self._engine(target.url) as engine:
            return revision_of(engine)

    def needed_revision(self) -> str:
        from opskit.core.metastore.schema import HEAD

        return HEAD

    def migrate(self, target: Target) -> bool:
        from opskit.core.metastore.schema import migrate

        with self._engine(target.url) as engine:
            return migrate(engine).changed

    def make_consistent(self, target: Target, now: datetime, url: str = "") -> dict[str, int]:
        from opskit.core.metastore.engine import transaction
        from opskit.core.metastore.recovery import lease_epochs, make_consistent

        with self._engine(url or self._config.database_url) as live:
            epochs = lease_epochs(live)
        with self._engine(target.url) as engine, transaction(engine) as connection:
            return make_consistent(connection, now, epochs)

    def in_use_by(self, now: datetime, url: str = "") -> list[str]:
        from opskit.core.metastore.recovery import living_instances

        threshold = float(self._config.get("scheduler", "scheduler_health_check_threshold"))
        with self._engine(url or self._config.database_url) as engine:
            users = living_instances(engine, now, threshold)
        if not url:
            users += [
                f"{record.kind} (pid {record.pid} on this host, {path})"
                for path, record in read_pid_files(self._config.run_folder)
                if is_alive(record.pid, record.pid_started)
            ]
        return users

    def describe_target(self, url: str = "") -> DatabaseInfo:
        return (self._copier_of(url) if url else self._copier).describe()

    def kind_of(self, url: str = "") -> str:
        return (self._copier_of(url) if url else self._copier).kind

    def redacted(self, url: str = "") -> str:
        from opskit.core.metastore.engine import redacted

        return redacted(url or self._config.database_url)

    def _copier_of(self, url: str) -> Copier:
        return open_copier(url, self._scratch, compression=int(self._config.get("backup", "compression")))

    @property
    def _scratch(self) -> Path:
        return self._config.run_folder / "scratch"

    @contextmanager
    def _engine(self, url: str) -> Iterator[Engine]:
        from opskit.core.metastore.engine import open_engine

        engine = open_engine(url, pool_size=1)
        try:
            yield engine
        finally:
            engine.dispose()

    @contextmanager
    def _reading(self, url: str) -> Iterator[Any]:
        from opskit.core.metastore.engine import reading

        with self._engine(url) as engine, reading(engine) as connection:
            yield connection
