"""What the watchdog leaves for those who look."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opskit.platforms import watching
from opskit.platforms.watching import VerdictChange

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def change(number: int, evidence: str = "it hangs") -> VerdictChange:
    return VerdictChange(NOW + timedelta(minutes=number), "node1", "stuck", True, (evidence,), ("restart it: done",))


def test_changes_are_read_newest_first_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    for number in range(3):
        watching.append_change(tmp_path, change(number))
    with (tmp_path / "watchdog-history.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    assert watching.read_changes(tmp_path, 2) == [change(2), change(1)]
    assert watching.read_changes(tmp_path / "elsewhere", 2) == []


def test_the_history_stays_small(tmp_path: Path) -> None:
    for number in range(60):
        watching.append_change(tmp_path, change(number, "x" * 20_000))
    assert (tmp_path / "watchdog-history.jsonl").stat().st_size < 600_000
    assert watching.read_changes(tmp_path, 1)[0].at == change(59).at


def test_the_last_look_is_known_by_its_memory(tmp_path: Path) -> None:
    assert watching.last_look(tmp_path) is None
    (tmp_path / "watchdog.json").write_text(json.dumps({"verdict": "slow"}))
    found = watching.last_look(tmp_path)
    assert found is not None
    assert found.verdict == "slow"
    assert abs(datetime.now(UTC) - found.at) < timedelta(minutes=5)
