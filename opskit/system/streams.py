"""Transformations of byte streams in constant memory: compression, and the comparison with what was promised."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator

from opskit.errors import VerificationFailed

_GZIP = 31
"""zlib's window size for gzip's format: `gunzip` reads it without us."""


def gzipped(chunks: Iterable[bytes], level: int) -> Iterator[bytes]:
    compressor = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    for chunk in chunks:
        if packed := compressor.compress(chunk):
            yield packed
    yield compressor.flush()


def gunzipped(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """Raises VerificationFailed when the stream is damaged or ends early."""
    expander = zlib.decompressobj(_GZIP)
    try:
        for chunk in chunks:
            piece = expander.decompress(chunk, 1 << 20)
            while piece:
                yield piece
                piece = expander.decompress(expander.unconsumed_tail, 1 << 20) if expander.unconsumed_tail else b""
    except zlib.error as error:
        raise VerificationFailed(f"{what} is damaged: {error}") from error
    if not expander.eof or expander.unused_data:
        raise VerificationFailed(f"{what} is damaged: it does not end as it should")


def checked(chunks: Iterable[bytes], what: str, *, size_bytes: int, sha256: str) -> Iterator[bytes]:
    """The same stream; VerificationFailed at its end (or as soon as it is too long) unless size and hash are these."""
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > size_bytes:
            break
        digest.update(chunk)
        yield chunk
    if size != size_bytes:
        longer = "more than " if size > size_bytes else ""
        raise VerificationFailed(f"{what} has {longer}{min(size, size_bytes)} bytes, {size_bytes} were written")
    if digest.hexdigest() != sha256:
        raise VerificationFailed(f"{what} is damaged: its SHA-256 is not the one that was written down")


def counted(chunks: Iterable[bytes], report: Callable[[int], None]) -> Iterator[bytes]:
    """The same stream; `report` is called with the bytes so far after each piece."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        yield chunk
        report(size)
