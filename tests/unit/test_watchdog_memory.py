"""What the watchdog remembers between its runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.ops import watchdog_memory
from opskit.ops.watchdog_memory import (
    Clocks,
    Memory,
    Restart,
    after_restart,
    noticed,
    read_memory,
    write_memory,
)
from opskit.platforms.watching import read_pause
from opskit.system.locks import boot_id

NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    memory = Memory(
        boot_id=boot_id(),
        progress={"a": (5, 10.5, 0.25)},
        restarts=(Restart(1.0, "scheduler", "killed"),),
        next_restart_at=7.0,
        upgrading_since=3.0,
        blind_at=4.0,
        reset_at=5.0,
        asleep=6.0,
        clock_offset=8.0,
        disturbed_at=9.0,
        disturbance="the machine slept for 5 s",
        verdict="dead",
        verdict_at=10.0,
        alerted="dead: killed: tried",
    )
    write_memory(tmp_path, memory)
    assert read_memory(tmp_path) == memory


def test_a_reboot_forgets_all_but_what_was_told(tmp_path: Path) -> None:
    write_memory(tmp_path, Memory("another boot", {"a": (5, 1.0, 0.5)}, (Restart(1, "s", "c"),), 9e9, alerted="blind"))
    memory = read_memory(tmp_path)
    assert memory == Memory(boot_id(), alerted="blind")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"boot_id": 1}', '{"boot_id": "x", "progress": {"a": 1}}'])
def test_a_damaged_file_is_said_and_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "watchdog.json").write_text(content)
    memory = read_memory(tmp_path)
    assert "could not be read" in memory.trouble
    write_memory(tmp_path, replace(memory, trouble=""))
    assert not read_memory(tmp_path).trouble


def test_a_write_that_is_cut_short_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_memory(tmp_path, Memory(boot_id(), alerted="first"))

    def broken(self: Path, target: Path) -> None:
        raise OSError("killed here")

    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(OSError, match="killed here"):
        write_memory(tmp_path, Memory(boot_id(), alerted="second"))
    assert read_memory(tmp_path).alerted == "first"


def test_the_back_off_doubles_up_to_a_quarter_of_an_hour() -> None:
    memory, pauses = Memory(), []
    for number in range(6):
        now = 100.0 * number
        memory = after_restart(memory, "scheduler", "killed", now, backoff=60.0, jitter=0.5)
        pauses.append(round(memory.next_restart_at - now))
    assert pauses == [60, 120, 240, 480, 900, 900]


def test_jitter_moves_the_back_off_by_a_fifth() -> None:
    least = after_restart(Memory(), "s", "c", 0.0, backoff=100.0, jitter=0.0).next_restart_at
    most = after_restart(Memory(), "s", "c", 0.0, backoff=100.0, jitter=1.0).next_restart_at
    assert (least, most) == (pytest.approx(80), pytest.approx(120))


def test_restarts_of_an_hour_ago_are_forgotten() -> None:
    memory = Memory(restarts=(Restart(0.0, "s", "c"), Restart(3000.0, "s", "c")))
    assert len(after_restart(memory, "s", "c", 4000.0, 60.0, 0.5).restarts) == 2


def test_a_pause_is_written_read_and_ended(tmp_path: Path) -> None:
    assert read_pause(tmp_path) is None
    watchdog_memory.pause(tmp_path, NOW, 600, "upgrade")
    found = read_pause(tmp_path)
    assert found is not None
    assert found.active(NOW + timedelta(minutes=9)) and not found.active(NOW + timedelta(minutes=11))
    assert "upgrade" in str(found)
    assert watchdog_memory.resume(tmp_path)
    assert not watchdog_memory.resume(tmp_path)
    assert read_pause(tmp_path) is None


@pytest.mark.parametrize("content", ["", "touch", '{"by": "ann"}', '{"by":"a","since":"x","until":null,"reason":""}'])
def test_a_marker_that_someone_made_by_hand_is_a_pause(tmp_path: Path, content: str) -> None:
    (tmp_path / "paused").write_text(content)
    found = read_pause(tmp_path)
    assert found is not None and found.active(NOW)


def test_a_sleep_of_the_machine_and_a_jump_of_its_clock_are_noticed() -> None:
    before = noticed(Memory(), Clocks(boot=100.0, asleep=5.0, offset=1000.0))
    assert before.disturbed_at is None, "the first look has nothing to compare with"
    assert noticed(before, Clocks(160.0, 5.0, 1000.5)).disturbed_at is None, "clocks are corrected all the time"
    slept = noticed(before, Clocks(3760.0, 3605.0, 1000.0))
    assert (slept.disturbed_at, slept.disturbance) == (3760.0, "the machine slept for 3600 s")
    assert noticed(before, Clocks(160.0, 5.0, 4600.0)).disturbance == "the clock was set forward by 3600 s"
    assert noticed(before, Clocks(160.0, 5.0, 900.0)).disturbance == "the clock was set back by 100 s"
    assert noticed(slept, Clocks(3800.0, 3605.0, 1000.0)).disturbed_at == 3760.0, "once each"
