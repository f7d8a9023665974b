"""What verbs may ask of an environment's configuration: connections, variables, pools and pause states."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from opskit.core.dag.secret_names import is_secret_name
from opskit.core.metastore.objects import KINDS, Fields, Objects, Unreadable, Write

__all__ = ["KINDS", "Accept", "Configuration", "Fields", "Objects", "Unreadable", "Write", "is_secret_name"]

Accept = Callable[[str, str, Fields | None], bool]
"""Whether an object (kind, name, its fields or None) is still what a change was decided for."""


class Configuration(Protocol):
    """Every method raises MetastoreUnavailable when the metastore can't be reached or is not current."""

    @property
    def where(self) -> str:
        """The database, without its password."""
        ...

    def read(self, kinds: Collection[str] = KINDS) -> Objects:
        """All objects, secrets in the clear, as one state. A value that can't be decrypted is an Unreadable."""
        ...

    def write(
        self, writes: Sequence[Write], accept: Accept, now: datetime, event: str, extra: Mapping[str, Any]
    ) -> None:
        """All of it in one transaction with its audit line, or nothing. Each object is locked and shown to `accept`
        first: GuardRefused, naming them, when it refuses some. UsageError for what can't be stored.
        """
        ...

    def parse(self, kind: str, text: str, file_format: str, where: str) -> dict[str, Fields]:
        """The objects of one of Airflow's own export files (json, yaml or env). What it does not say is not among an
        object's fields. UsageError naming `where`."""
        ...

    def seal(self, text: str) -> str:
        """A secret as a text that only this environment can read."""
        ...

    def unseal(self, sealed: str, what: str) -> str:
        """The reverse. OpskitError naming `what` when its key is gone."""
        ...
