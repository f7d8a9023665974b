"""The calls of Docker's API that DockerOperator makes, answered by a small server over a Unix socket."""

from __future__ import annotations

import io
import json
import pickle
import socketserver
import struct
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Engine(socketserver.ThreadingUnixStreamServer):
    """`code` and `lines` are how containers end; `created` is what they were made of, `calls` what was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.images = ["known:1"]
        self.code = 0
        self.lines = ["first", "last"]
        self.sees_host = True
        self.created: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.started = threading.Event()
        super().__init__(str(path), _Call)

    @property
    def url(self) -> str:
        return f"unix://{self.path}"


class _Call(BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, blocks: list[bytes]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for block in [*blocks, b""]:
            self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")

    def serve(self) -> None:
        engine = self.server
        parts = urlsplit(self.path)
        path = "/" + parts.path.lstrip("/").partition("/")[2] if parts.path.startswith("/v1") else parts.path
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"null")
        engine.calls.append(f"{self.command} {path}")
        if path == "/version":
            self.answer({"ApiVersion": "1.45", "MinAPIVersion": "1.24"})
        elif path == "/images/json":
            self.answer([{"Id": name} for name in engine.images if name in parts.query or name == query.get("reference")
                         or name in query.get("filters", "")])  # fmt: skip
        elif path == "/images/create":
            engine.images.append(f"{query['fromImage']}:{query.get('tag', 'latest')}")
            lines = [json.dumps({"status": status, "id": "a"}).encode() + b"\n" for status in ("Downloading", "Done")]
            self.stream(lines)
        elif path == "/containers/create":
            if not engine.sees_host and body["HostConfig"].get("Mounts"):
                folder = body["HostConfig"]["Mounts"][0]["Source"]
                self.answer({"message": f"bind source path does not exist: {folder}"}, 400)
                return
            engine.created.append({**body, "name": query.get("name")})
            self.answer({"Id": "c1", "Warnings": []}, 201)
        elif path == "/containers/c1/json":
            self.answer({"Id": "c1", "Config": {"Tty": False}})
        elif path == "/containers/c1/attach":
            # The connection becomes a stream, on which something comes when the container has been started.
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            if engine.started.wait(20):
                self.wfile.write(b"".join(_frame(line) for line in engine.lines))
            engine.started.clear()
        elif path == "/containers/c1/logs":
            lines = engine.lines[-int(query["tail"]) :] if query.get("tail", "all") != "all" else engine.lines
            self.stream([_frame(line) for line in lines])
        elif path == "/containers/c1/start":
            engine.started.set()
            self.answer(b"", 204)
        elif path == "/containers/c1/wait":
            self.answer({"StatusCode": engine.code})
        elif path == "/containers/c1/archive":
            if query["path"] != "/out":
                self.answer({"message": "no such file"}, 404)
                return
            data = pickle.dumps({"answer": 42})
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as archive:
                member = tarfile.TarInfo("out")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            self.answer(packed.getvalue(), kind="application/x-tar", X_Docker_Container_Path_Stat="e30=")
        elif self.command == "DELETE":
            engine.calls[-1] += " force" if query.get("force") in ("1", "True", "true") else ""
            self.answer(b"", 204)
        elif path == "/containers/c1/stop":
            self.answer(b"", 204)
        else:
            self.answer({"message": f"not here: {path}"}, 404)

    do_GET = do_POST = do_DELETE = serve  # noqa: N815


def _frame(line: str) -> bytes:
    return struct.pack(">BxxxL", 1, len(line) + 1) + line.encode() + b"\n"


@contextmanager
def docker_engine(folder: Path) -> Iterator[Engine]:
    engine = Engine(folder / "docker.sock")
    thread = threading.Thread(target=lambda: engine.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield engine
    finally:
        engine.shutdown()
        thread.join()
        engine.server_close()
