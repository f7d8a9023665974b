"""What verbs may ask of an Airflow that is moved in, and of the history that is here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from opskit.core.metastore.objects import Fields, Objects, Write

__all__ = ["AirflowMetastore", "Fields", "MovingIn", "Taken"]


class Taken(Protocol):
    """What was written of a history."""

    runs: int
    instances: int
    xcoms: int
    problems: list[tuple[str, str]]


class AirflowMetastore(Protocol):
    """The metastore of an Airflow 2 or 3, opened for reading."""

    where: str
    problems: list[tuple[str, str]]
    """(what, why it can't be taken), of what was read so far."""

    @property
    def generation(self) -> int: ...
    def connections(self) -> dict[str, Fields]: ...
    def variables(self) -> dict[str, Fields]: ...
    def pools(self) -> dict[str, Fields]: ...
    def pauses(self) -> dict[str, bool]: ...
    def people(self) -> Objects:
        """`users` and `roles` (without the roles that are always here). A user has first_name, last_name, email,
        active, roles and password (a hash, or None); a role has permissions: pairs of action and resource."""
        ...

    def run_keys(self) -> list[tuple[int, str, str, str]]:
        """(id, dag_id, run_id, state)."""
        ...


class MovingIn(Protocol):
    def open(self, url: str, keys: Sequence[str]) -> AbstractContextManager[AirflowMetastore]:
        """`keys`: the Fernet keys of that Airflow. MetastoreUnavailable when it can't be reached, UsageError when it is
        none."""
        ...

    def known_runs(self) -> set[tuple[str, str]]:
        """(dag_id, run_id) of all runs here."""
        ...

    def people_here(self) -> Objects:
        """Users and roles of ours, in the same fields; `password`: whether there is one."""
        ...

    def role_fields(self, name: str, pairs: Sequence[tuple[str, str]], problems: list[tuple[str, str]]) -> Fields:
        """A role's fields; what it allows there and opskit does not have becomes a problem."""
        ...

    def builtin_roles(self) -> frozenset[str]: ...

    def take_people(self, writes: Sequence[Write], now: datetime) -> tuple[int, list[tuple[str, str]]]:
        """Write users and roles, each by itself: how many were written, and what could not be."""
        ...

    def take_history(self, source: AirflowMetastore, numbers: Sequence[int], now: datetime) -> Taken:
        """Write these runs (their ids there) with their task instances and XComs. What can't be written is left out and
        named; all else is."""
        ...
