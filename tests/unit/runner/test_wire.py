"""Frames, packets, and the worker's bookkeeping, as plain values."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.core.dag.connection import Connection
from opskit.core.dag.runtime import RunInfo
from opskit.core.runner import packets, wire
from opskit.core.runner.gateway_store import decode, encode
from opskit.core.runner.ledger import Ledger

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(frames=st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=4), cut=st.integers(1, 7))
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(frames: list[dict[str, Any]], cut: int) -> None:
    stream = b"".join(map(wire.encode, frames))
    reader = wire.FrameReader()
    read = [frame for at in range(0, len(stream), cut) for frame in reader.feed(stream[at : at + cut])]
    assert read == frames


@pytest.mark.parametrize("stream", [b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\2{]"])
def test_what_is_no_frame_is_a_protocol_error(stream: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        list(wire.FrameReader().feed(stream))


def test_a_writer_sends_the_rest_when_the_reader_has_room_again() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender, receiver = wire.FrameConnection(ours), wire.FrameConnection(theirs)
        sent = [{"n": number, "text": "x" * 100_000} for number in range(20)]
        for frame in sent:
            sender.put(frame)
        assert not sender.flush() and sender.wants_write
        received: list[wire.Frame] = []
        while len(received) < len(sent):
            received += receiver.receive()
            sender.flush()
        assert received == sent
        ours.close()
        with pytest.raises(wire.ConnectionClosed):
            receiver.receive()


@pytest.mark.parametrize("size", [0, 10, packets.INLINE, packets.INLINE + 1, 5_000_000])
def test_packets_of_any_size_arrive_whole_and_leave_no_descriptor(size: int) -> None:
    ours, theirs = packets.pair()
    data = os.urandom(size)
    with ours, theirs:
        before = len(os.listdir("/proc/self/fd"))
        packets.send(ours, b"D", 7, data)
        packet = packets.receive(theirs)
        assert packet is not None
        assert (packet.kind, packet.number, packet.data, packet.descriptors) == (b"D", 7, data, [])
        assert len(os.listdir("/proc/self/fd")) == before
        with pytest.raises(BlockingIOError):
            packets.receive(theirs, socket.MSG_DONTWAIT)
        ours.close()
        assert packets.receive(theirs) is None


def message(number: int = 1, dag_id: str = "d", epoch: int = 1, priority: int = 1) -> dict[str, Any]:
    return {
        "key": [number, "t", -1, 1],
        "dag_id": dag_id,
        "epoch": epoch,
        "fileloc": "d.py",
        "log_path": "l",
        "priority": priority,
    }


def test_a_known_key_and_an_older_epoch_are_refused() -> None:
    ledger = Ledger()
    assert ledger.fence("d", 3, 1) == (3, [])
    assert ledger.admit(message(epoch=2), 1)[2] == "fenced"
    assert ledger.admit(message(epoch=3), 1)[2] == ""
    assert ledger.admit(message(epoch=3), 1)[2] == "known"
    assert ledger.admit(message(2, epoch=4), 2)[2] == ""
    assert ledger.owner("d") == 2
    assert ledger.admit(message(3, epoch=3), 1)[2] == "fenced"


def test_the_next_owner_is_shown_every_attempt_of_the_dag() -> None:
    ledger = Ledger()
    first, _, _ = ledger.admit(message(1), 1)
    second, _, _ = ledger.admit(message(2), 1)
    ledger.admit(message(3, dag_id="other"), 1)
    assert first is not None and second is not None
    ledger.end(first, b"{}", 0.0)
    ledger.disconnected(1)
    assert ledger.owner("d") is None
    assert ledger.fence("d", 2, 5)[0] == 2
    assert set(ledger.fence("d", 2, 5)[1]) == {first, second}
    ledger.acknowledge([[1, "t", -1, 1], [2, "t", -1, 1]])
    assert ledger.fence("d", 2, 5)[1] == [second], "a running attempt can't be acknowledged"


def test_the_queue_goes_by_priority_then_by_age_and_skips_what_has_ended() -> None:
    ledger = Ledger()
    for number, priority in ((1, 1), (2, 5), (3, 5), (4, 9)):
        admitted, _, _ = ledger.admit(message(number, priority=priority), 1)
        assert admitted is not None
        ledger.enqueue(admitted)
        if number == 4:
            ledger.end(admitted, b"{}", 0.0)
    order = []
    while (attempt := ledger.next_waiting()) is not None:
        order.append(attempt.key[0])
    assert order == [2, 3, 1]


@pytest.mark.parametrize(
    "broken", [{}, {"key": 1}, {"key": [1, 2]}, {**message(), "fileloc": None, "log_path": None} | {"key": None}]
)
def test_a_malformed_attempt_is_a_protocol_error(broken: dict[str, Any]) -> None:
    with pytest.raises(wire.ProtocolError):
        Ledger().admit(broken, 1)


NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [("a", -1, {"x": [1, None]})],
        {("t", 1): "success", ("u", -1): None},
        {"$time": "a user's own dict"},
        {"$pairs": 1, "b": {"$run": {}}},
        RunInfo("d", "r", "manual", "running", NOW, NOW, NOW, {"a": 1}, NOW, None),
        Connection("c", "postgres", host="h", password="p%/", port=5, extra='{"token": "t"}'),
        [NOW, True, 1.5, "text"],
    ],
)
def test_what_the_gateway_answers_travels_as_json(value: Any) -> None:
    assert decode(json.loads(json.dumps(encode(value)))) == value
