"""Transformations of byte streams in constant memory: compression, comparison with what was promised, pumps, limits."""

from __future__ import annotations

import hashlib
import io
import queue
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from opskit.errors import VerificationFailed

_GZIP = 31
"""zlib's window size for gzip's format: `gunzip` reads it without us."""
_PIECE_BYTES = 256 << 10
_PUMPED_BYTES = 256 << 10
_PUMPED_PIECES = 4
_BLOCKED_SECONDS = 1.0
"""How long the end of a pump waits for a source that gives nothing: whoever owns that source ends it next."""


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
            piece = expander.decompress(chunk, _PIECE_BYTES)
            while piece:
                yield piece
                piece = expander.decompress(expander.unconsumed_tail, _PIECE_BYTES) if expander.unconsumed_tail else b""
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


class Measured:
    """Size and SHA-256 of a stream, known once it has gone by."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def through(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._digest.update(chunk)
            self.size_bytes += len(chunk)
            yield chunk


@contextmanager
def pumped(work: Callable[[io.RawIOBase, io.RawIOBase], None], chunks: Iterable[bytes]) -> Iterator[Iterator[bytes]]:
    """What `work(source, target)` writes while it reads `chunks`, as a stream; it runs in a thread of its own.

    An error of `chunks` is raised by the stream as itself, and so is one of `work`. When the block ends early, `work`
    is stopped at its next read or write.
    """
    pieces: queue.Queue[bytes | None] = queue.Queue(_PUMPED_PIECES)
    stopped = threading.Event()
    source, target = _Source(iter(chunks), stopped), _Target(pieces, stopped)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work(source, target)
            target.end()
        except BaseException as error:  # noqa: BLE001 -- the stream raises it
            errors.append(source.error or error)
        finally:
            while not stopped.is_set():
                with suppress(queue.Full):
                    pieces.put(None, timeout=0.1)
                    break

    def stream() -> Iterator[bytes]:
        while (piece := pieces.get()) is not None:
            yield piece
        if errors:
            raise errors[0]

    worker = threading.Thread(target=run, name="pump", daemon=True)
    worker.start()
    try:
        yield stream()
    finally:
        stopped.set()
        with suppress(queue.Empty):
            while True:
                pieces.get_nowait()
        worker.join(_BLOCKED_SECONDS)


class _Source(io.RawIOBase):
    def __init__(self, chunks: Iterator[bytes], stopped: threading.Event) -> None:
        self._chunks, self._stopped = chunks, stopped
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._stopped.is_set():
            raise OSError("nobody wants it any more")
        try:
            while not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return b""
                self._rest = memoryview(chunk)
        except BaseException as error:
            self.error = error  # what reads from us would pass on its text at best
            raise
        piece = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(piece) :]
        return bytes(piece)


class _Target(io.RawIOBase):
    def __init__(self, pieces: queue.Queue[bytes | None], stopped: threading.Event) -> None:
        self._pieces, self._stopped = pieces, stopped
        self._gathered = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._gathered += data
        if len(self._gathered) >= _PUMPED_BYTES:
            self.end()
        return len(data)

    def end(self) -> None:
        """Hand on what was gathered."""
        piece, self._gathered = bytes(self._gathered), bytearray()
        while piece:
            if self._stopped.is_set():
                raise OSError("nobody wants it any more")
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=0.1)
                return


def limited(
    chunks: Iterable[bytes],
    bytes_per_second: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """The same stream, not faster than this on average; 0: as fast as it goes. A pause gives no credit for later."""
    if bytes_per_second <= 0:
        yield from chunks
        return
    free_at = clock()
    for chunk in chunks:
        yield chunk
        free_at = max(free_at, clock()) + len(chunk) / bytes_per_second
        wait = free_at - clock()
        if wait > 0:
            sleep(wait)
