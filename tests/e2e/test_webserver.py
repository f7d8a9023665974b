"""The webserver as a process: how it starts, stops, and says what is wrong."""

from __future__ import annotations

import base64
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from sqlalchemy import select

from opskit.core.metastore.engine import open_engine, reading
from opskit.core.metastore.tables import instance
from tests import daemons
from tests.browser import free_port
from tests.conftest import Opskit
from tests.waiting import wait_until


def get(url: str, **options: object) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10, **options) as answer:  # type: ignore[arg-type]
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def rows(home: Path) -> list[object]:
    engine = open_engine(f"sqlite:///{home}/opskit.db")
    try:
        with reading(engine) as connection:
            return list(connection.execute(select(instance).where(instance.c.kind == "webserver")))
    finally:
        engine.dispose()


def test_it_beats_while_it_can_answer_and_ends_with_0(home: Path, opskit: Opskit) -> None:
    opskit("db", "migrate")
    port = free_port()
    with daemons.running("webserver", home, webserver__web_server_port=str(port)) as server:
        server.wait_for_line(f"listening on http://127.0.0.1:{port}")
        wait_until(lambda: bool(rows(home)) and rows(home)[0].progress > 0, 30, what=server.log)  # type: ignore[attr-defined]
        assert get(f"http://127.0.0.1:{port}/health")[0] == 200
        server.wait_for_line("    password  ")
        told = server.log().split("    password  ")[1].split()[0]
        login = base64.b64encode(f"admin:{told}".encode()).decode()
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}/api/v1/users", headers={"Authorization": f"Basic {login}"})
        ) as answer:
            assert b'"admin"' in answer.read()
        assert server.stop() == 0
        assert "Traceback" not in server.log()
    assert rows(home)[0].ended_at is not None  # type: ignore[attr-defined]
    assert not list((home / "run").glob("webserver.*"))


def test_a_port_that_is_taken_is_a_wrong_configuration(home: Path, opskit: Opskit) -> None:
    opskit("db", "migrate")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = opskit("webserver", "--port", port, check=False)
    assert done.returncode == 10
    assert f"can't listen on 127.0.0.1:{port}" in done.stderr
    assert "web_server_port" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_metastore_it_answers_what_is_wrong(home: Path) -> None:
    port = free_port()
    with daemons.running("webserver", home, webserver__web_server_port=str(port)) as server:
        server.wait_for_line("listening on")
        status, _ = get(f"http://127.0.0.1:{port}/livez")
        assert status == 200
        status, body = get(f"http://127.0.0.1:{port}/readyz")
        assert status == 503
        assert b"metastore" in body or b"opskit.db" in body
        status, body = get(f"http://127.0.0.1:{port}/api/v1/dags")
        assert status in (401, 503)
        assert server.stop() == 0


def test_with_a_certificate_it_speaks_tls_only(home: Path, opskit: Opskit, tmp_path: Path) -> None:
    opskit("db", "migrate")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    settings = {"web_server_port": str(port), "web_server_ssl_cert": str(certificate), "web_server_ssl_key": str(key)}
    with daemons.running("webserver", home, **{f"webserver__{name}": value for name, value in settings.items()}) as it:
        it.wait_for_line("listening on https://")
        trusted = ssl.create_default_context(cafile=str(certificate))
        assert get(f"https://localhost:{port}/livez", context=trusted)[0] == 200
        with pytest.raises(OSError):
            get(f"http://localhost:{port}/livez")


def test_standalone_serves_pages_and_takes_its_webserver_with_it(home: Path) -> None:
    port = free_port()
    settings = {"webserver__enabled": "yes", "webserver__web_server_port": str(port)}
    with daemons.running("standalone", home, **settings) as standalone:
        standalone.wait_for_line(f"listening on http://127.0.0.1:{port}", timeout=60)
        assert get(f"http://127.0.0.1:{port}/livez")[0] == 200
        # Nothing of it may keep the port of the next one, whatever happened to the supervisor.
        standalone.stop(signal.SIGKILL)
        wait_until(lambda: not _listens(port), 20)
    with daemons.running("standalone", home, **settings) as standalone:
        standalone.wait_for_line(f"listening on http://127.0.0.1:{port}", count=2, timeout=60)
        assert standalone.stop() == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
