"""An installation with rows in its metastore and a store for backups: what tests of backups and restores share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit import config as settings
from opskit import platforms
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import open_engine, transaction
from opskit.ops import backup as ops
from opskit.ops import restore as restore_ops
from opskit.ops.backup_catalog import find
from opskit.ops.retention import Keep
from opskit.platforms import Platform
from opskit.system.object_store import ObjectStore
from tests.sample_metastore import fill

KEEP = Keep(7, 4, 6)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Site:
    """An installation with rows in its metastore, and a store for backups."""

    home: Path
    url: str
    environ: dict[str, str]

    @property
    def platform(self) -> Platform:
        return platforms.find(self.config)

    @property
    def config(self) -> settings.Config:
        return settings.load(self.home, self.environ)

    @property
    def store(self) -> ObjectStore:
        return ops.store_of(self.config)

    def backup(self, **options: Any) -> ops.BackupReport:
        return ops.take_backup(self.platform, self.store, options.pop("at", now()), keep=KEEP, **options)

    def restore(self, wanted: str = "latest", **options: Any) -> restore_ops.RestoreReport:
        return restore_ops.restore(self.platform, self.store, find(self.store, wanted), now(), **options)

    def write(self, statement: Any) -> None:
        engine = open_engine(self.url)
        try:
            with transaction(engine) as connection:
                connection.execute(statement)
        finally:
            engine.dispose()


def make_site(home: Path, url: str, to: str, endpoint_url: str = "", **more: str) -> Site:
    environ = {
        "OPSKIT__DATABASE__SQL_ALCHEMY_CONN": url,
        "OPSKIT__BACKUP__TO": to,
        "OPSKIT__BACKUP__ENDPOINT_URL": endpoint_url,
        "OPSKIT__BACKUP__PART_SIZE": "5",
        **more,
    }
    site = Site(home, url, environ)
    fill(url, encrypt=open_cipher(site.config).encrypt)
    return site
