"""What a request needs of this installation: settings, metastore, and a way to tell the schedulers of a change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from opskit.config import Config
from opskit.core.metastore.engine import Connection, Engine, reading, transaction
from opskit.system.wake import wake


@dataclass(frozen=True, slots=True)
class Store:
    """One per process; its engine lends each request a connection."""

    config: Config
    engine: Engine

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads. MetastoreUnavailable when there is no database."""
        with reading(self.engine) as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """A transaction; after its commit the schedulers and the DAG processor are woken."""
        with transaction(self.engine) as connection:
            yield connection
        wake(self.config.run_folder)


def store_of(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


TheStore = Annotated[Store, Depends(store_of)]
"""For the arguments of handlers: `store: TheStore`."""
