"""Asks MariaDB or MySQL a few questions over the wire: a probe must not pay for importing a driver (PyMySQL: 0.1 s).

Text protocol, no TLS, passwords by mysql_native_password or the short way of caching_sha2_password. Whatever else a
server wants is `Unsupported`, and PyMySQL does it. Protocol: https://mariadb.com/kb/en/clientserver-protocol/.
"""

from __future__ import annotations

import hashlib
import socket
import time

_LONG_PASSWORD, _LONG_FLAG, _WITH_DATABASE = 0x1, 0x4, 0x8
_PROTOCOL_41, _TRANSACTIONS, _SECURE, _PLUGINS = 0x200, 0x2000, 0x8000, 0x80000
_UTF8MB4 = 45
_QUERY, _QUIT = b"\x03", b"\x01"
_OK, _MORE, _NULL, _END, _ERROR = 0x00, 0x01, 0xFB, 0xFE, 0xFF
_FAST_ENOUGH = 0x03


class MysqlError(Exception):
    """What the server said (`args`: code, text), or code 2003 or 2013 when there was no server to say it."""


class Unsupported(Exception):
    """The server wants something that only a whole driver can do."""


class Connection:
    """One connection in autocommit. All values come back as text, NULL as None.

    `timeout` in seconds holds for the connection and for each query. Raises MysqlError, TimeoutError, Unsupported.
    """

    def __init__(
        self, host: str, port: int, unix_socket: str | None, user: str, password: str, database: str, timeout: float
    ) -> None:
        self._timeout = timeout
        self._buffer = b""
        self._number = 0
        self._deadline = time.monotonic() + timeout
        self._socket = _connect(host, port, unix_socket, timeout)
        try:
            self._log_in(user, password, database)
        except BaseException:
            self._socket.close()
            raise

    def query(self, sql: str) -> list[tuple[str | None, ...]]:
        self._deadline = time.monotonic() + self._timeout
        self._number = 0
        self._send(_QUERY + sql.encode())
        first = self._receive()
        if first[0] == _OK:
            return []
        columns, _ = _integer(first, 0)
        for _ in range(columns or 0):
            self._receive()
        self._receive()  # the end of the column definitions
        rows = []
        while not _is_end(row := self._receive()):
            rows.append(_row(row))
        return rows

    def close(self) -> None:
        try:
            self._number = 0
            self._send(_QUIT)
        except (OSError, MysqlError):
            pass  # it is gone already
        finally:
            self._socket.close()

    def _log_in(self, user: str, password: str, database: str) -> None:
        hello = self._receive()
        if hello[0] != 10:
            raise Unsupported(f"protocol {hello[0]}")
        at = hello.index(0, 1) + 5  # after the server's version and the thread's id
        seed = hello[at : at + 8]
        offered = (
            int.from_bytes(hello[at + 9 : at + 11], "little") | int.from_bytes(hello[at + 14 : at + 16], "little") << 16
        )
        length = max(13, hello[at + 16] - 8)
        seed += hello[at + 27 : at + 27 + length].rstrip(b"\0")
        plugin = (
            hello[at + 27 + length :].split(b"\0", 1)[0].decode() if offered & _PLUGINS else "mysql_native_password"
        )
        if not offered & _SECURE or not offered & _PROTOCOL_41:
            raise Unsupported("a server from before MySQL 4.1")
        wanted = _LONG_PASSWORD | _LONG_FLAG | _WITH_DATABASE | _PROTOCOL_41 | _TRANSACTIONS | _SECURE | _PLUGINS
        known = plugin if plugin in _PLUGIN_ANSWERS else "mysql_native_password"
        answer = _PLUGIN_ANSWERS[known](password.encode(), seed)
        self._send(
            (wanted & (offered | _WITH_DATABASE)).to_bytes(4, "little")
            + (1 << 24).to_bytes(4, "little")
            + bytes([_UTF8MB4])
            + bytes(23)
            + user.encode()
            + b"\0"
            + bytes([len(answer)])
            + answer
            + database.encode()
            + b"\0"
            + known.encode()
            + b"\0"
        )
        while (packet := self._receive())[0] != _OK:
            if packet[0] == _END and len(packet) > 1:
                name, _, seed = packet[1:].partition(b"\0")
                if name.decode() not in _PLUGIN_ANSWERS:
                    raise Unsupported(f"passwords by {name.decode()}")
                self._send(_PLUGIN_ANSWERS[name.decode()](password.encode(), seed.rstrip(b"\0")))
            elif packet[0] != _MORE or packet[1:2] != bytes([_FAST_ENOUGH]):
                raise Unsupported("a longer exchange about the password")

    def _send(self, payload: bytes) -> None:
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(len(payload).to_bytes(3, "little") + bytes([self._number]) + payload)
        except TimeoutError:
            raise
        except OSError as error:
            raise MysqlError(2013, f"the connection was lost: {error}") from error
        self._number = (self._number + 1) % 256

    def _receive(self) -> bytes:
        """One packet. MysqlError when it is an error."""
        head = self._take(4)
        self._number = (head[3] + 1) % 256
        length = int.from_bytes(head[:3], "little")
        if length == 0xFFFFFF:
            raise Unsupported("an answer of more than 16 MiB")
        payload = self._take(length)
        if payload[:1] == bytes([_ERROR]):
            text = payload[9:] if payload[3:4] == b"#" else payload[3:]
            raise MysqlError(int.from_bytes(payload[1:3], "little"), text.decode(errors="replace"))
        return payload

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                self._socket.settimeout(self._left())
                more = self._socket.recv(65_536)
            except TimeoutError:
                raise TimeoutError(f"no answer to a statement within {self._timeout:g} s") from None
            except OSError as error:
                raise MysqlError(2013, f"the connection was lost: {error}") from error
            if not more:
                raise MysqlError(2013, "the server closed the connection")
            self._buffer += more
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no answer to a statement within {self._timeout:g} s")
        return left


