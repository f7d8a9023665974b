"""What a run of a verb leaves for the monitoring: a Prometheus file, and pings of a dead man's switch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from opskit.telemetry import metrics
from tests.conftest import Opskit


@dataclass
class Switch:
    url: str = ""
    pings: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def switch() -> Iterator[Switch]:
    found = Switch()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            found.pings.append((self.path, text))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_port}/abc"
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_verb_leaves_its_numbers_and_pings_its_switch(opskit: Opskit, home: Path, switch: Switch) -> None:
    opskit("db", "migrate")
    (home / "opskit.toml").write_text(f'[alerts.ping_urls]\ndb_clean = "{switch.url}"\n')
    path = home / "metrics" / "opskit_db_clean.prom"

    opskit("db", "clean", "--dry-run")
    assert not path.exists()
    assert switch.pings == []

    # Without its metastore nobody can say which logs are in use.
    (home / "opskit.db").rename(home / "away.db")
    assert opskit("db", "clean", check=False).returncode == 12
    families = metrics.read(path)
    assert families["opskit_db_clean_exit_code"] == {"opskit_db_clean_exit_code": 12.0}
    assert "opskit_db_clean_last_success_timestamp_seconds" not in families
    assert [where for where, _ in switch.pings] == ["/abc/start", "/abc/fail"]
    assert "opskit.db" in switch.pings[1][1]

    (home / "away.db").rename(home / "opskit.db")
    opskit("db", "clean")
    families = metrics.read(path)
    assert families["opskit_db_clean_exit_code"] == {"opskit_db_clean_exit_code": 0.0}
    assert families["opskit_db_clean_last_success_timestamp_seconds"]
    assert [where for where, _ in switch.pings[2:]] == ["/abc/start", "/abc"]

    succeeded = families["opskit_db_clean_last_success_timestamp_seconds"]
    (home / "opskit.db").rename(home / "away.db")
    opskit("db", "clean", check=False)
    assert metrics.read(path)["opskit_db_clean_last_success_timestamp_seconds"] == succeeded


def test_a_switch_that_is_away_changes_nothing_but_is_said(opskit: Opskit, home: Path) -> None:
    opskit("db", "migrate")
    (home / "opskit.toml").write_text('[alerts.ping_urls]\ndb_clean = "http://127.0.0.1:9/secret-path"\n')
    done = opskit("db", "clean")
    assert "dead man's switch at 127.0.0.1 was not reached" in done.stderr
    assert "secret-path" not in done.stderr

    (home / "opskit.toml").write_text('[alerts.ping_urls]\ndb_clean = "ftp//secret-path"\n')
    done = opskit("db", "clean", check=False)
    assert done.returncode == 10
    assert "alerts.ping_urls" in done.stderr
    assert "secret-path" not in done.stderr
