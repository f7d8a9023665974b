"""Writes the instance row of a webserver, and makes the first user."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from opskit.config import Config
from opskit.core.metastore import instances
from opskit.core.metastore.engine import Engine, transaction
from opskit.errors import MetastoreUnavailable
from opskit.system.processes import Process
from opskit.web.security import first_user

log = logging.getLogger(__name__)
KIND = "webserver"


class Pulse(threading.Thread):
    """Beats as long as its process lives, whatever the handlers do. `progress` gives a number and when it last rose."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        instance_id: str,
        webserver: Process,
        progress: Callable[[], tuple[int, datetime]],
    ) -> None:
        super().__init__(name="pulse", daemon=True)
        self._config = config
        self._engine = engine
        self._me = instance_id
        self._webserver = webserver
        self._progress = progress
        self._over = threading.Event()
        self._every = float(config.get("scheduler", "scheduler_heartbeat_sec"))

    def run(self) -> None:
        registered, may_be_empty = False, False
        while True:
            now = datetime.now(UTC)
            done = self._progress()
            try:
                with transaction(self._engine) as connection:
                    registered = registered and instances.beat(connection, self._me, now, *done)
                    if not registered:
                        self._register(connection, now)
                        registered = True
                        may_be_empty = True
                if may_be_empty:
                    first_user.make_if_none(self._engine)
                    may_be_empty = False
            except MetastoreUnavailable as error:
                log.warning("no heartbeat: %s", error.message)
            if self._over.wait(self._every):
                return

    def _register(self, connection: instances.Connection, now: datetime) -> None:
        instances.register(
            connection,
            instance_id=self._me,
            kind=KIND,
            hostname=socket.gethostname(),
            home=str(self._config.home),
            pid=self._webserver.pid,
            pid_started=self._webserver.started,
            now=now,
        )

    def stop(self) -> None:
        """Say that the webserver has ended."""
        self._over.set()
        self.join(5)
        try:
            with transaction(self._engine) as connection:
                instances.end(connection, self._me, datetime.now(UTC))
        except MetastoreUnavailable as error:
            log.warning("the end could not be written: %s", error.message)
