"""What a request needs of this installation: settings, metastore, and a way to tell the schedulers of a change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from opskit.config import Config
from opskit.core.metastore.engine import Connection, Engine, querying, reading, transaction
from opskit.system.wake import wake
from opskit.web.kept import Kept


@dataclass(frozen=True, slots=True)
class Store:
    """One per process; its engines lend each request a connection."""

    config: Config
    engine: Engine
    reader: Engine | None = None
    """One that was opened `for_reading`; None: the same."""
    kept: Kept = field(default_factory=Kept)
    """What many ask for at once."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Queries that see what is committed. MetastoreUnavailable when there is no database."""
        if self.reader is None or self.reader.dialect.name == "sqlite":
            with reading(self.engine) as connection:
                yield connection
        else:
            with querying(self.reader) as connection:
                yield connection

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """A transaction; after its commit the schedulers and the DAG processor are woken."""
        with transaction(self.engine) as connection:
            yield connection
        self.kept.clear()
        wake(self.config.run_folder)


def store_of(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _of_request(request: Request) -> Store:
    # Asynchronous, as all dependencies that wait for nothing: else each costs a turn through a thread.
    return store_of(request)


TheStore = Annotated[Store, Depends(_of_request)]
"""For the arguments of handlers: `store: TheStore`."""
