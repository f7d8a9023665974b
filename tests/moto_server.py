"""A real S3 API for tests: moto's server in a process of its own."""

from __future__ import annotations

import http.client
import secrets
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from tests import strays
from tests.services import missing
from tests.waiting import wait_until

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class S3:
    """One running server. Buckets are made by name or with a name of their own."""

    port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def make_bucket(self, name: str | None = None, **options: Any) -> str:
        """The name of a new, empty bucket."""
        name = name or f"opskit-{secrets.token_hex(5)}"
        self.client().create_bucket(Bucket=name, **options)
        return name

    def reset(self) -> None:
        """Forget all buckets."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST", "/moto-api/reset")
            assert connection.getresponse().status == 200
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        strays.expected.discard(self.process.pid)


def start() -> S3:
    try:
        import moto.server  # noqa: F401
    except ImportError:
        missing("moto's server is not installed")
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        strays.expected.add(process.pid)
        server = S3(port, process)
        try:
            ready = wait_until(lambda s=server: _ready(s), timeout=60, every=0.1, what="moto's server answers")  # type: ignore[misc]
        except BaseException:
            server.stop()
            raise
        if ready == "ready":
            return server
        strays.expected.discard(process.pid)  # another process took the port first: take another one
    raise AssertionError("moto's server found no free port")


def _ready(server: S3) -> str:
    if server.process.poll() is not None:
        return "ended"
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return "ready"
    except OSError:
        return ""
