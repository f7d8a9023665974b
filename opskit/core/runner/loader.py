"""Loads DAG files for the DAG processor, each in a process of its own, so that none can harm another or its caller."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import select
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from opskit.config import Config
from opskit.core.runner import packets
from opskit.core.runner.gateway_owner import GatewayOwner
from opskit.core.runner.load_store import Question
from opskit.core.runner.template_process import (
    TemplateProcess,
    new_output,
    read_output,
    spec_for,
    why_not_loaded,
    with_output,
)
from opskit.core.runner.zygote_spec import Spec
from opskit.system import dag_releases

_START_SECONDS = 30.0
_ABORT_SECONDS = 1.0
_numbers = itertools.count(1)
_WARM = (
    "croniter",
    "hashlib",
    "traceback",
    "zoneinfo",
    "opskit.compat.import_hook",
    "opskit.core.dag.operators.bash",
    "opskit.core.dag.operators.branch",
    "opskit.core.dag.operators.empty",
    "opskit.core.dag.operators.python",
)
"""What most DAG files need, or the check of their schedules: imported once, not in each child."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One loaded file. `dags` holds the JSON form of `opskit.core.dag.serialization`; empty when there is an error."""

    path: str
    """Below the DAG folder, as it was asked for."""
    content_hash: str
    """SHA-256 of the file just before it was loaded; empty when it can't be read."""
    dags: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0
    asked: dict[Question, str | None] = field(default_factory=dict)
    """What the file asked the metastore, with the digest of the answer; None: it was not answered before the end."""
    release: str = ""
    """The release of the DAG folder that it was loaded from; empty: a plain folder."""
    answers: dict[str, Any] | None = None
    """What the schedules of its DAGs said, by dag_id, to the questions that it was loaded with; None: to none."""


@dataclass(slots=True)
class _Load:
    path: str
    release: str
    content_hash: str
    output: int
    began: float
    deadline: float
    timed_out: bool = False
    again: bool = False
    questions: bool = False
    answer: dict[str, Any] | None = None
    asked: dict[Question, str | None] = field(default_factory=dict)


