"""The template: a small process with the authoring runtime imported; zygotes and file checks are forks of it.

Its controller (the worker, or the loader of the DAG processor) speaks packets over one socket pair:

    Z number {spec} [channel, output]   fork a zygote                    → F number pid, later X number status
    L number {spec} [channel, output]   fork a process that loads a file, answers on `channel`, and ends; likewise
    K number signal                     signal that child's group

It says R (ready) once. When the controller is gone, it ends, and so do its children.
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
from collections.abc import Sequence

from opskit.core.runner import forking, packets, processes
from opskit.core.runner.brood import Brood
from opskit.core.runner.zygote_spec import Spec


def main(descriptor: int, warm: Sequence[str] = ()) -> int:
    """Serve requests on this descriptor until its other end is closed. `warm`: more modules that forks are to share."""
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    processes.set_name("opskit-template")
    processes.adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from opskit.core.runner import zygote

    zygote.import_runtime(warm)
    gc.collect()
    gc.freeze()
    try:
        packets.send(control, b"R", 0)
        _serve(control)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the controller is gone
    return 0


def _serve(control: socket.socket) -> None:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    brood = Brood(poll)
    loaders: set[int] = set()
    while True:
        ready = [found for found, _ in poll.poll()]
        for child, status in brood.reap([found for found in ready if found != control.fileno()]):
            loaders.discard(child.number)
            packets.send(control, b"X", child.number, str(status).encode())
        if control.fileno() not in ready:
            continue
        packet = packets.receive(control)
        if packet is None:
            _wind_up(brood, loaders, poll)
            return
        if packet.kind == b"K":
            target = brood.get(packet.number)
            if target is not None:
                signal_child = processes.kill_leader if target.leads_group else processes.kill
                signal_child(target.pid, int(packet.data))
        elif packet.kind in (b"Z", b"L"):
            _fork(packet, control, brood, loaders)


def _fork(packet: packets.Packet, control: socket.socket, brood: Brood, loaders: set[int]) -> None:
    from opskit.core.runner import zygote

    template = os.getpid()
    pid = forking.fork()
    if pid == 0:
        code = 70
        try:
            control.close()
            spec = Spec(**json.loads(packet.data))
            channel = socket.socket(fileno=packet.descriptors[0])
            run = zygote.run if packet.kind == b"Z" else zygote.check
            code = run(spec, packet.number, channel, packet.descriptors[1], template)
        except processes.ParentGone:
            code = 0
        except BaseException:  # noqa: BLE001 -- the last frame of a process: say it and end
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    for descriptor in packet.descriptors:
        os.close(descriptor)
    brood.add(packet.number, pid, leads_group=packet.kind == b"L")
    if packet.kind == b"L":
        loaders.add(packet.number)
    packets.send(control, b"F", packet.number, str(pid).encode())


def _wind_up(brood: Brood, loaders: set[int], poll: select.poll) -> None:
    """Zygotes see by themselves that the worker is gone, and end their attempts with all that these started: give them
    the time."""
    for child in brood:
        if child.number in loaders:
            processes.kill_group(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + 3.0
    while len(brood) and (left := deadline - time.monotonic()) > 0:
        brood.reap([found for found, _ in poll.poll(left * 1000)])
    brood.end_all(1.0)
