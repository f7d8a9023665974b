"""Passwords that were right not long ago, so that not every request costs a scrypt: for all processes of a webserver.

It answers without the limits of signing in, so an address gets few wrong answers from it, and then none at all,
whichever process it asks.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import mmap
import os
import secrets
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_WRONG_A_MINUTE = 5
_PLACES = 4096
_MARK = struct.Struct("=32sd")
_WRONG = struct.Struct(f"={_WRONG_A_MINUTE}d")


class KnownPasswords:
    """Kept are HMACs under a key that lives in memory alone, over the stored hash, too: with another password, what is
    known here is worth nothing. Forks share key and memory, so it must be made before them. Thread-safe.

    A mark has one place, where another one may take it. Wrong answers are counted by place, too: addresses that fall on
    the same share their count, so that nobody gets more answers by having many.
    """

    def __init__(self, seconds: float = 300.0) -> None:
        self._key = secrets.token_bytes(32)
        self._seconds = seconds
        self._marks = _PLACES * _WRONG.size
        # A lock of its kernel goes with the process that holds it, and is each process's own after a fork.
        self._file = os.memfd_create("opskit-known-passwords", os.MFD_CLOEXEC)
        os.ftruncate(self._file, self._marks + _PLACES * _MARK.size)
        self._memory = mmap.mmap(self._file, 0)
        self._lock = threading.Lock()
        self._turns = [threading.Lock() for _ in range(256)]

    def knows(self, stored: str, password: str, address: str) -> bool:
        """The same as `holds` where that is True, without waiting for anybody; False says nothing, and counts for
        nothing. What another process is just writing does not match."""
        now = time.monotonic()
        wrong = _WRONG.unpack_from(self._memory, self._place(self._digest(address)) * _WRONG.size)
        if min(wrong) > now - 60.0:
            return False
        mark = self._mark(stored, password, address)
        known, until = _MARK.unpack_from(self._memory, self._marks + self._place(mark) * _MARK.size)
        return hmac.compare_digest(known, mark) and until > now

    def holds(self, stored: str, password: str, address: str) -> bool:
        """Whether this is known to be right, from this address."""
        now = time.monotonic()
        mark = self._mark(stored, password, address)
        place = self._place(self._digest(address)) * _WRONG.size
        with self._alone():
            wrong = sorted(_WRONG.unpack_from(self._memory, place))
            if wrong[0] and wrong[0] > now - 60.0:
                return False
            known, until = _MARK.unpack_from(self._memory, self._marks + self._place(mark) * _MARK.size)
            if hmac.compare_digest(known, mark) and until > now:
                return True
            _WRONG.pack_into(self._memory, place, *wrong[1:], now)
            return False

    def remember(self, stored: str, password: str, address: str) -> None:
        """It was right."""
        mark = self._mark(stored, password, address)
        until = time.monotonic() + self._seconds
        with self._alone():
            _MARK.pack_into(self._memory, self._marks + self._place(mark) * _MARK.size, mark, until)

    @contextmanager
    def turn(self, username: str, password: str, address: str) -> Iterator[None]:
        """Those who send the same from the same address come one after the other, whichever process they ask."""
        place = self._place(self._digest(f"{username}\0{address}\0{password}"))
        with self._turns[place % len(self._turns)]:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 1 + place)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 1 + place)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 0)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0)

    def _place(self, digest: bytes) -> int:
        return int.from_bytes(digest[:8], "big") % _PLACES

    def _mark(self, stored: str, password: str, address: str) -> bytes:
        return self._digest(f"{stored}\0{address}\0{password}")

    def _digest(self, text: str) -> bytes:
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
