"""Reads what the process of a job prints, and ends it when that is too much or takes too long."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable

GRACE_SECONDS = 15.0
"""Between SIGTERM and SIGKILL: what was begun is taken back meanwhile."""
_TELL_EVERY_SECONDS = 1.0
_MOST_BYTES = 4 << 20
_MESSAGE_BYTES = 16 << 10


def follow(process: subprocess.Popen[bytes], seconds: float, told: Callable[[bytes], None]) -> tuple[bytes, bytes, str]:
    """Output, the last of what it said on stderr, and why it was ended (empty: it ended by itself). `told` hears at
    times what it has said so far."""
    assert process.stdout is not None and process.stderr is not None
    output, message, why = bytearray(), bytearray(), ""
    until = time.monotonic() + seconds
    killed, untold, told_at = False, False, 0.0
    with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, min(_TELL_EVERY_SECONDS, until - time.monotonic()))):
                chunk = os.read(key.fd, 64 << 10)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += chunk[: _MOST_BYTES + 1 - len(output)]
                else:
                    message += chunk
                    del message[:-_MESSAGE_BYTES]
                    untold = True
            if untold and time.monotonic() - told_at > _TELL_EVERY_SECONDS:
                untold, told_at = False, time.monotonic()
                told(bytes(message))
            if not why and len(output) > _MOST_BYTES:
                why = f"it printed more than {_MOST_BYTES >> 20} MiB, and was ended"
            elif not why and time.monotonic() >= until:
                why = f"it took more than {seconds:g} s, and was ended"
            elif why and not killed and time.monotonic() >= until:
                killed = True
                signal_group(process, signal.SIGKILL)
                break  # a grandchild may hold the pipes
            else:
                continue
            signal_group(process, signal.SIGTERM)
            until = time.monotonic() + GRACE_SECONDS
    return bytes(output), bytes(message), why


def text_of(message: bytes) -> str:
    return message.decode(errors="replace").strip()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To it and to all that it started: it leads a group of its own."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            pass
