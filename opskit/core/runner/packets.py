"""Messages between the processes of one worker: packets, so that a killed process leaves no half message.

A packet is a kind (one letter), a number (whom it concerns) and bytes. What is larger than a packet may be travels
as an anonymous file whose descriptor is passed along.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from dataclasses import dataclass, field

INLINE = 48 * 1024
"""Larger payloads go as a file: the kernel bounds what is on its way between two sockets (about 200 KiB)."""
LARGEST = 256 * 1024 * 1024
_HEADER = struct.Struct("!cBI")
_IN_PACKET, _IN_FILE = 0, 1
_ANCILLARY = socket.CMSG_SPACE(8 * array.array("i").itemsize)
_buffer = bytearray(_HEADER.size + INLINE)


@dataclass(slots=True)
class Packet:
    kind: bytes
    number: int
    data: bytes
    descriptors: list[int] = field(default_factory=list)
    """Passed along; the receiver closes them."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(end: socket.socket, kind: bytes, number: int, data: bytes = b"", descriptors: tuple[int, ...] = ()) -> None:
    """Send one packet, whole or not at all. BlockingIOError on a non-blocking end that is full; BrokenPipeError or
    ConnectionResetError when the other end is gone."""
    if len(data) <= INLINE:
        message = _HEADER.pack(kind, _IN_PACKET, number) + data
        if descriptors:
            socket.send_fds(end, [message], list(descriptors))
        else:
            end.send(message)
        return
    if len(data) > LARGEST:
        raise ValueError(f"{len(data)} bytes are more than a process may report")
    file = os.memfd_create("opskit-packet", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as writer:
            writer.write(data)
        socket.send_fds(end, [_HEADER.pack(kind, _IN_FILE, number)], [file, *descriptors])
    finally:
        os.close(file)


def receive(end: socket.socket, flags: int = 0) -> Packet | None:
    """The next packet; None when the other end is gone. With MSG_DONTWAIT: BlockingIOError when there is none."""
    try:
        size, ancillary, _, _ = end.recvmsg_into([_buffer], _ANCILLARY, flags | socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return None
    if size < _HEADER.size:
        return None
    kind, form, number = _HEADER.unpack_from(_buffer)
    descriptors: list[int] = []
    for level, type_, data in ancillary:
        if level == socket.SOL_SOCKET and type_ == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            descriptors.extend(numbers)
    if form == _IN_PACKET:
        return Packet(kind, number, bytes(memoryview(_buffer)[_HEADER.size : size]), descriptors)
    file = descriptors.pop(0)
    try:
        return Packet(kind, number, _read(file), descriptors)
    finally:
        os.close(file)


def _read(file: int) -> bytes:
    size = os.fstat(file).st_size
    if size > LARGEST:
        raise ValueError(f"a process reports {size} bytes")
    parts = []
    at = 0
    while at < size:
        part = os.pread(file, size - at, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
    return b"".join(parts)
