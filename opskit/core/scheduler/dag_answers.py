"""What DAG files asked the metastore while they were loaded, and whether it would answer something else today."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

from opskit.config import Config
from opskit.core.metastore import connections, variables
from opskit.core.metastore.crypto import open_cipher
from opskit.core.metastore.engine import Engine, reading
from opskit.core.runner.load_store import VARIABLE, Question, digest
from opskit.errors import MetastoreUnavailable, OpskitError

log = logging.getLogger(__name__)


def read_answers(engine: Engine, config: Config, questions: Iterable[Question]) -> dict[Question, str]:
    """The digest of each answer; without those that can't be given (a value that can't be decrypted)."""
    found: dict[Question, str] = {}
    try:
        cipher = open_cipher(config)
    except OpskitError as error:
        log.warning("variables and connections can't be read: %s", error)
        return found
    with reading(engine) as connection:
        for question in questions:
            kind, key = question
            try:
                if kind == VARIABLE:
                    variable = variables.find_variable(connection, cipher, key)
                    found[question] = digest(None if variable is None else variable.value)
                else:
                    found[question] = digest(connections.find_connection(connection, cipher, key))
            except MetastoreUnavailable:
                raise
            except OpskitError as error:
                log.debug("%s %r: %s", kind, key, error)  # the file's import error says it
    return found


def outdated(asked: Mapping[str, Mapping[Question, str | None]], answers: Mapping[Question, str]) -> Collection[str]:
    """The files that were told something else, or that never got an answer."""
    return [
        path
        for path, told in asked.items()
        if any(before is None or answers.get(question) != before for question, before in told.items())
    ]
