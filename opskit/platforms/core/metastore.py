"""The core's metastore as verbs see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.config import Config
from opskit.core.metastore.contents import ALGORITHMS, Secrets
from opskit.core.metastore.partial import Brought, Change
from opskit.core.metastore.snapshots import (
    Copier,
    DatabaseInfo,
    Kept,
    Replacement,
    Snapshot,
    Target,
    open_copier,
)
from opskit.errors import MetastoreUnavailable
from opskit.system.daemon import is_alive, read_pid_files
from opskit.system.wake import wake

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
        from opskit.core.metastore import small_set

        if isinstance(source, Snapshot):
            return small_set.small_set(source.rows, source.revision)
        with self._reading(source.url) as connection:
            return small_set.read_small_set(connection)

    def live_small_set(self) -> dict[str, Any]:
        from opskit.core.metastore.small_set import read_live

        with self._engine(self._config.database_url) as engine:
            return read_live(engine)

    def plan_small_set(
        self,
        data: Mapping[str, Any],
        *,
        items: Sequence[tuple[str, str]] | None = None,
        unpause: bool = False,
        exact: bool = False,
    ) -> list[Change]:
        with self._reading(self._config.database_url) as connection:
            return self._decide(connection, data, items, unpause, exact)[1]

    def apply_small_set(
        self,
        data: Mapping[str, Any],
        now: datetime,
        *,
        items: Sequence[tuple[str, str]] | None = None,
        unpause: bool = False,
        exact: bool = False,
    ) -> list[Change]:
        from opskit.core.metastore.engine import transaction
        from opskit.core.metastore.small_set import apply

        with self._engine(self._config.database_url) as engine, transaction(engine) as connection:
            wanted, changes = self._decide(connection, data, items, unpause, exact)
            apply(connection, wanted, changes, now)
        wake(self._config.run_folder)
        return changes

    def _decide(
        self,
        connection: Any,
        data: Mapping[str, Any],
        items: Sequence[tuple[str, str]] | None,
        unpause: bool,
        exact: bool,
    ) -> tuple[Mapping[str, Any], list[Change]]:
        from opskit.core.metastore import small_set

        present, cipher = small_set.read_small_set(connection), self._cipher()
        if items is not None:
            present, data = small_set.select_items(present, items), small_set.select_items(data, items)
        decrypt = cipher.decrypt if cipher else None
        return data, small_set.decide(present, data, unpause=unpause, exact=exact, decrypt=decrypt)

    def secrets(self, small_set: Mapping[str, Any]) -> Secrets:
        from opskit.core.metastore.small_set import check_secrets

        cipher = self._cipher()
        return check_secrets(small_set, cipher.decrypt if cipher else None)

    def sign(self, purpose: str, data: bytes) -> tuple[str, str]:
        cipher = self._cipher()
        return cipher.sign(purpose, data) if cipher else ("", "")

    def is_signed(self, purpose: str, data: bytes, key_fingerprint: str, signature: str) -> bool | None:
        cipher = self._cipher()
        return cipher.is_signed(purpose, data, key_fingerprint, signature) if cipher else None

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
        return self._copier_at(url).replacement()

    def require_room(self, size_bytes: int, dump_bytes: int, url: str = "") -> None:
        self._copier_at(url).require_room(size_bytes, dump_bytes)

    def row_counts(self, url: str = "") -> dict[str, int]:
        from opskit.core.metastore.schema import count_rows

        try:
            with self._reading(url or self._config.database_url) as connection:
                return count_rows(connection)
        except MetastoreUnavailable:
            return {}

    def kept(self, url: str = "") -> list[Kept]:
        return self._copier_at(url).kept()

    def put_back(self, name: str, now: datetime, url: str = "") -> str:
        return self._copier_at(url).put_back(name, now)

    def drop_kept(self, name: str, url: str = "") -> None:
        self._copier_at(url).drop_kept(name)

    def bring_history(
        self, source: Target, dag_id: str, now: datetime, on_runs: Callable[[int, int], None], *, dry_run: bool = False
    ) -> Brought:
        from opskit.core.metastore.dag_history import bring_history

        with self._engine(self._config.database_url) as live, self._engine(source.url) as engine:
            brought = bring_history(engine, live, dag_id, now, on_runs, dry_run=dry_run)
        if not dry_run:
            wake(self._config.run_folder)
        return brought

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

    def make_consistent(self, target: Target, now: datetime, url: str = "", *, unpause: bool = False) -> dict[str, int]:
        from opskit.core.metastore.engine import transaction
        from opskit.core.metastore.recovery import known_dags, make_consistent

        with self._engine(url or self._config.database_url) as live:
            known = known_dags(live)
        with self._engine(target.url) as engine, transaction(engine) as connection:
            return make_consistent(connection, now, known, unpause=unpause)

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
        return self._copier_at(url).describe()

    def kind_of(self, url: str = "") -> str:
        return self._copier_at(url).kind

    def redacted(self, url: str = "") -> str:
        from opskit.core.metastore.engine import redacted

        return redacted(url or self._config.database_url)

    def _copier_at(self, url: str) -> Copier:
        return self._copier_of(url) if url else self._copier

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
