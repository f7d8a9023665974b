"""The numbers that verbs leave behind: their text form, and what a second run does to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from opskit.cli import cli
from opskit.cli.recording import VERBS
from opskit.telemetry import metrics


@pytest.fixture(autouse=True)
def nothing_gathered() -> Iterator[None]:
    metrics.take()
    yield
    metrics.take()


def test_samples_are_written_with_sorted_and_escaped_labels(tmp_path: Path) -> None:
    metrics.gauge("opskit_x_bytes", 12, state="ok", dag='a"b\\c\nd')
    metrics.gauge("opskit_x_bytes", 2.5)
    metrics.gauge("opskit_a_seconds", math.inf)
    path = tmp_path / "new" / "x.prom"
    metrics.write(path, metrics.take())
    assert path.read_text() == (
        "# TYPE opskit_a_seconds gauge\n"
        "opskit_a_seconds +Inf\n"
        "# TYPE opskit_x_bytes gauge\n"
        "opskit_x_bytes 2.5\n"
        'opskit_x_bytes{dag="a\\"b\\\\c\\nd",state="ok"} 12\n'
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["x.prom"]


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    metrics.gauge("opskit_x", 1, host="w 1")
    metrics.gauge("opskit_y", -0.25)
    families = metrics.take()
    metrics.write(tmp_path / "x.prom", families)
    assert metrics.read(tmp_path / "x.prom") == families
    assert metrics.read(tmp_path / "absent.prom") == {}


def test_a_file_with_something_else_in_it_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "x.prom").write_bytes(b"\xff\xfe\x00 what\n")
    assert metrics.read(tmp_path / "x.prom") == {}
    (tmp_path / "y.prom").write_text("opskit_x not-a-number\n\nopskit_y 3\n")
    assert metrics.read(tmp_path / "y.prom") == {"opskit_y": {"opskit_y": 3.0}}


def test_a_name_that_prometheus_refuses_is_a_bug() -> None:
    with pytest.raises(ValueError, match="logs-clean"):
        metrics.gauge("opskit_logs-clean", 1)


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_that_is_recorded_is_a_command(path: tuple[str, ...]) -> None:
    command: click.Command | None = cli
    for word in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), word)
    assert command is not None
    assert hasattr(command.callback, "records")
