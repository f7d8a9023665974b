"""The error tree. Each class carries the exit code that the command line ends with.

OpskitError (1)
├── UsageError (2)                  wrong arguments
├── PartialFailure (3)              finished, but some items failed
├── Unhealthy (4)                   unhealthy and not repaired, target not reached
├── DriftFound (5)                  diff, audit and --check commands
├── ConfigError (10)                configuration invalid
├── LockHeld (11)                   another opskit holds the lock
├── MetastoreUnavailable (12)       metastore unreachable
│   └── SchemaNotCurrent (12)       … or its schema is not the one we need
├── RemoteError (13)                host unreachable, or a remote command failed
├── VerificationFailed (14)         a backup or a deployment is not what it should be
├── DagInvalid (15)                 a DAG or DAG file can't be used
└── GuardRefused (16)               protected path, prod-write, running scheduler …
"""

from __future__ import annotations


class OpskitError(Exception):
    """What happened to which thing (`message`), and what the operator can do (`hint`)."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(OpskitError):
    """The arguments don't fit together, or name something that does not exist."""

    exit_code = 2


class NotFound(UsageError):
    """The DAG, run, task, connection, variable, pool or backup that was named does not exist."""


class PartialFailure(OpskitError):
    """The command finished, but some of its items failed; the report says which."""

    exit_code = 3


class Unhealthy(OpskitError):
    """A component is unhealthy and was not repaired, or a target was not reached."""

    exit_code = 4


class DriftFound(OpskitError):
    """A diff, an audit or a `--check` found a difference."""

    exit_code = 5


class ConfigError(OpskitError):
    """A setting is unknown, malformed or contradicts another."""

    exit_code = 10


class LockHeld(OpskitError):
    """Another opskit process does the same work right now."""

    exit_code = 11


class MetastoreUnavailable(OpskitError):
    """The metastore can't be reached."""

    exit_code = 12


class SchemaNotCurrent(MetastoreUnavailable):
    """The metastore can be reached, but its schema is not the one this version needs."""


class RemoteError(OpskitError):
    """A host can't be reached, or a command on it failed."""

    exit_code = 13


class VerificationFailed(OpskitError):
    """A backup or a deployment is not what it should be."""

    exit_code = 14


class DagInvalid(OpskitError):
    """A DAG file can't be loaded, or a DAG in it can't be used."""

    exit_code = 15


class GuardRefused(OpskitError):
    """A guard refused: a protected path, a write to production, a running scheduler."""

    exit_code = 16
