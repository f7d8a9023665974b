"""A zygote: a process that has loaded one version of one DAG file and forks an attempt of it when it is told to.

Packets from the worker:            Packets to the worker:
    R number {attempt}  run one, in a   L 0 {loaded or error}
                        spare or fork
    W number [channel]  fork a warm     S number pid at         has its process
                        process         E number error          could not be forked
    K number signal     signal it       X number status         ended
                                        x 0 numbers             ended with exit code 0, some time ago
                                        D number {result}       from the attempt itself

`check` is the other thing that a fork of the template can do: load a file, answer with its DAGs as JSON, end.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from opskit.core.runner import forking, packets, processes
from opskit.core.runner.brood import Brood
from opskit.core.runner.spares import Spares
from opskit.core.runner.zygote_spec import Spec

if TYPE_CHECKING:
    from opskit.core.runner.load_store import Question

_UNSAID_SECONDS = 0.02
"""Nearly always an attempt that ended with exit code 0 has reported its result: the worker is told late, and of many at
once."""
_HANDLED = (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


RUNTIME = (
    "opskit.core.dag.execution",
    "opskit.core.dag.loading",
    "opskit.core.dag.serialization",
    "opskit.core.dag.templates",
    "opskit.core.runner.load_store",
    "opskit.operators",
    "opskit.sensors",
)


def import_runtime(warm: Sequence[str] = ()) -> None:
    """Import what DAG files and attempts need, and `warm`, so that forks share it."""
    from importlib import import_module

    from opskit.core.runner import attempt

    for name in (*RUNTIME, *warm):
        import_module(name)
    attempt.rehearse()

    attempt.prepare_streams()


def run(spec: Spec, _: int, channel: socket.socket, output: int, parent: int) -> int:
    """Live as a zygote until the worker is gone or lets go of the channel."""
    processes.die_with_parent(parent)
    processes.adopt_orphans()
    processes.set_name("opskit-zygote")
    own_stderr = os.dup(2)
    began = time.time_ns()
    asked: set[Question] = set()
    dags, error = load(spec, output, lambda question, _: asked.add(question))
    if error is not None:
        packets.send(channel, b"L", 0, json.dumps({"error": error}).encode())
        return 0
    # From here on the zygote and its attempts outlive the template: only the worker's end ends them.
    processes.outlive_parent()
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(own_stderr, 1)
    os.dup2(own_stderr, 2)
    os.close(own_stderr)
    os.close(output)
    from opskit.core.runner import attempt

    attempt.prepare(spec)
    gc.collect()
    gc.freeze()
    loaded = {"pid": os.getpid(), "sources": _sources(spec, began), "asked": bool(asked)}
    packets.send(channel, b"L", 0, json.dumps(loaded).encode())
    _serve(spec, channel, dags)
    return 0


def check(spec: Spec, number: int, channel: socket.socket, output: int, parent: int) -> int:
    """Load a file, send `D number {"dags": […]}` or `{"error": text}`, and end. What it asks the metastore is told as
    `A number [kind, key, digest]`, with a digest of null before it is answered."""
    processes.die_with_parent(parent)
    os.setsid()

    def tell(question: Question, answer: str | None) -> None:
        packets.send(channel, b"A", number, json.dumps([*question, answer]).encode())

    answers: dict[str, Any] = {}
    dags, error = load(spec, output, tell, serialize=True, answers=answers)
    answer = {"error": error} if error is not None else {"dags": dags, "answers": answers}
    packets.send(channel, b"D", number, json.dumps(answer, separators=(",", ":")).encode())
    return 0


def load(
    spec: Spec,
    output: int,
    tell: Callable[[Question, str | None], None],
    serialize: bool = False,
    answers: dict[str, Any] | None = None,
) -> tuple[list[Any], str | None]:
    """The DAGs of the file (serialized when asked for), or why it can't be loaded. What it prints goes to `output`,
    what its schedules answer to the spec's questions into `answers`, by dag_id.
    Variables and connections come through the gateway at `spec.gateway_socket`; LoadStore says what is told of them."""
    from opskit.core.dag import runtime
    from opskit.core.dag.secret_names import SENSITIVE_NAMES
    from opskit.core.runner.load_store import LoadStore
    from opskit.telemetry.masking import masker

    masker.set_names(SENSITIVE_NAMES if spec.mask_secrets else ())
    store = LoadStore(spec.gateway_socket, masker.add if spec.mask_secrets else None, tell)
    runtime.set_store(store)
    dags, error = _load(spec, output, serialize, answers)
    store.close()
    masker.keep()
    return dags, None if error is None else masker.text(error)


def _load(spec: Spec, output: int, serialize: bool, answers: dict[str, Any] | None) -> tuple[list[Any], str | None]:
    import faulthandler

    from opskit.core.dag import loading
    from opskit.errors import DagInvalid

    os.dup2(output, 1)
    os.dup2(output, 2)
    faulthandler.enable(file=output, all_threads=False)
    before = processes.limits()
    processes.no_core_dumps()
    processes.limit_memory(spec.load_memory_limit)
    try:
        dags = loading.load_file(f"{spec.dags_folder}/{spec.fileloc}", spec.dags_folder, **spec.load_options())
        if serialize:
            from opskit.core.dag import serialization

            forms = [serialization.serialize(dag) for dag in dags]
            if spec.questions and answers is not None:
                answers.update(_answer(spec, dags))
            return forms, None
        for module in loading.needs_warmup(dags):
            __import__(module)
        return dags, None
    except MemoryError:
        return [], _memory_text(spec)
    except DagInvalid as error:
        text = error.message
        if "MemoryError" in text:
            text = f"{_memory_text(spec)}\n{text}"
        return [], text
    except SystemExit as error:
        return [], f"the file called sys.exit({error.code!r})"
    except BaseException as error:  # noqa: BLE001 -- whatever a DAG file does is its import error
        import traceback

        what = "".join(traceback.format_exception_only(error)).strip()
        return [], f"{what}\n{''.join(traceback.format_tb(error.__traceback__)).rstrip()}"
    finally:
        faulthandler.disable()
        processes.set_limits(before)
        # A DAG file may have set handlers and timers; here are the defaults again.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)


def _answer(spec: Spec, dags: list[Any]) -> dict[str, Any]:
    from opskit.core.dag import asked_timetable

    by_id = {dag.dag_id: dag for dag in dags}
    asked = [question for question in json.loads(spec.questions) if question["dag_id"] in by_id]
    return {question["dag_id"]: asked_timetable.answer(by_id[question["dag_id"]], question) for question in asked}


def _memory_text(spec: Spec) -> str:
    return f"the file needs more than {spec.load_memory_limit} MiB to load (core.dag_file_memory_limit)"


def _sources(spec: Spec, began: int) -> list[tuple[str, int, int, int]]:
    """(path, mtime_ns, size, inode) of the DAG file and of the modules below the DAG folder that it imported. One that
    changed while it was loaded gets an mtime of -1, which no file has."""
    from opskit.core.dag import plugins

    roots = {spec.dags_folder.rstrip("/") + "/", os.path.realpath(spec.dags_folder) + "/"}
    paths = {f"{spec.dags_folder}/{spec.fileloc}", *plugins.sources()}
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and path.startswith(tuple(roots)):
            paths.add(path.partition(".zip/")[0] + ".zip" if ".zip/" in path else path)
    found = []
    for path in sorted(paths):
        try:
            status = os.stat(path)
        except OSError:
            found.append((path, -1, 0, 0))
            continue
        changed = began <= status.st_mtime_ns <= time.time_ns()
        mtime = -1 if changed else status.st_mtime_ns
        found.append((path, mtime, status.st_size, status.st_ino))
    return found


def _serve(spec: Spec, channel: socket.socket, dags: list[Any]) -> None:
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    own = channel.fileno()
    brood = Brood(poll)
    brood.keep_present_children()
    spares = Spares(spec, dags, channel, brood)
    unsaid: list[int] = []
    say_at = 0.0
    try:
        while True:
            patience = spares.patience()
            if unsaid:
                left = max(0.0, say_at - time.monotonic()) * 1000
                patience = left if patience is None else min(patience, left)
            ready = [found for found, _ in poll.poll(patience)]
            for child, status in brood.reap([found for found in ready if found != own]):
                if child.number < 0:
                    spares.ended(child)
                elif status == 0:
                    if not unsaid:
                        say_at = time.monotonic() + _UNSAID_SECONDS
                    unsaid.append(child.number)
                else:
                    packets.send(channel, b"X", child.number, str(status).encode())
            if unsaid and time.monotonic() >= say_at:
                packets.send(channel, b"x", 0, " ".join(map(str, unsaid)).encode())
                unsaid.clear()
            if own in ready and not _take(spec, channel, dags, brood, spares):
                break
            if not ready:
                spares.tend()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the worker is gone
    brood.end_all(2.0)


def _take(spec: Spec, channel: socket.socket, dags: list[Any], brood: Brood, spares: Spares) -> bool:
    """Handle the packets that are there; False when the worker let go."""
    while True:
        try:
            packet = packets.receive(channel, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        if packet is None:
            return False
        if packet.kind == b"K":
            child = brood.get(packet.number)
            if child is not None:
                processes.kill_leader(child.pid, int(packet.data))
            continue
        if packet.kind == b"R":
            pid = spares.hand_over(packet.number, packet.data)
            if pid is not None:
                packets.send(channel, b"S", packet.number, b"%d %f" % (pid, time.time()))
                continue
        _fork(spec, channel, dags, packet, brood, spares)


def _fork(
    spec: Spec, channel: socket.socket, dags: list[Any], packet: packets.Packet, brood: Brood, spares: Spares
) -> None:
    from opskit.core.runner import attempt

    zygote = os.getpid()
    forked = time.time()
    try:
        pid = forking.fork()
    except OSError as error:
        packets.send(channel, b"E", packet.number, f"no process could be started: {error}".encode())
        return
    if pid == 0:
        try:
            spares.close()
            if packet.kind == b"R":
                attempt.main(spec, packet.number, packet.data, dags, channel, zygote)
            else:
                attempt.main_warm(spec, dags, packet.descriptors[0], channel, zygote)
        finally:
            os._exit(70)
    for descriptor in packet.descriptors:
        os.close(descriptor)
    brood.add(packet.number, pid, leads_group=True)
    packets.send(channel, b"S", packet.number, b"%d %f" % (pid, forked))