class Loader:
    """Keeps a template process between calls. For one thread; `close` may be called from another."""

    def __init__(self, config: Config) -> None:
        self._gateway = _open_gateway(config)
        self._spec = replace(spec_for(config, ""), gateway_socket=str(self._gateway.path))
        self._template: TemplateProcess | None = None
        self._ours, self._theirs = packets.pair()
        self._ours.setblocking(False)
        self._closing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._number = 0
        self._questions: Mapping[str, Sequence[Mapping[str, Any]]] = {}
        self._active = False
        self._closed = False

    def load(
        self,
        paths: Iterable[str],
        timeout: float,
        memory_limit: int,
        parallel: int,
        questions: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> Iterator[LoadResult]:
        """Load these files (paths below the DAG folder), `parallel` at once; results come as they are ready.

        `timeout` in seconds and `memory_limit` in MiB hold for each file. Whatever a file does (raise, hang, exit,
        crash, eat memory) is its result's `error`. After `close` the iteration ends. `questions`, by path, are for the
        schedules of the file's DAGs (`opskit.core.dag.asked_timetable`).
        """
        waiting = deque(paths)
        suspects: deque[str] = deque()
        loading: dict[int, _Load] = {}
        spec = replace(self._spec, load_memory_limit=memory_limit)
        self._questions = questions or {}
        self._active = True
        try:
            while (waiting or loading or suspects) and not self._closed:
                if suspects and not waiting and not loading:
                    # One at a time: then the one that takes the template along is known.
                    path = suspects.popleft()
                    if self._begin(spec, path, timeout, loading):
                        loading[self._number].again = True
                    else:
                        yield LoadResult(path, "", error="the file can't be read")
                while waiting and len(loading) < parallel:
                    path = waiting.popleft()
                    if not self._begin(spec, path, timeout, loading):
                        yield LoadResult(path, "", error="the file can't be read")
                yield from self._finish(spec, timeout, loading, suspects)
        finally:
            for number, load in loading.items():
                os.close(load.output)
                if self._template is not None:
                    self._template.kill(number, signal.SIGKILL)
            self._active = False
            if self._closed:
                self._release()

    def _begin(self, spec: Spec, path: str, timeout: float, loading: dict[int, _Load]) -> bool:
        """Whether the file can be read, and so is loaded now."""
        # A load sees one release, whatever the link to it does meanwhile.
        release = dag_releases.release_of(spec.dags_folder)
        folder = dag_releases.folder_of(spec.dags_folder, release) or spec.dags_folder
        content_hash = _hash(f"{folder}/{path}")
        if content_hash is None:
            return False
        questions = self._questions.get(path)
        spec = replace(spec, fileloc=path, dags_folder=folder, questions=json.dumps(questions) if questions else "")
        self._number += 1
        now = time.monotonic()
        output = new_output()
        loading[self._number] = _Load(
            path, release, content_hash, output, now, now + timeout, questions=bool(questions)
        )
        for attempt in (1, 2):
            try:
                self._ready_template().fork(b"L", self._number, spec, self._theirs, output)
                break
            except (BrokenPipeError, ConnectionResetError):
                self._lose_template()
                if attempt == 2:
                    raise
        return True

    def _ready_template(self) -> TemplateProcess:
        """Its start is not counted as time of a file."""
        if self._template is None:
            self._template = TemplateProcess(_WARM)
            poll = select.poll()
            poll.register(self._template.fileno(), select.POLLIN)
            poll.register(self._closing, select.POLLIN)
            poll.poll(_START_SECONDS * 1000)
        return self._template

    def _lose_template(self) -> None:
        template, self._template = self._template, None
        if template is not None:
            template.close()
            template.wait(1.0)

    def _finish(
        self, spec: Spec, timeout: float, loading: dict[int, _Load], suspects: deque[str]
    ) -> Iterator[LoadResult]:
        """Wait for something to happen to the files under way, and give what is ready."""
        if not loading:
            return
        template = self._ready_template()
        poll = select.poll()
        for descriptor in (template.fileno(), self._ours.fileno(), self._closing):
            poll.register(descriptor, select.POLLIN)
        soonest = min(load.deadline for load in loading.values()) - time.monotonic()
        self._attend_gateway(poll, max(0.0, soonest))
        self._take_answers(loading)
        lost = False
        while True:
            try:
                packet = template.receive()
            except BlockingIOError:
                break
            if packet is None:
                self._lose_template()
                lost = True
                break
            if packet.kind == b"X" and packet.number in loading:
                self._take_answers(loading)
                yield self._result(loading.pop(packet.number), int(packet.data), spec, timeout)
        if lost:
            self._take_answers(loading)
            for load in loading.values():
                if load.answer is not None or load.again:
                    yield self._result(load, None, spec, timeout)
                else:
                    os.close(load.output)
                    suspects.append(load.path)
            loading.clear()
        now = time.monotonic()
        for number, load in loading.items():
            if now >= load.deadline:
                # SIGABRT lets faulthandler write where it hangs; some code survives it.
                gentle = load.answer is None and not load.timed_out
                template.kill(number, signal.SIGABRT if gentle else signal.SIGKILL)
                load.timed_out = load.answer is None
                load.deadline = now + _ABORT_SECONDS

    def _attend_gateway(self, poll: select.poll, seconds: float) -> None:
        """Wait for what `poll` has, and meanwhile start the gateway when a file connects to it."""
        gateway = self._gateway
        gateway.reap()
        if gateway.control is not None:
            poll.register(gateway.control, select.POLLIN)
        elif gateway.running or gateway.pause() > 0.0:
            seconds = min(seconds, gateway.pause() or 0.01)  # it is about to end, or to be tried again
        else:
            poll.register(gateway.fileno(), select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(seconds * 1000 + 1)]
        if gateway.fileno() in ready:
            gateway.start()
        elif gateway.control is not None and gateway.control.fileno() in ready:
            gateway.close_control()

    def _take_answers(self, loading: dict[int, _Load]) -> None:
        while True:
            try:
                packet = packets.receive(self._ours)
            except BlockingIOError:
                return
            if packet is None:
                return
            load = loading.get(packet.number)
            if load is not None and packet.kind == b"A":
                kind, key, digest = json.loads(packet.data)
                load.asked[kind, key] = digest
            elif load is not None:
                load.answer = json.loads(packet.data)
                load.deadline = time.monotonic() + _ABORT_SECONDS

    @staticmethod
    def _result(load: _Load, status: int | None, spec: Spec, timeout: float) -> LoadResult:
        printed = read_output(load.output)
        os.close(load.output)
        seconds = time.monotonic() - load.began
        if load.answer is None:
            error = why_not_loaded(status, printed, timeout if load.timed_out else None, spec)
        elif "error" in load.answer:
            error = with_output(load.answer["error"], printed)
        else:
            dags: list[dict[str, Any]] = load.answer["dags"]
            answers = load.answer["answers"] if load.questions else None
            return LoadResult(load.path, load.content_hash, dags, None, seconds, load.asked, load.release, answers)
        return LoadResult(load.path, load.content_hash, [], error, seconds, load.asked, load.release)

    def tidy(self) -> None:
        """Now and then, from any thread: no ended gateway stays a zombie."""
        process = self._gateway.process
        if process is not None:
            process.poll()

    def close(self) -> None:
        """End the processes. A `load` under way in another thread ends with what it has given."""
        self._closed = True
        if self._active:
            os.eventfd_write(self._closing, 1)
        else:
            self._release()

    def _release(self) -> None:
        if self._closing < 0:
            return
        if self._template is not None:
            self._template.close()
            self._template.wait(6.0)
            self._template = None
        self._gateway.close(patience=0.5)
        self._ours.close()
        self._theirs.close()
        os.close(self._closing)
        self._closing = -1


def _open_gateway(config: Config) -> GatewayOwner:
    """Files are loaded by processes with and without a worker beside them, and by several at once."""
    folder = config.run_folder
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("dag-gateway.*.sock"):
        pid = path.name.split(".")[1]
        if not os.path.exists(f"/proc/{pid}"):
            path.unlink(missing_ok=True)
    return GatewayOwner(config.home, folder / f"dag-gateway.{os.getpid()}.{next(_numbers)}.sock")


def _hash(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return None
