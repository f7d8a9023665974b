"""One watcher per process looks at the metastore for all who listen, and only while somebody does."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import threading
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from opskit.core.metastore.engine import Connection
from opskit.errors import MetastoreUnavailable
from opskit.system.wake import WakeSocket
from opskit.web.store import Store
from opskit.web.topics import Topic

log = logging.getLogger(__name__)

EVERY_SECONDS = 1.0
"""Between two looks, when nobody wakes it."""
SHORTEST_SECONDS = 0.25
"""Between two looks, however often it is woken."""
LINGER_SECONDS = 10.0
"""How long a topic is watched on when its last listener has left: he may only have gone to the next page."""
_TOPICS_AT_ONCE = 200
"""In one statement."""
Look = Callable[[Connection, Collection[Topic]], dict[Topic, str]]


@dataclass(eq=False, slots=True)
class Listener:
    """One open page. `changed` is set in the event loop of the page's request."""

    topic: Topic
    loop: asyncio.AbstractEventLoop
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    seen: asyncio.Event = field(default_factory=asyncio.Event)
    """The topic has been looked at."""
    fingerprint: str = ""
    since: float = 0.0
    """Unix time from which on no change has been seen."""
    over: bool = False
    """The process ends."""


@dataclass(slots=True)
class _Watched:
    listeners: set[Listener] = field(default_factory=set)
    fingerprint: str | None = None
    since: float = 0.0
    left_at: float = 0.0


class Watcher:
    """Started by the first listener; its thread ends some seconds after the last one."""

    def __init__(self, store: Store, look: Look) -> None:
        self._store = store
        self._look = look
        self._lock = threading.Lock()
        self._watched: dict[Topic, _Watched] = {}
        self._thread: threading.Thread | None = None
        self._closing = False
        self._signal_out, self._signal_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.looks = 0
        """Times that the metastore was asked."""

    @property
    def listeners(self) -> int:
        """How many listen now."""
        with self._lock:
            return sum(len(one.listeners) for one in self._watched.values())

    @property
    def is_awake(self) -> bool:
        """Whether the metastore is looked at."""
        with self._lock:
            return self._thread is not None

    def listen(self, topic: Topic) -> Listener:
        """Called in an event loop. Wait for `seen`, then for `changed`; end with `leave`."""
        listener = Listener(topic, asyncio.get_running_loop())
        with self._lock:
            watched = self._watched.setdefault(topic, _Watched())
            watched.listeners.add(listener)
            if watched.fingerprint is not None:
                _show(listener, watched.fingerprint, watched.since)
            if self._closing:
                _end(listener)
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live", daemon=True)
                self._thread.start()
            else:
                self._signal()
        return listener

    def leave(self, listener: Listener) -> None:
        """Listen no longer."""
        with self._lock:
            watched = self._watched.get(listener.topic)
            if watched is not None:
                watched.listeners.discard(listener)
                watched.left_at = time.monotonic()

    def close(self) -> None:
        """Tell all listeners that the process ends. May be called in a signal handler."""
        self._closing = True
        self._signal()
        # Not under the lock: the thread that the signal interrupted may hold it.
        for watched in list(self._watched.values()):
            for listener in list(watched.listeners):
                _end(listener)

    def _signal(self) -> None:
        try:
            os.write(self._signal_in, b"w")
        except OSError:
            pass  # it is full, or the process ends: it will be read anyhow

    def _run(self) -> None:
        socket = self._wake_socket()
        waits = select.poll()  # select() takes no descriptor above 1,023, and each listener has one
        for descriptor in (self._signal_out, *([socket.fileno()] if socket else [])):
            waits.register(descriptor, select.POLLIN)
        unavailable = False
        try:
            while not self._closing:
                began = time.monotonic()
                topics = self._topics(began)
                if topics is None:
                    return
                if topics:
                    try:
                        self._take(topics)
                        unavailable = False
                    except MetastoreUnavailable as error:
                        if not unavailable:
                            log.warning("live pages wait: %s", error.message)
                        unavailable = True
                    except Exception:
                        # Whatever it is, those who listen are not to wait for a thread that is gone.
                        log.exception("live pages could not be looked after")
                if waits.poll(EVERY_SECONDS * 1000):
                    self._drain(socket)
                    # What woke it may be one of many: they are seen together.
                    time.sleep(max(0.0, SHORTEST_SECONDS - (time.monotonic() - began)))
        finally:
            if socket:
                socket.close()
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _wake_socket(self) -> WakeSocket | None:
        try:
            return WakeSocket(self._store.config.run_folder, f"live-{uuid.uuid4()}")
        except OSError as error:
            log.warning("live pages are not woken by changes, they look once a second: %s", error)
            return None

    def _drain(self, socket: WakeSocket | None) -> None:
        try:
            os.read(self._signal_out, 4096)
        except BlockingIOError:
            pass
        if socket:
            socket.drain()

    def _topics(self, now: float) -> list[Topic] | None:
        """What is to be looked at; None: nobody listens any more, and this thread is not the watcher any longer."""
        with self._lock:
            for topic, watched in list(self._watched.items()):
                if not watched.listeners and now - watched.left_at > LINGER_SECONDS:
                    del self._watched[topic]
            if not self._watched:
                self._thread = None
                return None
            # Of what nobody listens to just now, the last fingerprint is kept: that it changed is seen by comparing.
            return [topic for topic, watched in self._watched.items() if watched.listeners]

    def _take(self, topics: list[Topic]) -> None:
        began = time.time()
        found: dict[Topic, str] = {}
        ordered = sorted(topics, key=lambda topic: (topic.kind, topic.parts))
        with self._store.reading() as connection:
            for start in range(0, len(ordered), _TOPICS_AT_ONCE):
                found.update(self._look(connection, ordered[start : start + _TOPICS_AT_ONCE]))
        self.looks += 1
        with self._lock:
            for topic, fingerprint in found.items():
                watched = self._watched.get(topic)
                if watched is None:
                    continue
                if watched.fingerprint != fingerprint:
                    watched.since = time.time() if watched.fingerprint is not None else began
                    watched.fingerprint = fingerprint
                for listener in watched.listeners:
                    if listener.fingerprint != fingerprint or not listener.since:
                        _show(listener, fingerprint, watched.since)


def _show(listener: Listener, fingerprint: str, since: float) -> None:
    first = not listener.since
    listener.fingerprint, listener.since = fingerprint, since
    _call(listener, listener.seen.set if first else listener.changed.set)


def _end(listener: Listener) -> None:
    listener.over = True
    _call(listener, listener.seen.set)
    _call(listener, listener.changed.set)


def _call(listener: Listener, what: Callable[[], None]) -> None:
    try:
        listener.loop.call_soon_threadsafe(what)
    except RuntimeError:
        pass  # its event loop is closed: nobody reads any more
