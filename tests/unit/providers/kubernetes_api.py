"""The calls of the Kubernetes API that KubernetesPodOperator makes, answered by a small server."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Api(ThreadingHTTPServer):
    """`code` is how the main container ends, `xcom` what it writes; `pods` are those that are there, `made` all that
    were, `deleted` their names."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.code = 0
        self.xcom = '{"answer": 42}'
        self.starts = True
        self.lines = ["hello", "bye"]
        self.pods: dict[str, dict[str, Any]] = {}
        self.made: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.commands: list[str] = []
        super().__init__(("127.0.0.1", 0), _Call)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def state(self, pod: dict[str, Any]) -> dict[str, Any]:
        if not self.starts:
            waiting = {"name": "base", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
            return {"phase": "Pending", "containerStatuses": [_status(waiting)]}
        sidecar = len(pod["spec"]["containers"]) > 1 and not any("kill" in command for command in self.commands)
        phase = "Running" if sidecar else "Succeeded" if self.code == 0 else "Failed"
        ended = {"name": "base", "state": {"terminated": {"exitCode": self.code, "reason": "Completed"}}}
        return {"phase": phase, "containerStatuses": [_status(ended)]}


def _status(values: dict[str, Any]) -> dict[str, Any]:
    return {"image": "i", "imageID": "i", "ready": False, "restartCount": 0, **values}


class _Call(BaseHTTPRequestHandler):
    server: Api

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, value: Any, status: int = 200) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(value, bytes) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def serve(self) -> None:
        api = self.server
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        names = parts.path.strip("/").split("/")  # api v1 namespaces NS pods NAME WHAT
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.command == "POST":
            api.made.append(body)
            api.pods[body["metadata"]["name"]] = body
            self.answer(body, 201)
        elif len(names) == 5:
            wanted = dict(pair.split("=") for pair in query.get("labelSelector", [""])[0].split(",") if pair)
            found = [pod for pod in api.pods.values() if wanted.items() <= pod["metadata"]["labels"].items()]
            self.answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [self.full(p) for p in found]})
        elif names[5] not in api.pods:
            self.answer({"kind": "Status", "reason": "NotFound", "code": 404}, 404)
        elif self.command == "DELETE":
            api.deleted.append(names[5])
            self.answer(self.full(api.pods.pop(names[5])))
        elif names[-1] == "log":
            stamped = [f"2024-01-01T00:00:0{n}Z {line}" for n, line in enumerate(api.lines)]
            self.answer(("\n".join(stamped) + "\n").encode())
        elif names[-1] == "exec":
            api.commands.append(query["command"][-1])
            self.converse(api.xcom if "cat" in query["command"][-1] else "")
        else:
            self.answer(self.full(api.pods[names[5]]))

    def full(self, pod: dict[str, Any]) -> dict[str, Any]:
        return {**pod, "status": self.server.state(pod)}

    def converse(self, output: str) -> None:
        """One command over a web socket: its output, its end."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept)
        self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
        self.end_headers()
        for channel, text in ((1, output), (3, '{"metadata": {}, "status": "Success"}')):
            payload = bytes([channel]) + text.encode()
            self.wfile.write(bytes([0x82, len(payload)]) + payload)
        self.wfile.write(bytes([0x88, 2]) + (1000).to_bytes(2, "big"))
        self.close_connection = True

    do_GET = do_POST = do_DELETE = serve  # noqa: N815


@contextmanager
def kubernetes_api() -> Iterator[Api]:
    api = Api()
    thread = threading.Thread(target=lambda: api.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield api
    finally:
        api.shutdown()
        thread.join()
        api.server_close()
