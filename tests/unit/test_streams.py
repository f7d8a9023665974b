"""Compression and comparison of streams."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from opskit.errors import VerificationFailed
from opskit.system.streams import checked, gunzipped, gzipped, limited, pumped

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


def upper(source: io.RawIOBase, target: io.RawIOBase) -> None:
    while piece := source.read(8_192):
        target.write(piece.replace(b",", b";"))


def test_a_pump_gives_what_its_work_writes() -> None:
    for content in (TEXT, b"", b"1,"):
        with pumped(upper, pieces(content)) as stream:
            assert b"".join(stream) == content.replace(b",", b";")


def test_an_error_of_the_source_comes_out_of_a_pump_as_itself() -> None:
    def broken() -> Iterator[bytes]:
        yield TEXT
        raise VerificationFailed("the dump failed")

    with pytest.raises(VerificationFailed, match="the dump failed"), pumped(upper, broken()) as stream:
        b"".join(stream)


def test_a_pump_that_nobody_reads_ends() -> None:
    read = []

    def endless() -> Iterator[bytes]:
        while True:
            read.append(1)
            yield TEXT

    with pumped(upper, endless()) as stream:
        next(stream)
    assert [thread for thread in threading.enumerate() if thread.name == "pump"] == []
    assert len(read) < 20


def test_a_limited_stream_takes_its_time_and_is_unchanged() -> None:
    slept: list[float] = []
    assert b"".join(limited(pieces(TEXT), 100_000, clock=lambda: sum(slept), sleep=slept.append)) == TEXT
    assert sum(slept) == pytest.approx(len(TEXT) / 100_000)
    slept.clear()
    assert b"".join(limited(pieces(TEXT), 0, clock=lambda: 0.0, sleep=slept.append)) == TEXT
    assert slept == []
