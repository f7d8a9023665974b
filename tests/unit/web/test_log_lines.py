"""Logs as HTML: levels, colours of terminals, and nothing that a browser or a reader could be deceived by."""

from __future__ import annotations

from pathlib import Path

import pytest

from opskit.errors import NotFound
from opskit.telemetry import task_logs
from opskit.web.pages.log_lines import LONGEST, as_html, plain


def _line(level: str, text: str) -> str:
    return task_logs.format_line(text, level, "x.py:1", 0.0)


def test_markup_in_a_log_is_text() -> None:
    html, _ = as_html(_line("INFO", '<script>alert(1)</script> & "quoted"'))
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;quoted&#34;" in html


def test_a_traceback_has_the_level_of_the_line_above_it() -> None:
    html, level = as_html(_line("ERROR", "it failed") + "Traceback:\n  File x\n" + _line("INFO", "on"))
    assert html.count('<span class="line is-error">') == 3
    assert html.count("<span class=line>") == 1
    assert level == ""
    # … also where the piece ends between the two.
    _, level = as_html(_line("ERROR", "it failed"))
    assert '<span class="line is-error">Traceback' in as_html("Traceback:\n", level)[0]


def test_colours_of_a_terminal_become_classes_and_other_sequences_go() -> None:
    html, _ = as_html("\x1b[1;31mred\x1b[0m plain \x1b[38;5;200mpalette\x1b[2K\x1b]0;title\x07 end\n")
    assert '<span class="ansi-1 ansi-31">red</span> plain palette end' in html
    assert "\x1b" not in html and "title" not in html
    assert plain("\x1b[31mred\x1b[0m") == "red"


def test_control_characters_and_marks_of_direction_are_made_visible() -> None:
    html, _ = as_html("a\x00b\x07c\x85d‮e\n")
    assert "a␀b␇c�d�e" in html


def test_of_a_progress_bar_the_last_state_is_shown() -> None:
    assert ">99 %\n<" in as_html("1 %\r50 %\r99 %\r\n")[0]


def test_a_very_long_line_is_cut() -> None:
    html, _ = as_html("x" * 1_000_000 + "\n")
    assert len(html) < LONGEST + 200
    assert f"{1_000_000 - LONGEST:,} more characters" in html


@pytest.mark.parametrize("grows", [True, False])
def test_a_piece_ends_with_a_whole_line(tmp_path: Path, grows: bool) -> None:
    (tmp_path / "a.log").write_text("eins\nzwei ä\ndrei")
    piece = task_logs.read_piece(tmp_path, "a.log", start=0, limit=11, grows=grows)
    assert (piece.text, piece.start, piece.end, piece.size) == ("eins\n", 0, 5, 17)
    rest = task_logs.read_piece(tmp_path, "a.log", start=5, limit=100, grows=grows)
    assert rest.text == ("zwei ä\n" if grows else "zwei ä\ndrei")


def test_the_end_of_a_log_begins_with_a_whole_line(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("eins\nzwei\ndrei\n")
    piece = task_logs.read_piece(tmp_path, "a.log", start=-8, limit=8)
    assert (piece.text, piece.start, piece.end) == ("drei\n", 10, 15)
    assert task_logs.read_piece(tmp_path, "a.log", start=-1000, limit=1000).text == "eins\nzwei\ndrei\n"


def test_a_line_longer_than_the_limit_does_not_stop_a_reader(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("x" * 50)
    read, offset = "", 0
    while offset < 50:
        piece = task_logs.read_piece(tmp_path, "a.log", start=offset, limit=16, grows=offset < 48)
        assert piece.end > offset
        read, offset = read + piece.text, piece.end
    assert read == "x" * 50


def test_a_log_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "a.log").symlink_to(tmp_path / "secret")
    with pytest.raises((NotFound, OSError)):
        task_logs.read_piece(tmp_path, "a.log", start=0, limit=10)