def _connect(host: str, port: int, unix_socket: str | None, timeout: float) -> socket.socket:
    try:
        if unix_socket:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            made.settimeout(timeout)
            made.connect(unix_socket)
            return made
        made = socket.create_connection((host, port), timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except TimeoutError as error:
        raise TimeoutError(f"no connection within {timeout:g} s") from error
    except OSError as error:
        raise MysqlError(2003, f"no connection to {unix_socket or f'{host}:{port}'}: {error}") from error


def _native(password: bytes, seed: bytes) -> bytes:
    if not password:
        return b""
    once = hashlib.sha1(password, usedforsecurity=False).digest()
    twice = hashlib.sha1(once, usedforsecurity=False).digest()
    return _exclusive_or(once, hashlib.sha1(seed[:20] + twice, usedforsecurity=False).digest())


def _caching_sha2(password: bytes, seed: bytes) -> bytes:
    if not password:
        return b""
    once = hashlib.sha256(password).digest()
    twice = hashlib.sha256(once).digest()
    return _exclusive_or(once, hashlib.sha256(twice + seed[:20]).digest())


_PLUGIN_ANSWERS = {"mysql_native_password": _native, "caching_sha2_password": _caching_sha2}


def _exclusive_or(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))


def _is_end(packet: bytes) -> bool:
    return packet[:1] == bytes([_END]) and len(packet) < 9


def _integer(packet: bytes, at: int) -> tuple[int | None, int]:
    """A length-encoded integer and where it ends; None for NULL."""
    first = packet[at]
    if first < _NULL:
        return first, at + 1
    if first == _NULL:
        return None, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(packet[at + 1 : at + 1 + size], "little"), at + 1 + size


def _row(packet: bytes) -> tuple[str | None, ...]:
    values: list[str | None] = []
    at = 0
    while at < len(packet):
        length, at = _integer(packet, at)
        if length is None:
            values.append(None)
        else:
            values.append(packet[at : at + length].decode(errors="replace"))
            at += length
    return tuple(values)
