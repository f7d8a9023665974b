"""Which ports a process listens on, and whether they are free after its end."""

from __future__ import annotations

import os
import socket

from opskit.system.processes import still_listening, tcp_sockets


def test_a_port_counts_as_taken_until_the_last_holder_of_its_socket_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = [one for one in tcp_sockets(os.getpid()) if one.port == port]
        assert [one.listens for one in found] == [True]
        inherited = os.dup(server.fileno())
    try:
        assert still_listening(found) == found
    finally:
        os.close(inherited)
    assert still_listening(found) == []


def test_a_process_that_is_gone_has_no_sockets() -> None:
    assert tcp_sockets(2**22 + 1) == []
