# ruff: noqa: UP006, UP035 -- it runs on Python 3.7 too
"""How a node hears requests and answers them. Sent to the nodes with `deploy_node`.

A request is a 4-byte big-endian length and a marshalled dictionary (the node runs our source, so it may as well trust
our data, and needs no `json`); a payload may follow it. An answer is a length and a JSON object: here nothing is
trusted.
"""

from __future__ import annotations

import marshal
import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

    Json = Dict[str, Any]
else:
    Json = dict

MARKER = b"opskit-node-2\n"
_CHUNK = 1 << 18


class Payload:
    """The next `size` bytes of the input as a file."""

    def __init__(self, size: int) -> None:
        self.rest = size

    def read(self) -> bytes:
        """Some of them; empty at the end. EOFError when the connection ends before."""
        data = os.read(0, min(self.rest, _CHUNK)) if self.rest else b""
        if self.rest and not data:
            raise EOFError
        self.rest -= len(data)
        return data


def receive(idle: float) -> tuple[Json, Payload] | None:
    """The next request; None when there was none for so many seconds. EOFError at the end of the connection."""
    if not select.select([0], [], [], idle)[0]:
        return None
    request = marshal.loads(read_exactly(int.from_bytes(read_exactly(4), "big")))  # noqa: S302 -- from whose code we are
    return request, Payload(request["payload"])


def read_exactly(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(0, min(size, _CHUNK))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def answer(out: int, value: Json) -> None:
    data = to_json(value).encode("ascii")
    send(out, len(data).to_bytes(4, "big") + data)


def send(out: int, data: bytes) -> None:
    while data:
        data = data[os.write(out, data) :]


def to_json(value: Any) -> str:
    """What `json.dumps` gives, in ASCII, for what answers and records are made of."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([to_json(item) for item in value]) + "]"
    return "{" + ",".join([_string(key) + ":" + to_json(item) for key, item in value.items()]) + "}"


def _string(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    if not (text.isascii() and text.isprintable()):
        text = "".join([character if " " <= character <= "~" else _escaped(ord(character)) for character in text])
    return '"' + text + '"'


def _escaped(code: int) -> str:
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
