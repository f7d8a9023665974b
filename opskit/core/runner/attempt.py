"""One attempt, inside its process: own session, own log, own limits; runs the task and reports one result.

`main` is the life of a process that runs one attempt, `main_spare` that of one which waits for it, `main_warm` that of
one which runs several, one after the other.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from datetime import UTC, datetime
from functools import partial
from typing import Any

from opskit.core.dag import execution, plugins, runtime
from opskit.core.dag.secret_names import SENSITIVE_NAMES
from opskit.core.runner import packets, processes
from opskit.core.runner.brood import ATTEMPT_VARIABLE
from opskit.core.runner.gateway_store import GatewayStore
from opskit.core.runner.zygote_spec import Spec
from opskit.telemetry import rendered_fields, task_logs
from opskit.telemetry.masking import MaskedStream, MaskingFilter, masker

LARGEST_RESULT = 48 * 1024 * 1024
_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_loads = json.JSONDecoder().decode
_rehearsal: tuple[Spec, list[Any], bytes] | None = None
"""An attempt that does nothing: what `perform` is to be given."""


def prepare_streams() -> None:
    """Let print and logging write to the descriptors 1 and 2, whatever file these are at the time."""
    sys.stdout = MaskedStream(1)
    sys.stderr = MaskedStream(2)
    # Some libraries write to the originals on purpose.
    vars(sys).update(__stdout__=sys.stdout, __stderr__=sys.stderr)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(task_logs.TaskLogFormatter())
    handler.addFilter(MaskingFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


def prepare(spec: Spec) -> None:
    """What all attempts of a zygote share."""
    masker.set_names(SENSITIVE_NAMES if spec.mask_secrets else ())
    logging.getLogger().setLevel(spec.log_level)
    runtime.set_store(GatewayStore(spec.gateway_socket, masker.add if spec.mask_secrets else None))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A crash leaves its stack in the log of the attempt.
    faulthandler.enable(file=2, all_threads=False)


def main(spec: Spec, number: int, data: bytes, dags: list[Any], channel: socket.socket, zygote: int) -> None:
    """Run one attempt and report it as packet `D number {result}`. Does not return."""
    _begin(spec, zygote)
    _run_last(spec, number, data, dags, channel)


def main_spare(spec: Spec, dags: list[Any], own: socket.socket, channel: socket.socket, zygote: int) -> None:
    """Make everything ready, wait for a packet `R number {attempt}` on `own`, and go on as `main`. Ends when the zygote
    lets go. Does not return."""
    _begin(spec, zygote)
    processes.set_name("opskit-spare")
    packet: packets.Packet | None
    try:
        packet = packets.receive(own, socket.MSG_DONTWAIT)
    except BlockingIOError:
        if _rehearsal is not None:
            listeners = plugins.listener_manager()
            listeners.muted = True
            perform(*_rehearsal, last=True)
            listeners.muted = False
            execution.set_handler(signal.SIGTERM, execution.DEFAULT)
        packet = packets.receive(own)
    if packet is None:
        os._exit(0)
    own.close()
    processes.set_name("opskit-attempt")
    _run_last(spec, packet.number, packet.data, dags, channel)


def _run_last(spec: Spec, number: int, data: bytes, dags: list[Any], channel: socket.socket) -> None:
    result, _ = perform(spec, dags, data, last=True)
    try:
        packets.send(channel, b"D", number, result)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the worker is gone; the zygote ends us
    os._exit(0)


def main_warm(spec: Spec, dags: list[Any], descriptor: int, zygote_channel: socket.socket, zygote: int) -> None:
    """Run attempts that come as packets `R number {attempt}`, until the worker lets go. Does not return.

    Each is answered with `D`; with `d` when this process is not fit for another one, and ends."""
    zygote_channel.close()
    _begin(spec, zygote)
    processes.set_name("opskit-warm")
    channel = socket.socket(fileno=descriptor)
    environment = dict(os.environ)
    folder = os.getcwd()
    try:
        while (packet := packets.receive(channel)) is not None:
            result, reusable = perform(spec, dags, packet.data)
            reusable = reusable and _is_clean()
            packets.send(channel, b"D" if reusable else b"d", packet.number, result)
            if not reusable:
                break
            execution.set_handler(signal.SIGTERM, execution.DEFAULT)
            if os.environ != environment:
                os.environ.clear()
                os.environ.update(environment)
            os.chdir(folder)
            masker.clear()
    except (BrokenPipeError, ConnectionResetError):
        pass
    os._exit(0)


def rehearse(times: int = 20) -> None:
    """Run an attempt that does nothing, in the template: what it makes ready (caches, specialized bytecode) is shared
    by all forks, and is memory that they need not write to themselves."""
    from opskit.core.dag.model import DAG
    from opskit.operators import PythonOperator

    with DAG("rehearsal") as dag:
        PythonOperator(task_id="nothing", python_callable=lambda: None)
    before, descriptors = dict(os.environ), (os.dup(1), os.dup(2))
    moment = "2026-01-01T00:00:00+00:00"
    attempt = {
        "key": [0, "nothing", -1, 1],
        "dag_id": "rehearsal",
        "run_id": "rehearsal",
        "task_id": "nothing",
        "try_number": 1,
        "log_path": "null",
        "run": {"run_type": "manual", "logical_date": moment, "conf": {}},
    }
    data = _dumps(attempt).encode()
    global _rehearsal
    _rehearsal = (Spec("", "", logs_folder="/dev"), [dag], data)
    for _ in range(times):
        perform(*_rehearsal)
    for number, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(before)
    execution.set_handler(signal.SIGTERM, execution.DEFAULT)


def _is_clean() -> bool:
    """Whether an attempt left neither child processes nor threads."""
    if threading.active_count() > 1:
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _begin(spec: Spec, zygote: int) -> None:
    os.setsid()
    processes.set_name("opskit-attempt")
    try:
        processes.die_with_parent(zygote)
    except processes.ParentGone:
        os._exit(0)
    if spec.task_memory_limit:
        processes.limit_memory(spec.task_memory_limit)
    os.environ[ATTEMPT_VARIABLE] = str(os.getpid())


def perform(spec: Spec, dags: list[Any], data: bytes, last: bool = False) -> tuple[bytes, bool]:
    """Run the attempt of this JSON; the JSON of its result, and whether this process may run another one. `last`: it
    will not."""
    attempt = _loads(data.decode("utf-8", "surrogatepass"))
    me = os.getpid()
    started_at = datetime.now(UTC).isoformat()
    reusable = True
    fields: dict[str, Any]
    try:
        log = task_logs.open_log(spec.logs_folder, attempt["log_path"])
    except OSError as error:
        fields = _failed(f"the log {attempt['log_path']} can't be opened: {error.strerror}")
    else:
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        try:
            fields, reusable = _run(spec, dags, attempt, last)
        except BaseException as error:  # noqa: BLE001 -- `execute` lets nothing of the task out: a bug of ours
            traceback.print_exc()
            fields, reusable = _failed(f"{type(error).__name__}: {error}"), isinstance(error, Exception)
        if os.getpid() != me:
            os._exit(0)  # a process that the task forked came back through our code: it is not the attempt
        if spec.task_memory_limit and "MemoryError" in (fields["reason"] or ""):
            fields["reason"] += f" (core.task_memory_limit is {spec.task_memory_limit} MiB)"
            _log_line(fields["reason"])
        _flush()
    frame = {
        "t": "result",
        "key": attempt["key"],
        "dag_id": attempt["dag_id"],
        "started_at": started_at,
        "ended_at": datetime.now(UTC).isoformat(),
        "pid": me,
        "exit_code": None,
        "signal": None,
        **fields,
    }
    return _encode(frame), reusable


def _run(spec: Spec, dags: list[Any], attempt: dict[str, Any], last: bool) -> tuple[dict[str, Any], bool]:
    dag_id = attempt["dag_id"]
    for dag in dags:
        if dag.dag_id == dag_id:
            break
    else:
        reason = f"the DAG file {spec.fileloc} does not define {dag_id} any more"
        _log_line(reason)
        return _failed(reason), True
    outcome = execution.execute(dag, attempt, last=last, keep_rendered=partial(_keep_rendered, spec, attempt))
    # What comes now is a matter of milliseconds, and the outcome is known: a SIGTERM must not lose it.
    execution.set_handler(signal.SIGTERM, execution.IGNORE)
    return outcome.fields(), outcome.reusable


def _keep_rendered(spec: Spec, attempt: dict[str, Any], fields: dict[str, Any]) -> None:
    """Leave the rendered fields beside the log. The task runs whether that succeeds or not."""
    try:
        rendered_fields.write(spec.logs_folder, attempt["log_path"], fields)
    except OSError as error:
        _log_line(f"the rendered fields can't be kept: {error.strerror}", "WARNING")


def _encode(frame: dict[str, Any]) -> bytes:
    try:
        result = _dumps(frame).encode("utf-8", "backslashreplace")
    except (TypeError, ValueError, RecursionError) as error:
        why = f"what the task returned or pushed can't be written as JSON: {error}"
    else:
        if len(result) <= LARGEST_RESULT:
            return result
        why = f"the XComs of the task are {len(result)} bytes of JSON, at most {LARGEST_RESULT} can be kept"
    _log_line(why)
    frame.update(_failed(why))
    return _dumps(frame).encode("utf-8", "backslashreplace")


def _failed(reason: str) -> dict[str, Any]:
    return {"state": "failed", "reason": reason, "retry": True, "reschedule_at": None, "xcoms": [], "skip": []}


def _log_line(text: str, level: str = "ERROR") -> None:
    try:
        os.write(1, task_logs.format_line(masker.text(text), level, "attempt").encode(errors="backslashreplace"))
    except OSError:
        pass  # the disk is full: the result says it too


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if type(stream) is MaskedStream:
            continue  # it holds nothing back
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # closed by the task, or the disk is full
