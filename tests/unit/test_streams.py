"""Compression and comparison of streams."""

from __future__ import annotations

import gzip
import hashlib
import random
import tracemalloc
from collections.abc import Iterator

import pytest

from opskit.errors import VerificationFailed
from opskit.system.streams import checked, gunzipped, gzipped

TEXT = b"".join(b"%d," % number for number in range(200_000))


def pieces(content: bytes, size: int = 10_007) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def test_what_is_packed_can_be_unpacked_by_gunzip_and_by_us() -> None:
    packed = b"".join(gzipped(pieces(TEXT), 3))
    assert gzip.decompress(packed) == TEXT
    assert b"".join(gunzipped(pieces(packed), "x")) == TEXT
    assert b"".join(gunzipped(gzipped([], 3), "x")) == b""


def test_damage_in_a_packed_stream_is_found() -> None:
    packed = b"".join(gzipped(pieces(TEXT), 3))
    for damaged in (packed[:-1], packed[: len(packed) // 2], b"", packed + b"x", b"\x00" + packed[1:]):
        with pytest.raises(VerificationFailed):
            b"".join(gunzipped(pieces(damaged), "x"))


def test_a_small_stream_that_unpacks_to_much_is_given_in_pieces() -> None:
    packed = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        assert sum(map(len, gunzipped([packed], "x"))) == 64 << 20
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_stream_that_is_what_was_promised_passes_unchanged() -> None:
    promised = {"size_bytes": len(TEXT), "sha256": hashlib.sha256(TEXT).hexdigest()}
    assert b"".join(checked(pieces(TEXT), "x", **promised)) == TEXT


@pytest.mark.parametrize("change", ["shorter", "longer", "flipped"])
def test_a_stream_that_is_not_what_was_promised_is_found(change: str) -> None:
    damaged = bytearray(TEXT)
    if change == "shorter":
        del damaged[-1:]
    elif change == "longer":
        damaged += b"x"
    else:
        damaged[random.randrange(len(damaged))] ^= 1
    with pytest.raises(VerificationFailed):
        b"".join(checked(pieces(bytes(damaged)), "x", size_bytes=len(TEXT), sha256=hashlib.sha256(TEXT).hexdigest()))
