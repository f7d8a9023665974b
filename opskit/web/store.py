"""What a request needs of this installation: settings, metastore, and a way to tell the schedulers of a change."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from opskit.config import Config
from opskit.core.metastore.engine import Connection, Engine, querying, reading, transaction
from opskit.system.wake import wake
from opskit.web.kept import Kept
from opskit.web.texts import Texts

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Store:
    """One per process; its engines lend each request a connection."""

    config: Config
    engine: Engine
    reader: Engine | None = None
    """One that was opened `for_reading`; None: the same."""
    kept: Kept = field(default_factory=Kept)
    """What many ask for at once."""
    texts: Texts = field(default_factory=Texts)
    """Of what the API's lists hold."""

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Queries that see what is committed. MetastoreUnavailable when there is no database."""
        if self.reader is None or self.reader.dialect.name == "sqlite":
            with reading(self.engine) as connection:
                yield connection
        else:
            with querying(self.reader) as connection:
                yield connection

    def look(self, key: Hashable, query: Callable[[Connection], Answer], *, fresh: bool = False) -> Answer:
        """What a query finds, or found not long ago (see Kept) under this key."""

        def asked() -> Answer:
            with self.reading() as connection:
                return query(connection)

        return self.kept.get(key, asked, fresh=fresh)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction. After its commit nothing that was looked up before it is told any more."""
        with transaction(self.engine) as connection:
            yield connection
        self.kept.clear()

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """One that concerns the schedulers and the DAG processor: after its commit they are woken."""
        with self.writing() as connection:
            yield connection
        wake(self.config.run_folder)


def store_of(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _of_request(request: Request) -> Store:
    # Asynchronous, as all dependencies that wait for nothing: else each costs a turn through a thread.
    return store_of(request)


TheStore = Annotated[Store, Depends(_of_request)]
"""For the arguments of handlers: `store: TheStore`."""
